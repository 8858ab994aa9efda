"""Residual U-Net: its size, any image size, a gradient everywhere, a start near the identity, refusals."""

import pytest
import torch
from torch import Tensor

from configs.errors import ConfigError
from models.residual_unet import ResidualUNet


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_size_of_the_network_is_the_documented_one() -> None:
    assert sum(p.numel() for p in ResidualUNet(2, 2).parameters()) == 732_530


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (1, 2), (5, 40)])
@pytest.mark.parametrize("residual", [False, True])
def test_any_size_goes_in_and_comes_out(size: tuple[int, int], residual: bool) -> None:
    network = ResidualUNet(2, 2, widths=(4, 6, 8, 10), blocks=(1, 1, 2, 1), residual=residual)
    assert network(image(2, 2, *size)).shape == (2, 2, *size)


def test_every_parameter_receives_a_gradient() -> None:
    torch.manual_seed(0)
    network = ResidualUNet(1, 3, widths=(4, 8), blocks=(2, 1), residual=False)
    network(image(2, 1, 16, 16)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_residual_adds_to_the_image_and_starts_near_it() -> None:
    torch.manual_seed(0)
    network, plain = ResidualUNet(1, 1), ResidualUNet(1, 1, residual=False)
    plain.load_state_dict(network.state_dict())
    noisy = image(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.allclose(network(noisy) - noisy, plain(noisy), atol=1e-6)
        assert plain(noisy).std() < 0.3 * noisy.std()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"widths": (8, 16), "blocks": (1,)}, "number of blocks"),
        ({"widths": (), "blocks": ()}, "number of blocks"),
        ({"widths": (8,), "blocks": (0,)}, "number of blocks"),
        ({"in_channels": 1, "out_channels": 2}, "must be equal"),
    ],
)
def test_wrong_settings_are_refused_with_the_reason(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ResidualUNet(**settings)  # type: ignore[arg-type]
