"""Checks without clean images see what a method was told wrong, on shards whose noise is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quell.configs.fields import FieldSpec, Needs, Source
from quell.configs.schema import DataConfig
from quell.launch.evaluation import blind_checks
from quell.launch.evaluation.blind_checks import BlindChecks
from quell.losses.noise.estimate import Estimate
from quell.losses.noise.model import FieldNoise, spectrum_of_kernel
from quell.pipelines.base import Output
from quell.shards.building.writer import write_split
from quell.shards.reading.shard_set import ShardSet

SIGMA, SIZE, IMAGES = 0.1, 128, 6
KERNEL = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])
NOISES = {"white": FieldNoise(SIGMA), "correlated": FieldNoise(SIGMA, spectrum_of_kernel(KERNEL))}


def clean() -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    image = 0.4 + 0.05 * np.sin(x / 40)
    image[(y - 60) ** 2 + (x - 70) ** 2 < 30**2] += 0.4
    return np.asarray(image)


def shards_of(root: Path, kind: str, *, second: bool = False) -> ShardSet:
    random = np.random.default_rng(1)
    samples = []
    for i in range(IMAGES):
        sample: dict[str, Any] = {"__key__": f"s{i}"}
        for name in ("noisy", "noisy_second")[: 1 + second]:
            sample[f"{name}.npy"] = (clean() + NOISES[kind].sample(random, (SIZE, SIZE))).astype(np.float32)
        samples.append(sample)
    write_split(root, samples, name="known", meta={"data_range": 1.0})
    return ShardSet.open(root)


def checks_of(shards: ShardSet) -> BlindChecks:
    class Restorer:
        outputs = {"restored": Output("noisy", "clean")}
        fields = {"noisy": FieldSpec(1)}

    needs = Needs({"noisy": Source(), "noisy_second": Source(scale_of="noisy", optional=True, evaluation=True)})
    return BlindChecks.of_split(Restorer(), shards, needs, DataConfig(normalise="none"))  # type: ignore[arg-type]


@pytest.mark.parametrize("second", [False, True], ids=["single images", "repeats"])
@pytest.mark.parametrize("kind", NOISES)
def test_noise_is_known_from_the_images_and_wrong_restorations_are_found(
    tmp_path: Path, kind: str, second: bool
) -> None:
    shards = shards_of(tmp_path / "s", kind, second=second)
    checks = checks_of(shards)
    assert checks.models()["noisy"].sigma == pytest.approx(SIGMA, rel=0.1)
    noisy = shards.read(0, "noisy")
    random = np.random.default_rng(9)
    results = {
        "truth": clean(),
        "nothing": noisy,
        "white noise removed": noisy - 0.92 * SIGMA * random.standard_normal(noisy.shape),
    }
    failed = {}
    for name, image in results.items():
        batch = {"noisy": torch.from_numpy(noisy)[None, None], "noisy_scale": torch.ones(1, 1, 1, 1)}
        restored = {"restored": torch.from_numpy(np.asarray(image, np.float32))[None, None]}
        values = {key.partition("/")[2]: float(value) for key, value in checks(batch, restored).items()}
        failed[name] = {finding.name for finding in blind_checks.findings(values) if not finding.ok}
    assert failed["truth"] == set()
    assert "residual_missing" in failed["nothing"]
    assert "residual_added" in failed["white noise removed"]
    if kind == "correlated":
        assert {"residual_missing", "residual_excess"} <= failed["white noise removed"]
    shards.files.close()


def test_images_too_small_to_estimate_noise_are_not_checked(tmp_path: Path) -> None:
    samples = [{"__key__": "s", "noisy.npy": np.ones((8, 8), np.float32)}]
    write_split(tmp_path / "s", samples, name="small", meta={"data_range": 1.0})
    checks = checks_of(ShardSet.open(tmp_path / "s"))
    batch = {"noisy": torch.ones(1, 1, 8, 8), "noisy_scale": torch.ones(1, 1, 1, 1)}
    assert checks.models() == {} and checks(batch, {"restored": torch.ones(1, 1, 8, 8)}) == {}


def test_clean_images_behind_magnitudes_pass_and_noisy_ones_do_not() -> None:
    """A magnitude exceeds its signal by 1.25 sigma where there is none: that is no pattern that was added."""
    random = np.random.default_rng(3)
    dark = np.where(clean() > 0.6, clean(), 0.03)
    noisy = np.hypot(*(part + NOISES["correlated"].sample(random, dark.shape) for part in (dark, 0 * dark)))
    estimate = Estimate(NOISES["correlated"], "background", 0.0, 0.0, signal="rician")
    checks = BlindChecks({"restored": Output("noisy", "clean")}, {"noisy": estimate}, {"noisy": FieldSpec(1)})
    failed = []
    for image in (dark, noisy):
        # in the units of a batch, which are not the stored ones
        seen, restored = (torch.from_numpy(np.asarray(x / 2, np.float32))[None, None] for x in (noisy, image))
        batch = {"noisy": seen, "noisy_scale": torch.full((1, 1, 1, 1), 2.0)}
        values = {key.partition("/")[2]: float(value) for key, value in checks(batch, {"restored": restored}).items()}
        failed.append([finding.name for finding in blind_checks.findings(values) if not finding.ok])
    assert not failed[0]
    assert "residual_missing" in failed[1]
