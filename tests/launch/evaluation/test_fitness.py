"""What is said before an evaluation begins, and reports of identical images."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quell.configs.errors import DataError
from quell.configs.fields import Needs, Source
from quell.configs.schema import DataConfig
from quell.configs.support.json_files import number, strict_json
from quell.launch.evaluation import fitness, report
from quell.launch.evaluation.evaluator import ImageRow
from quell.launch.evaluation.measuring import metrics
from quell.pipelines.base import Output
from quell.shards.building.writer import write_split
from quell.shards.reading.shard_set import ShardSet

NEEDS = Needs({"noisy": Source(), "clean": Source(optional=True, evaluation=True)})
OUTPUTS = {"restored": Output("noisy", "clean")}
SMOOTH = np.kron(np.random.default_rng(0).random((6, 6)), np.ones((8, 8))).astype(np.float32)


def split(folder: Path, count: int = 3, **meta: Any) -> Any:
    """Writes a split of the same fields in every sample and opens it: `split(folder)(noisy=..., clean=...)`."""

    def write(**fields: np.ndarray) -> ShardSet:
        samples = [
            {"__key__": f"s{n}", **{f"{name}.npy": image for name, image in fields.items()}} for n in range(count)
        ]
        write_split(folder / "val", samples, name="v", meta={"data_range": 1.0, **meta})
        return ShardSet.open(folder / "val")

    return write


@pytest.mark.parametrize(("name", "least"), [("psnr", 1), ("ssim", 11), ("ms_ssim", 33), ("lpips", 32), ("uiqm", 10)])
def test_images_below_the_window_of_a_metric_are_refused_with_both_sizes(tmp_path: Path, name: str, least: int) -> None:
    chosen = metrics.find([name])
    assert chosen[name].smallest_px == least
    fits, too_small = (np.ones((side, 40), np.float32) for side in (least, max(least - 1, 1)))
    data = DataConfig(root=str(tmp_path))
    shards = split(tmp_path / "fits")(noisy=fits, clean=fits)
    fitness.refuse_small_images(OUTPUTS, chosen, NEEDS, data, shards)
    if least > 1:
        shards = split(tmp_path / "small")(noisy=too_small, clean=too_small)
        told = rf"field 'noisy' go down to {least - 1} x 40 px, but {name.upper()} needs at least {least} px a side"
        with pytest.raises(DataError, match=told):
            fitness.refuse_small_images(OUTPUTS, chosen, NEEDS, data, shards)


def test_without_a_reference_only_metrics_that_need_none_count(tmp_path: Path) -> None:
    shards = split(tmp_path)(noisy=np.ones((5, 5), np.float32))
    fitness.refuse_small_images(OUTPUTS, metrics.find(["ssim"]), NEEDS, DataConfig(root="x"), shards)
    with pytest.raises(DataError, match="UIQM needs at least 10"):
        fitness.refuse_small_images(OUTPUTS, metrics.find(["uiqm"]), NEEDS, DataConfig(root="x"), shards)


@pytest.mark.parametrize(
    ("noisy", "clean", "told"),
    [
        (SMOOTH, SMOOTH, []),
        (SMOOTH, (SMOOTH * 255).astype("u1"), []),
        (SMOOTH * 255, SMOOTH, ["'noisy' does not fit the data range 1", "on different scales"]),
        ((SMOOTH * 4095).astype("u2"), SMOOTH, ["stored values up to 4,0", "on different scales"]),
        (SMOOTH * 900, SMOOTH * 900, ["'clean' does not fit", "'noisy' does not fit"]),
    ],
)
def test_fields_that_do_not_fit_the_data_range_or_each_other_are_named(
    tmp_path: Path, noisy: np.ndarray, clean: np.ndarray, told: list[str]
) -> None:
    shards = split(tmp_path)(noisy=noisy, clean=clean)
    problems = fitness.range_problems(OUTPUTS, NEEDS, DataConfig(root="x"), shards, 1.0)
    assert len(problems) == len(told)
    assert all(part in problem for part, problem in zip(told, problems, strict=True)), problems


def test_a_window_of_hounsfield_units_may_be_left_dark(tmp_path: Path) -> None:
    shards = split(tmp_path, window_hu=[-1024, 3072])(noisy=SMOOTH / 20, clean=SMOOTH / 20)
    assert fitness.range_problems(OUTPUTS, NEEDS, DataConfig(root="x"), shards, 1.0) == []


def test_reports_of_identical_images_are_strict_json() -> None:
    values = {"psnr": math.inf, "low": -math.inf, "nan": math.nan, "list": [1.5, (math.inf, None, True, "x")]}

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads(strict_json(values), parse_constant=refuse)
    assert read == {"psnr": "inf", "low": "-inf", "nan": None, "list": [1.5, ["inf", None, True, "x"]]}
    assert [number(read[name]) for name in ("psnr", "low", "nan")] == [math.inf, -math.inf, None]
    assert number(3) == 3.0 and number("x") is None and number(True) is None
    rows = [ImageRow(n, f"s{n}", values={"restored/psnr": math.inf}) for n in range(3)]
    with np.errstate(all="raise"):
        line = report.summary_row(rows, "restored", ["psnr"], image="noisy", method="m")
    assert line["PSNR (dB)"] == "inf"
