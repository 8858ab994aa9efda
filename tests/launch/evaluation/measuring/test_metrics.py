"""Which metrics an evaluation computes, on which regions, and what the report notes about them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from quell.configs.errors import ConfigError, DataError
from quell.configs.support.json_files import Record
from quell.launch import evaluate, train
from quell.launch.evaluation import evaluator
from quell.launch.evaluation.measuring import metrics
from quell.losses.metrics.cnr import cnr
from quell.losses.metrics.common.rois import find_rois
from quell.losses.metrics.enl import enl
from quell.shards.building.writer import write_split

SIZE_PX = 64
REGIONS = {"background": [[4, 4, 20, 20]], "foreground": [[4, 40, 12, 12], [40, 40, 16, 16]]}


def scene(sigma: float, seed: int = 0) -> np.ndarray:
    """A dark left half and a bright right half with noise."""
    clean = np.where(np.arange(SIZE_PX) < SIZE_PX // 2, 0.2, 0.8) * np.ones((SIZE_PX, SIZE_PX))
    return clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape)


def regions(folder: Path) -> Path:
    """Write a file with regions, and return its path."""
    file = folder / "regions.json"
    file.write_text(json.dumps(REGIONS))
    return file


def test_without_a_clean_image_only_metrics_that_need_none_are_computed() -> None:
    noisy, restored = scene(0.2), scene(0.05)
    chosen = metrics.find(["psnr", "enl", "cnr"])
    values = {name: metric(restored, None, noisy=noisy, data_range=1) for name, metric in chosen.items()}
    assert values["psnr"] is None
    rois = find_rois(noisy)
    assert values["enl"] == enl(restored, data_range=1, rois=rois)
    assert values["cnr"] == cnr(restored, data_range=1, rois=rois)
    assert find_rois(restored) != rois, "regions found in the restored image would be in other places"


def test_given_regions_are_used(tmp_path: Path) -> None:
    restored = scene(0.05)
    chosen = metrics.find(["enl", "psnr"], regions(tmp_path))
    dark = restored[4:24, 4:24]
    for clean in (None, scene(0.01)):
        value = chosen["enl"](restored, clean, noisy=scene(0.2), data_range=1)
        assert value == pytest.approx(dark.mean() ** 2 / dark.var())


def test_unknown_metrics_and_unusable_regions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no metric 'psrn'; did you mean 'psnr'"):
        metrics.find(["psrn"])
    with pytest.raises(ConfigError, match="psnr, ssim use no regions: add --metrics cnr enl msr"):
        metrics.find(["psnr", "ssim"], regions(tmp_path))
    with pytest.raises(DataError, match="nowhere.json: expected"):
        metrics.find(["enl"], tmp_path / "nowhere.json")
    assert list(metrics.find(["gcmse", "psnr"])) == ["gcmse", "gcmse_per_pixel", "psnr"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network trained for one step, `run`, and with shards `with` and `without` clean images."""
    folder = tmp_path_factory.mktemp("measured")
    for name, fields in (("with", ("noisy", "clean")), ("without", ("noisy",))):
        for split in ("train", "val", "test"):
            images = {"noisy": scene(0.1, 1), "clean": scene(0.01, 2)}
            members = {f"{field}.npy": images[field].astype(np.float32) for field in fields}
            samples = [{"__key__": f"{split}{i}", **members} for i in range(2)]
            write_split(folder / name / split, samples, name="scene", meta={"data_range": 1.0})
    words = [
        "--config",
        "configs/r2r.yaml",
        f"data.root={folder}/with",
        "data.batch_size=2",
        "pipeline.passes=1",
        "pipeline.network={name: dncnn, depth: 3, width: 4}",
        "loop.max_steps=1",
        "loop.threads=1",
        "evaluation.every_epochs=null",
        "tracking.tensorboard=false",
        "--run-dir",
        str(folder / "run"),
    ]
    assert train.main(words) == 0
    return folder


def evaluate_run(run: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Record, str]:
    """Evaluate the run without pictures; return the report and the output."""
    capsys.readouterr()
    assert evaluate.main(["--run", str(run / "run"), "--pictures", "0", "--output", str(run / "r.json"), *words]) == 0
    return json.loads((run / "r.json").read_text()), capsys.readouterr().out


def test_data_without_clean_images_get_a_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, output = evaluate_run(
        run,
        capsys,
        "--data",
        str(run / "without"),
        "--metrics",
        "psnr",
        "enl",
        "--baseline",
        "noisy",
        "--rois",
        str(regions(run)),
    )
    dark = scene(0.1, 1).astype(np.float32)[4:24, 4:24].astype(np.float64)
    assert content["means"]["noisy/noisy/enl"] == pytest.approx(dark.mean() ** 2 / dark.var())
    assert {"restored/enl", "restored/noisy_enl"} <= content["means"].keys()
    assert not any("psnr" in name for name in content["means"])
    assert "No clean images: PSNR cannot be measured." in output and "(64x64 px)" in output


def test_the_report_notes_published_parameters_and_that_gcmse_grows_with_the_image(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--baseline", "nlm", "--baseline", "gaussian", "--metrics", "gcmse", "--limit", "1"]
    tuned, _ = evaluate_run(run, capsys, *words)
    published, output = evaluate_run(run, capsys, *words, "--preset", "published")
    assert published["baselines"] == {"nlm": {"preset": "published"}, "gaussian": {}}
    assert published["means"]["noisy/nlm/gcmse"] != tuned["means"]["noisy/nlm/gcmse"]
    assert published["means"]["noisy/gaussian/gcmse"] == tuned["means"]["noisy/gaussian/gcmse"]
    assert "nlm with the fixed parameters of the published scripts" in output
    assert published["means"]["restored/gcmse"] == pytest.approx(
        64 * 64 * published["means"]["restored/gcmse_per_pixel"]
    )
    assert "GCMSE grows with the area" in output and "(64x64 px)" in output
    renamed, _ = evaluate_run(run, capsys, *words, "--preset", "seed")
    assert {**renamed, "seconds": 0} == {**published, "seconds": 0}, "the former name of the preset still works"
    for preset in ("published", "seed"):
        assert evaluate.main(["--run", str(run / "run"), "--preset", preset, "--tune", "1"]) == 2
        assert "--preset published fixes what --tune would choose" in capsys.readouterr().err


def rows_of(*values: float) -> evaluator.Rows:
    """One row per PSNR."""
    return [evaluator.ImageRow(i, f"sample{i}", values={"psnr": value}) for i, value in enumerate(values)]


def test_means_do_not_depend_on_the_order_of_rows_and_accept_infinities_of_both_signs() -> None:
    rows = rows_of(1e16, 1.0, -1e16)
    assert evaluator.means(rows) == evaluator.means(rows[::-1]) == {"psnr": pytest.approx(1 / 3)}
    assert evaluator.means(rows_of(math.nan, 2.0)) == {"psnr": 2.0}
    assert math.isnan(evaluator.means(rows_of(math.inf, -math.inf))["psnr"])


def test_evaluation_warns_of_a_contradicted_range_and_refuses_images_below_a_window(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, output = evaluate_run(run, capsys, "--metrics", "psnr", "--limit", "1")
    assert content["warnings"] == [] and "Warning" not in output
    for name, image in (("bright", 4000 * scene(0.1, 1)), ("small", scene(0.1, 1)[:10])):
        pair = {"noisy.npy": image.astype(np.float32), "clean.npy": image.astype(np.float32)}
        write_split(run / name / "test", [{"__key__": "a", **pair}], name="v", meta={"data_range": 1.0})
    content, output = evaluate_run(run, capsys, "--data", str(run / "bright"), "--metrics", "psnr")
    assert len(content["warnings"]) == 2 and "'noisy' does not fit the data range 1 " in output
    words = ["--run", str(run / "run"), "--data", str(run / "small"), "--metrics", "ssim"]
    assert evaluate.main(words) == 4
    assert "go down to 10 x 64 px, but SSIM needs at least 11 px" in capsys.readouterr().err
