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
NOISES = {
    "white": FieldNoise(SIGMA),
    "correlated": FieldNoise(SIGMA, spectrum_of_kernel(KERNEL)),
    "varying": FieldNoise(SIGMA, level_map=np.tile(np.geomspace(0.5, 2.0, 32), (32, 1))),
}


def clean() -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    image = 0.4 + 0.05 * np.sin(x / 40)
    image[(y - 60) ** 2 + (x - 70) ** 2 < 30**2] += 0.4
    return np.asarray(image)


def textured() -> np.ndarray:
    """The clean image with a texture in its right half, where noise can hardly be told from it."""
    texture = np.random.default_rng(5).standard_normal((SIZE, SIZE)).cumsum(axis=0)
    return np.where(np.arange(SIZE) < SIZE // 2, clean(), clean() + 0.1 * (texture - texture.mean(axis=0)))


def shards_of(
    root: Path, kind: str, *, second: bool = False, images: int = IMAGES, shown: np.ndarray | None = None
) -> ShardSet:
    random = np.random.default_rng(images)
    shown = clean() if shown is None else shown
    samples = []
    for i in range(images):
        sample: dict[str, Any] = {"__key__": f"s{i}"}
        for name in ("noisy", "noisy_second")[: 1 + second]:
            sample[f"{name}.npy"] = (shown + NOISES[kind].sample(random, (SIZE, SIZE))).astype(np.float32)
        samples.append(sample)
    write_split(root, samples, name="known", meta={"data_range": 1.0})
    return ShardSet.open(root)


def checks_of(shards: ShardSet, root: str = "no_such_folder") -> BlindChecks:
    class Restorer:
        outputs = {"restored": Output("noisy", "clean")}
        fields = {"noisy": FieldSpec(1)}

    needs = Needs({"noisy": Source(), "noisy_second": Source(scale_of="noisy", optional=True, evaluation=True)})
    return BlindChecks.of_split(Restorer(), shards, needs, DataConfig(root=root, normalise="none"))  # type: ignore[arg-type]


@pytest.mark.parametrize("second", [False, True], ids=["single images", "repeats"])
@pytest.mark.parametrize("kind", ["white", "correlated"])
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


def test_one_validation_image_has_the_map_that_the_training_images_show(tmp_path: Path) -> None:
    single = shards_of(tmp_path / "val", "varying", images=1, shown=textured())
    shards_of(tmp_path / "train", "varying")
    known = NOISES["varying"].map_at(SIZE, SIZE)
    alone, together = (checks_of(single, root).models()["noisy"].map_at(SIZE, SIZE) for root in ("none", str(tmp_path)))
    off = {name: np.abs(np.log(levels / known)).mean() for name, levels in (("alone", alone), ("together", together))}
    assert off["together"] < 0.1 < off["alone"]
    checks = checks_of(single, str(tmp_path))
    noisy = torch.from_numpy(single.read(0, "noisy"))[None, None]
    restored = {"restored": torch.from_numpy(textured().astype(np.float32))[None, None]}
    values = checks({"noisy": noisy, "noisy_scale": torch.ones(1, 1, 1, 1)}, restored)
    found = blind_checks.findings({key.partition("/")[2]: float(value) for key, value in values.items()})
    assert found and all(finding.ok for finding in found)


def test_training_images_with_other_noise_do_not_change_what_one_image_shows(tmp_path: Path) -> None:
    single = shards_of(tmp_path / "val", "correlated", images=1)
    shards_of(tmp_path / "train", "white")
    alone, beside = checks_of(single).models()["noisy"], checks_of(single, str(tmp_path)).models()["noisy"]
    assert alone.correlation() == beside.correlation() > 0.5
