"""LPIPS with random weights against its formula in numpy, and errors for missing and damaged weights."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from quell.configs.errors import DataError, MachineError
from quell.losses.metrics import lpips as module
from quell.losses.metrics.lpips import lpips

LAYERS = {"0": (64, 3, 11), "3": (192, 64, 5), "6": (384, 192, 3), "8": (256, 384, 3), "10": (256, 256, 3)}


def random_weights() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    trunk, weights = {}, {}
    for k, (name, (after, before, size)) in enumerate(LAYERS.items()):
        trunk[f"features.{name}.weight"] = torch.randn(after, before, size, size, generator=generator) * 0.05
        trunk[f"features.{name}.bias"] = torch.randn(after, generator=generator) * 0.1
        weights[f"lin{k}.model.1.weight"] = torch.rand(1, after, 1, 1, generator=generator)
    trunk["classifier.6.bias"] = torch.zeros(3)
    return trunk, weights


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with random weights, whose checksum is made the expected one."""
    trunk, weights = random_weights()
    torch.save(trunk, tmp_path / module.TRUNK)
    torch.save(weights, tmp_path / module.WEIGHTS)
    monkeypatch.setenv(module.FOLDER_VARIABLE, str(tmp_path))
    digest = hashlib.sha256((tmp_path / module.TRUNK).read_bytes()).hexdigest()
    monkeypatch.setattr(module, "TRUNK_SHA256", digest[:8])
    module._network.cache_clear()
    return tmp_path


def by_formula(restored: NDArray[np.float64], clean: NDArray[np.float64]) -> float:
    """The distance of images in [0, 1], layer by layer."""
    trunk, weights = random_weights()
    features = []
    for image in (restored, clean):
        scaled = (2 * image - 1 - np.array([-0.030, -0.088, -0.188])) / np.array([0.458, 0.448, 0.450])
        x = torch.from_numpy(scaled.transpose(2, 0, 1)[None]).float()
        taps = []
        for name, (stride, padding) in zip(LAYERS, ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1)), strict=True):
            x = functional.max_pool2d(x, 3, 2) if name in ("3", "6") else x
            weight, bias = trunk[f"features.{name}.weight"], trunk[f"features.{name}.bias"]
            x = functional.conv2d(x, weight, bias, stride, padding).clamp(min=0)
            taps.append(x[0].numpy())
        features.append(taps)
    total = 0.0
    for k, (a, b) in enumerate(zip(*features, strict=True)):
        a, b = (f / (np.linalg.norm(f, axis=0) + 1e-10) for f in (a, b))
        total += float(((a - b) ** 2 * weights[f"lin{k}.model.1.weight"][0].numpy()).sum(axis=0).mean())
    return total


def test_lpips_equals_its_formula_in_any_range(weights_folder: Path) -> None:
    rng = np.random.default_rng(1)
    clean = rng.random((40, 48, 3))
    restored = np.clip(clean + 0.1 * rng.standard_normal(clean.shape), 0, 1)
    expected = by_formula(restored, clean)
    assert expected > 1e-3
    assert lpips(restored, clean, data_range=1) == pytest.approx(expected, rel=1e-3)
    assert lpips(restored * 255, clean * 255, data_range=255) == pytest.approx(expected, rel=1e-3)
    assert lpips(clean, clean, data_range=1) == 0
    grey, colour = clean[..., :1], clean[..., :1].repeat(3, axis=2)
    restored_colour = restored[..., :1].repeat(3, axis=2)
    expected = lpips(restored_colour, colour, data_range=1)
    assert lpips(restored[..., 0], grey[..., 0], data_range=1) == pytest.approx(expected)


def test_restored_image_that_is_not_finite_scores_worst(weights_folder: Path) -> None:
    assert lpips(np.full((32, 32), np.nan), np.zeros((32, 32)), data_range=1) == np.inf


def test_unsuitable_images_are_rejected(weights_folder: Path) -> None:
    for shape in ((31, 40), (40, 40, 2)):
        with pytest.raises(DataError, match="32 px"):
            lpips(np.zeros(shape), np.zeros(shape), data_range=1)


def test_missing_and_damaged_weights_are_reported(weights_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((32, 32))
    torch.save({}, weights_folder / module.WEIGHTS)
    with pytest.raises(MachineError, match="cannot be used"):
        lpips(image, image, data_range=1)
    (weights_folder / module.WEIGHTS).write_bytes(b"<html>not found</html>")
    with pytest.raises(MachineError, match="cannot be used"):
        lpips(image, image, data_range=1)
    (weights_folder / module.WEIGHTS).unlink()
    with pytest.raises(MachineError, match="is missing alex.pth"):
        lpips(image, image, data_range=1)
    torch.save({}, weights_folder / module.WEIGHTS)
    monkeypatch.setattr(module, "TRUNK_SHA256", "0" * 64)
    with pytest.raises(MachineError, match="damaged"):
        lpips(image, image, data_range=1)
    monkeypatch.delenv(module.FOLDER_VARIABLE)
    assert module.weights_folder() == Path(torch.hub.get_dir()) / "checkpoints"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_measured_as_its_arrays_are(weights_folder: Path, channels: int) -> None:
    rng = np.random.default_rng(1)
    clean = rng.random((2, 40, 48, channels)).astype(np.float32)
    restored = [(clean + sigma * rng.standard_normal(clean.shape)).astype(np.float32) for sigma in (0.05, 0.2)]
    restored[0][1, 2, 3] = np.nan
    expected = [[lpips(x, y, data_range=1) for x, y in zip(images, clean, strict=True)] for images in restored]
    tensors = [torch.from_numpy(np.moveaxis(images, -1, -3).copy()) for images in (np.stack(restored), clean)]
    np.testing.assert_allclose(module.BATCH_FORM(tensors[0], tensors[1]).numpy(), expected, rtol=1e-5)
    with pytest.raises(DataError, match="32 px"):
        module.BATCH_FORM(tensors[0][..., :31], tensors[1][..., :31])
