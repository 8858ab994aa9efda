"""MS-SSIM, VGG, Laplacian and total variation losses against independent computations, gradients, and errors."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_msssim import ms_ssim
from torch import Tensor, nn

from quell.configs.errors import ConfigError, DataError, MachineError
from quell.losses.common.frozen_vgg import VGG16, VGG19
from quell.losses.laplacian import Laplacian
from quell.losses.msssim import MsSsim
from quell.losses.total_variation import TotalVariation
from quell.losses.vgg import Vgg
from quell.losses.vgg16 import Vgg16


def noisy_images(*shape: int, noise: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A noisy image and the smooth clean one below it, in [0, 1], float64."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:2], 6, 7, generator=generator, dtype=torch.float64)
    clean = F.interpolate(coarse, size=shape[2:], mode="bilinear", align_corners=False)
    return clean + noise * torch.randn(*shape, generator=generator, dtype=torch.float64), clean


@pytest.mark.parametrize("shape", [(2, 1, 161, 177), (1, 3, 200, 171)])
def test_msssim_equals_pytorch_msssim(shape: tuple[int, ...]) -> None:
    noisy, clean = (image.float() for image in noisy_images(*shape))
    expected = ms_ssim(noisy, clean, data_range=1.0)
    assert torch.allclose(1 - MsSsim()(noisy, clean), expected, atol=1e-6)
    assert torch.allclose(1 - MsSsim(data_range=255)(255 * noisy, 255 * clean), expected, atol=1e-5)


def test_msssim_of_fewer_scales_is_the_weighted_product_over_them() -> None:
    noisy, clean = noisy_images(1, 2, 49, 41)
    gauss = np.exp(-((np.arange(7) - 3) ** 2) / (2 * 1.5**2))
    kernel = torch.from_numpy(np.outer(gauss, gauss) / gauss.sum() ** 2).reshape(-1)

    def windows(image: Tensor) -> Tensor:
        """Every 7x7 window of a one-channel image: (windows, 49)."""
        return F.unfold(image, 7)[0].T

    weights = np.array([0.0448, 0.2856])
    weights /= weights.sum()
    values = []
    for channel in range(2):
        x, y = noisy[:, channel : channel + 1], clean[:, channel : channel + 1]
        value = 1.0
        for scale, weight in enumerate(weights):
            if scale:
                x, y = (F.avg_pool2d(image, 2, padding=[s % 2 for s in image.shape[-2:]]) for image in (x, y))
            a, b = windows(x), windows(y)
            mean_a, mean_b = a @ kernel, b @ kernel
            dev_a, dev_b = a - mean_a[:, None], b - mean_b[:, None]
            term = (2 * (dev_a * dev_b) @ kernel + 0.03**2) / ((dev_a**2 + dev_b**2) @ kernel + 0.03**2)
            if scale == 1:
                term = term * (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
            value *= float(term.mean()) ** weight
        values.append(value)
    assert float(1 - MsSsim(scales=2, window=7)(noisy, clean)) == pytest.approx(np.mean(values), abs=1e-6)


def test_msssim_of_equal_images_is_zero_and_its_gradient_matches_finite_differences() -> None:
    noisy, clean = noisy_images(1, 2, 12, 14)
    loss = MsSsim(scales=2, window=5).double()
    assert float(loss(clean, clean)) == pytest.approx(0, abs=1e-12)
    assert torch.autograd.gradcheck(loss, (noisy.requires_grad_(), clean), atol=1e-5)


def test_msssim_reports_channels_without_gradient() -> None:
    noisy, clean = noisy_images(3, 1, 64, 64, noise=0.02)
    restored = torch.stack([noisy[0], 1 - clean[1], noisy[2]]).requires_grad_()
    value, reported = MsSsim(scales=3).measure(restored, clean)
    value.backward()
    assert restored.grad is not None and torch.isfinite(restored.grad).all()
    assert float(reported["dead"]) == pytest.approx(1 / 3)
    assert restored.grad[1].abs().max() == 0 and restored.grad[0].abs().max() > 0


def test_msssim_of_an_image_that_is_not_finite_is_nan() -> None:
    """A loss of 1 and all channels dead would hide that the network has diverged."""
    noisy, clean = noisy_images(2, 1, 64, 64, noise=0.02)
    noisy[0, 0, 3, 4] = torch.nan
    value, reported = MsSsim(scales=3).measure(noisy, clean)
    assert value.isnan() and float(reported["dead"]) == 0


@pytest.mark.parametrize(
    ("size", "scales", "window", "remedy"),
    [(160, 5, 11, "scales: 4"), (64, 5, 11, "scales: 3"), (10, 1, 11, "smaller window"), (96, 5, 7, "scales: 4")],
)
def test_msssim_rejects_images_that_are_too_small(size: int, scales: int, window: int, remedy: str) -> None:
    image = torch.rand(1, 1, 200, size)
    with pytest.raises(ConfigError, match=f"more than {(window - 1) * 2 ** (scales - 1)} px.*{remedy}"):
        MsSsim(scales=scales, window=window)(image, image)
    larger = torch.rand(1, 1, 200, (window - 1) * 2 ** (scales - 1) + 1)
    assert float(MsSsim(scales=scales, window=window)(larger, larger)) == pytest.approx(0, abs=1e-5)


def test_msssim_rejects_wrong_arguments_and_complex_images() -> None:
    for arguments in ({"scales": 6}, {"window": 8}, {"data_range": 0.0}):
        with pytest.raises(ConfigError):
            MsSsim(**arguments)
    image = torch.zeros(1, 1, 20, 20, dtype=torch.complex64)
    with pytest.raises(ConfigError, match="real images"):
        MsSsim(scales=1)(image, image)


def test_msssim_is_computed_in_float32_under_bfloat16() -> None:
    noisy, clean = (image.float() for image in noisy_images(1, 1, 64, 64, noise=0.02))
    loss = MsSsim(scales=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(noisy, clean)
    assert value.dtype == torch.float32 and torch.equal(value, loss(noisy, clean))


def test_laplacian_equals_the_depthwise_convolution_and_passes_a_gradient_check() -> None:
    restored, target = noisy_images(2, 3, 9, 8)
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=torch.float64).repeat(3, 1, 1, 1)
    expected = F.l1_loss(F.conv2d(restored, kernel, groups=3), F.conv2d(target, kernel, groups=3))
    assert torch.allclose(Laplacian()(restored, target), expected)
    ramp = torch.linspace(0, 1, 8, dtype=torch.float64).expand_as(target)
    assert float(Laplacian()(target + ramp, target)) == pytest.approx(0, abs=1e-12)
    assert torch.autograd.gradcheck(Laplacian(), (restored.requires_grad_(), target))
    with pytest.raises(ConfigError, match="3x3"):
        Laplacian()(torch.zeros(1, 1, 2, 5), torch.zeros(1, 1, 2, 5))


def test_total_variation_is_the_sum_over_neighbours_and_passes_a_gradient_check() -> None:
    image, _ = noisy_images(2, 2, 5, 6)
    pixels = image.numpy()
    down = np.mean(
        [
            abs(pixels[n, c, i + 1, j] - pixels[n, c, i, j])
            for n in range(2)
            for c in range(2)
            for i in range(4)
            for j in range(6)
        ]
    )
    across = np.mean(
        [
            abs(pixels[n, c, i, j + 1] - pixels[n, c, i, j])
            for n in range(2)
            for c in range(2)
            for i in range(5)
            for j in range(5)
        ]
    )
    assert float(TotalVariation()(image)) == pytest.approx(down + across)
    assert float(TotalVariation()(torch.ones(1, 1, 4, 1))) == 0
    squares = (np.diff(pixels, axis=2) ** 2).sum() / (2 * 4 * 6) + (np.diff(pixels, axis=3) ** 2).sum() / (2 * 5 * 5)
    in_the_reproduction = 2 * squares / len(pixels)  # (2 / B) * (sum of squares / (C (H - 1) W) + ...)
    assert float(TotalVariation(squared=True)(image)) == pytest.approx(in_the_reproduction)
    assert torch.autograd.gradcheck(TotalVariation(squared=True), image.requires_grad_())
    assert torch.autograd.gradcheck(TotalVariation(), image.requires_grad_())


def reference_trunk(state: dict[str, Tensor]) -> nn.Sequential:
    """VGG-19's features up to conv5_4 written out from the paper's table, filled from a state dict by position."""
    convolutions, layers, channels, number = iter(sorted({int(key.split(".")[1]) for key in state})), [], 3, 0
    for wide, repeats in [(64, 2), (128, 2), (256, 4), (512, 4), (512, 4)]:
        for _ in range(repeats):
            convolution = nn.Conv2d(channels, wide, 3, padding=1)
            number = next(convolutions)
            convolution.load_state_dict({n: state[f"features.{number}.{n}"] for n in ("weight", "bias")})
            layers += [convolution, nn.ReLU()]
            channels = wide
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[:-2])  # without the last ReLU and pool


def random_weights(blocks: tuple[tuple[int, int], ...]) -> dict[str, Tensor]:
    """A state dict of convolutions in blocks, numbered as torchvision does."""
    torch.manual_seed(0)
    state, channels, number = {}, 3, 0
    for wide, repeats in blocks:
        for _ in range(repeats):
            state[f"features.{number}.weight"] = torch.randn(wide, channels, 3, 3) / (3 * channels**0.5)
            state[f"features.{number}.bias"] = 0.1 * torch.randn(wide)
            channels, number = wide, number + 2
        number += 1
    return state


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Tensor]]:
    """A file of random VGG-19 weights, the first digits of its checksum, and its content."""
    state = random_weights(VGG19.blocks)
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()[:8], state


def test_vgg_equals_the_l1_of_reference_features(weights: tuple[Path, str, dict[str, Tensor]]) -> None:
    path, checksum, state = weights
    restored, target = (image.float() for image in noisy_images(1, 3, 32, 48))
    reference = reference_trunk(state)
    with torch.no_grad():
        expected = F.l1_loss(reference(restored), reference(target))
        assert torch.allclose(Vgg(weights=str(path), sha256=checksum)(restored, target), expected, rtol=1e-4)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        expected = F.l1_loss(reference((restored - mean) / std), reference((target - mean) / std))
        normalised = Vgg(weights=str(path), sha256=checksum, normalise=True)
        assert torch.allclose(normalised(restored, target), expected, rtol=1e-4)


def test_vgg_trunk_is_frozen_and_only_the_restored_image_gets_a_gradient() -> None:
    loss = Vgg(weights=None, random_trunk=True)
    assert sum(p.numel() for p in loss.parameters()) == 20_024_384
    assert not any(p.requires_grad for p in loss.parameters())
    restored, target = (image.float().requires_grad_() for image in noisy_images(1, 1, 16, 16))
    assert loss.trunk(restored.expand(1, 3, 16, 16)).shape == (1, 512, 1, 1)
    loss(restored, target).backward()
    assert target.grad is None and restored.grad is not None and restored.grad.abs().sum() > 0


def test_vgg_gradient_matches_finite_differences() -> None:
    """Along random directions, in float64: the full Jacobian would take thousands of passes."""
    loss = Vgg(weights=None, random_trunk=True).double()
    restored, target = noisy_images(1, 3, 16, 16)
    loss = loss.to(torch.float64)
    assert torch.autograd.gradcheck(loss, (restored.requires_grad_(), target), fast_mode=True, atol=1e-5, rtol=1e-3)


def test_vgg_trunk_is_not_in_checkpoints_and_random_weights_are_always_the_same() -> None:
    torch.manual_seed(1)
    first = Vgg(weights=None, random_trunk=True)
    torch.manual_seed(2)
    second = nn.ModuleDict({"vgg": Vgg(weights=None, random_trunk=True)})
    assert first.state_dict() == {} and second.state_dict() == {}
    assert second.load_state_dict({}, strict=True).missing_keys == []
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_vgg_reports_what_is_wrong(
    weights: tuple[Path, str, dict[str, Tensor]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, checksum, state = weights
    with pytest.raises(ConfigError, match="go together"):
        Vgg(weights=None)
    with pytest.raises(ConfigError, match="go together"):
        Vgg(weights=str(path), random_trunk=True)
    loss = Vgg(weights=None, random_trunk=True)
    assert "warning: " in (stderr := capsys.readouterr().err) and "untrained" in stderr
    with pytest.raises(ConfigError, match="2 channels"):
        Vgg(weights=None, random_trunk=True, channels=2)
    with pytest.raises(ConfigError, match="at least 16x16 px"):
        loss(torch.zeros(1, 3, 15, 16), torch.zeros(1, 3, 15, 16))
    with pytest.raises(DataError, match="do not exist"):
        Vgg(weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises(DataError, match=f"starts with {checksum}, not dcbb9e9d"):
        Vgg(weights=str(path))
    torch.save({"features.0.weight": state["features.0.weight"]}, tmp_path / "other.pth")
    (tmp_path / "page.pth").write_bytes(b"<html>not found</html>")
    torch.save([state], tmp_path / "list.pth")
    for name in ("other.pth", "page.pth", "list.pth"):
        with pytest.raises(DataError, match=f"{name} does not hold VGG-19"):
            Vgg(weights=str(tmp_path / name), sha256="")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    unreachable = VGG19._replace(url="http://127.0.0.1:9/vgg19-dcbb9e9d.pth")
    monkeypatch.setattr("quell.losses.common.frozen_vgg.VGG19", unreachable)
    with pytest.raises(MachineError, match="could not be downloaded"):
        Vgg()
    (tmp_path / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth").write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="not dcbb9e9d"):
        Vgg()


def test_vgg16_is_the_sum_over_four_depths_of_normalised_and_resized_images(tmp_path: Path) -> None:
    state = random_weights(VGG16.blocks)
    torch.save(state, tmp_path / "vgg16.pth")
    checksum = hashlib.sha256((tmp_path / "vgg16.pth").read_bytes()).hexdigest()[:8]
    restored, target = (image.float() for image in noisy_images(1, 1, 20, 30))

    def features(image: Tensor) -> list[Tensor]:
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        x = F.interpolate((image.expand(1, 3, 20, 30) - mean) / std, (48, 48), mode="bilinear", align_corners=False)
        depths: list[Tensor] = []
        for block in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21)):
            x = F.max_pool2d(x, 2) if depths else x
            for number in block:
                x = F.relu(F.conv2d(x, state[f"features.{number}.weight"], state[f"features.{number}.bias"], padding=1))
            depths.append(x)
        return depths

    loss = Vgg16(weights=str(tmp_path / "vgg16.pth"), size_px=48, sha256=checksum)
    with torch.no_grad():
        expected = sum(F.l1_loss(a, b) for a, b in zip(features(restored), features(target), strict=True))
    value = loss(restored.requires_grad_(), target.requires_grad_())
    torch.testing.assert_close(value.detach(), expected, rtol=1e-4, atol=0)
    value.backward()
    assert target.grad is None and restored.grad is not None and restored.grad.abs().sum() > 0
    assert sum(p.numel() for p in loss.parameters()) == 7_635_264 and loss.state_dict() == {}
    with pytest.raises(DataError, match=f"VGG-16 weights: its sha256 starts with {checksum}, not 397923af"):
        Vgg16(weights=str(tmp_path / "vgg16.pth"))
    with pytest.raises(ConfigError, match="size_px must be at least 8, .*got 7"):
        Vgg16(weights=None, random_trunk=True, size_px=7)


def test_vgg16_gradient_matches_finite_differences() -> None:
    assert Vgg16(weights=None, random_trunk=True).size_px == 224
    loss = Vgg16(weights=None, random_trunk=True, size_px=16).double()
    restored, target = noisy_images(1, 1, 8, 8)
    assert torch.autograd.gradcheck(loss, (restored.requires_grad_(), target), fast_mode=True, atol=1e-5, rtol=1e-3)
