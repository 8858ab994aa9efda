"""U-Net, DnCNN and SRDenseNet: published parameter counts, any image size, gradients, every option."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.models.blocks.norms import FrozenBatchNorm2d, Norm, norm_layer
from quell.models.dncnn import DnCNN
from quell.models.srdensenet import SRDenseNet
from quell.models.unet import UNet
from tests.support.images import normal_image

NORMS: list[Norm] = ["batch", "frozen_batch", "batch_statistics", "instance", "group", "none"]
UNUSED_IN_THE_SOURCE = 192
"""Parameters that the source declares and never uses."""

SMALL: dict[str, Callable[..., nn.Module]] = {
    "unet": lambda **options: UNet(width=4, **options),
    "dncnn": lambda **options: DnCNN(depth=4, width=8, **options),
    "srdensenet": lambda **options: SRDenseNet(growth=4, layers=2, blocks=2, bottleneck=8, **options),
}


def image(channels: int = 1, size: tuple[int, int] = (32, 32)) -> Tensor:
    return normal_image(2, channels, *size, seed=1)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (lambda: UNet(), 21_912_705 - UNUSED_IN_THE_SOURCE),
        (lambda: DnCNN(), 556_032),
        (lambda: DnCNN(depth=10, activation="leaky_relu", residual=False), 297_088),
        (lambda: DnCNN(depth=10, activation="leaky_relu", residual=False, bias=True), 297_665),
        (lambda: SRDenseNet(), 5_062_305),
    ],
)
def test_parameter_counts_are_the_published_ones(network: Callable[[], nn.Module], parameters: int) -> None:
    assert count(network()) == parameters


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("residual", [False, True])
def test_every_parameter_receives_a_gradient(name: str, residual: bool) -> None:
    torch.manual_seed(0)
    network = SMALL[name](residual=residual)
    network(image()).square().sum().backward()
    for key, parameter in network.named_parameters():
        # Batch norm subtracts the bias before it again, so the gradient of such a bias is nothing but rounding.
        assert parameter.grad is not None, key
        assert key.endswith("bias") or parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", SMALL)
def test_any_image_size_and_channels(name: str) -> None:
    network = SMALL[name](in_channels=2, out_channels=3, residual=False).eval()
    for size in ((32, 48), (33, 47), (5, 18)):
        assert network(image(2, size)).shape == (2, 3, *size)


@pytest.mark.parametrize("name", SMALL)
def test_residual_is_the_image_minus_the_output(name: str) -> None:
    torch.manual_seed(0)
    plain = SMALL[name](residual=False).eval()
    residual = SMALL[name](residual=True).eval()
    residual.load_state_dict(plain.state_dict())
    for size in ((32, 32), (19, 21)):
        noisy = image(size=size)
        torch.testing.assert_close(residual(noisy), noisy - plain(noisy))
    with pytest.raises(ConfigError, match="residual"):
        SMALL[name](residual=True, in_channels=2)


@pytest.mark.parametrize("name", ["unet", "dncnn"])
@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_trains_and_evaluates(name: str, norm: Norm) -> None:
    torch.manual_seed(0)
    network = SMALL[name](norm=norm)
    network(image()).sum().backward()
    alone, together = (network.eval()(image()[:k])[0] for k in (1, 2))
    if norm == "batch_statistics":
        assert not torch.allclose(alone, together, atol=1e-4)
    else:
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def test_frozen_batch_norm_freezes_and_stays_frozen_through_a_checkpoint() -> None:
    norm = FrozenBatchNorm2d(3, freeze_after=2)
    batch = nn.BatchNorm2d(3)
    for seed in range(2):
        x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) + 2
        torch.testing.assert_close(norm(x), batch(x))
    state = {key: value.clone() for key, value in norm.state_dict().items()}
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    frozen = norm(x)
    torch.testing.assert_close(frozen, batch.eval()(x))
    torch.testing.assert_close(norm.running_mean, state["running_mean"])
    restarted = FrozenBatchNorm2d(3, freeze_after=2)
    restarted.load_state_dict(state)
    torch.testing.assert_close(restarted(x), frozen)
    norm.load_state_dict(FrozenBatchNorm2d(3).state_dict())
    torch.testing.assert_close(norm(x), nn.BatchNorm2d(3)(x))


def test_group_norm_accepts_any_width() -> None:
    for channels, groups in ((64, 8), (12, 4), (7, 1)):
        layer = norm_layer("group", channels)
        assert isinstance(layer, nn.GroupNorm) and layer.num_groups == groups


def test_init_std_is_the_standard_deviation_of_the_weights() -> None:
    torch.manual_seed(0)
    network = DnCNN(depth=10, bias=True, init_std=0.02)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert module.bias is not None and (module.bias == 0).all()
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1.0, abs=0.01)


def test_dncnn_has_the_documented_receptive_field() -> None:
    network = DnCNN(depth=4, width=8, norm="none").eval()
    noisy = image(size=(21, 21)).requires_grad_()
    network(noisy)[0, 0, 10, 10].backward()
    assert noisy.grad is not None
    seen = noisy.grad[0, 0].abs() > 0
    rows = torch.nonzero(seen.any(dim=1)).flatten()
    assert rows.min() >= 6 and rows.max() <= 14 and rows.max() - rows.min() >= 6
    with pytest.raises(ConfigError, match="depth 2"):
        DnCNN(depth=2)


def test_checkpointing_the_unet_gives_the_same_gradients() -> None:
    torch.manual_seed(1)
    plain, checkpointed = (UNet(width=4, norm="group", checkpointing=on) for on in (False, True))
    checkpointed.load_state_dict(plain.state_dict())
    noisy = torch.rand(1, 1, 20, 16)
    for network in (plain, checkpointed):
        network(noisy).square().mean().backward()
    for a, b in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None and torch.allclose(a.grad, b.grad, rtol=1e-5)
    with pytest.raises(ConfigError, match="norm batch would count each batch twice"):
        UNet(width=4, norm="batch", checkpointing=True)


def test_slope_of_the_leaky_activation() -> None:
    network = DnCNN(depth=3, activation="leaky_relu", slope=0.2, residual=False)
    assert [layer.negative_slope for layer in network.layers if isinstance(layer, nn.LeakyReLU)] == [0.2, 0.2]
