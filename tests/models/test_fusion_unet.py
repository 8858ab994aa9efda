"""Fusion U-Net: its size, any image size, what reaches what, a gradient everywhere, refusals."""

from typing import Any

import pytest
import torch
from torch import Tensor

from configs.errors import ConfigError
from models.fusion_unet import FusionUNet

PLACES = ["latent", "skips", "attention"]


def make(**settings: Any) -> FusionUNet:
    torch.manual_seed(0)
    return FusionUNet(**{"widths": (4, 6, 8), "blocks": (1, 1, 1), **settings})


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_size_of_the_network_is_the_documented_one() -> None:
    assert sum(p.numel() for p in FusionUNet().parameters()) == 750_625


@pytest.mark.parametrize("fusion", PLACES)
@pytest.mark.parametrize("shared", [True, False])
def test_every_contrast_helps_every_other_at_any_size(fusion: str, shared: bool) -> None:
    network = make(in_channels=6, out_channels=6, streams=3, fusion=fusion, shared=shared)
    stack = image(2, 6, 17, 22)
    restored = network(stack)
    assert restored.shape == stack.shape
    for changed in range(3):
        other = stack.clone()
        other[:, 2 * changed : 2 * changed + 2] += image(2, 2, 17, 22)
        moved = (network(other) - restored).abs().amax((0, 2, 3))
        assert (moved > 1e-6).all()


@pytest.mark.parametrize("fusion", PLACES)
@pytest.mark.parametrize("shared", [True, False])
def test_every_parameter_receives_a_gradient(fusion: str, shared: bool) -> None:
    network = make(fusion=fusion, shared=shared)
    network(image(2, 2, 16, 16)).square().mean().backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


def test_at_the_latent_one_contrast_has_no_fine_detail_of_the_other() -> None:
    """A change of one pixel's sign at the finest level reaches the other contrast through its coarsest level only."""
    for fusion, expected in (("latent", {"2"}), ("skips", {"0", "1", "2"}), ("attention", {"0", "1", "2"})):
        assert set(make(fusion=fusion).mixers) == expected
    network = make(fusion="latent")
    torch.nn.init.zeros_(network.mixers["2"].last.weight)
    stack = image(1, 2, 16, 16)
    other = torch.cat([stack[:, :1], stack[:, 1:] + 1], dim=1)
    assert torch.equal(network(stack)[:, 0], network(other)[:, 0])


def test_half_precision_does_not_round_what_attention_compares() -> None:
    """Channels that point the same way have cosines near one, where bfloat16 has steps of 1/256."""
    attention = make(fusion="attention", widths=(8,), blocks=(1,)).mixers["0"]
    own = 1 + 0.03 * image(1, 8, 16, 16)
    with torch.no_grad():
        attention.sharpness.fill_(1e5)
        for layer in (attention.queries, attention.last):
            layer.weight.copy_(torch.eye(8)[:, :, None, None])
            layer.bias.zero_()
        attention.keys_values.weight.copy_(torch.eye(8).repeat(2, 1)[:, :, None, None])
        attention.keys_values.bias.zero_()
        with torch.autocast("cpu", torch.bfloat16):
            half = attention(own, own)
        torch.testing.assert_close(half.float(), 2 * own, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"widths": (8, 16), "blocks": (1,)}, "number of blocks"),
        ({"in_channels": 3, "out_channels": 3}, "streams"),
        ({"streams": 1}, "streams"),
        ({"in_channels": 2, "out_channels": 4}, "must be equal"),
    ],
)
def test_wrong_settings_are_refused_with_the_reason(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        FusionUNet(**settings)
