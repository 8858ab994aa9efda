"""Residual U-Net: parameter count, any image size, gradients, a start near the identity, rejected settings."""

from typing import Any

import pytest
import torch

from quell.configs.errors import ConfigError
from quell.models.residual_unet import ResidualUNet
from tests.support.images import normal_image


def test_parameter_count_is_the_documented_one() -> None:
    assert sum(p.numel() for p in ResidualUNet(2, 2).parameters()) == 732_530


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (1, 2), (5, 40)])
@pytest.mark.parametrize("residual", [False, True])
def test_any_image_size(size: tuple[int, int], residual: bool) -> None:
    network = ResidualUNet(2, 2, widths=(4, 6, 8, 10), blocks=(1, 1, 2, 1), residual=residual)
    assert network(normal_image(2, 2, *size, seed=1)).shape == (2, 2, *size)


def test_every_parameter_receives_a_gradient() -> None:
    torch.manual_seed(0)
    network = ResidualUNet(1, 3, widths=(4, 8), blocks=(2, 1), residual=False)
    network(normal_image(2, 1, 16, 16, seed=1)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_residual_is_added_to_the_image_and_starts_small() -> None:
    torch.manual_seed(0)
    network, plain = ResidualUNet(1, 1), ResidualUNet(1, 1, residual=False)
    plain.load_state_dict(network.state_dict())
    noisy = normal_image(1, 1, 32, 32, seed=1)
    with torch.no_grad():
        assert torch.allclose(network(noisy) - noisy, plain(noisy), atol=1e-6)
        assert plain(noisy).std() < 0.3 * noisy.std()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": (8, 16), "blocks": (1,)}, "widths and blocks"),
        ({"widths": (), "blocks": ()}, "widths and blocks"),
        ({"widths": (8,), "blocks": (0,)}, "widths and blocks"),
        ({"in_channels": 1, "out_channels": 2}, "must be equal"),
    ],
)
def test_wrong_settings_are_rejected_with_the_reason(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ResidualUNet(**settings)
