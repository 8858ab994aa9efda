"""Fusion U-Net: parameter count, any image size, which contrast reaches which, gradients, rejected settings."""

from typing import Any

import pytest
import torch

from quell.configs.errors import ConfigError
from quell.models.fusion_unet import FusionUNet
from tests.support.images import normal_image

FUSIONS = ["latent", "skips", "attention"]


def small_network(**settings: Any) -> FusionUNet:
    torch.manual_seed(0)
    return FusionUNet(**{"widths": (4, 6, 8), "blocks": (1, 1, 1), **settings})


def test_parameter_count_is_the_documented_one() -> None:
    assert sum(p.numel() for p in FusionUNet().parameters()) == 750_625


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("shared", [True, False])
def test_every_contrast_influences_every_other_at_any_size(fusion: str, shared: bool) -> None:
    network = small_network(in_channels=6, out_channels=6, streams=3, fusion=fusion, shared=shared)
    stack = normal_image(2, 6, 17, 22, seed=1)
    restored = network(stack)
    assert restored.shape == stack.shape
    for changed in range(3):
        perturbed = stack.clone()
        perturbed[:, 2 * changed : 2 * changed + 2] += normal_image(2, 2, 17, 22, seed=1)
        change = (network(perturbed) - restored).abs().amax((0, 2, 3))
        assert (change > 1e-6).all()


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("shared", [True, False])
def test_every_parameter_receives_a_gradient(fusion: str, shared: bool) -> None:
    network = small_network(fusion=fusion, shared=shared)
    network(normal_image(2, 2, 16, 16, seed=1)).square().mean().backward()
    without_gradient = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without_gradient == []


def test_latent_fusion_passes_nothing_but_the_coarsest_level_between_contrasts() -> None:
    """With the mixing at the coarsest level switched off, one contrast does not depend on the other at all."""
    for fusion, expected in (("latent", {"2"}), ("skips", {"0", "1", "2"}), ("attention", {"0", "1", "2"})):
        assert set(small_network(fusion=fusion).mixers) == expected
    network = small_network(fusion="latent")
    torch.nn.init.zeros_(network.get_parameter("mixers.2.last.weight"))
    stack = normal_image(1, 2, 16, 16, seed=1)
    perturbed = torch.cat([stack[:, :1], stack[:, 1:] + 1], dim=1)
    assert torch.equal(network(stack)[:, 0], network(perturbed)[:, 0])


def test_attention_compares_channels_in_float32_under_bfloat16() -> None:
    """Similar channels have cosines near 1, where bfloat16 has steps of 1/256."""
    attention = small_network(fusion="attention", widths=(8,), blocks=(1,)).mixers["0"]
    own = 1 + 0.03 * normal_image(1, 8, 16, 16, seed=1)
    parameters = dict(attention.named_parameters())
    identity = torch.eye(8)[:, :, None, None]
    with torch.no_grad():
        parameters["sharpness"].fill_(1e5)
        for layer, weight in (("queries", identity), ("keys_values", identity.repeat(2, 1, 1, 1)), ("last", identity)):
            parameters[f"{layer}.weight"].copy_(weight)
            parameters[f"{layer}.bias"].zero_()
        with torch.autocast("cpu", torch.bfloat16):
            half = attention(own, own)
        torch.testing.assert_close(half.float(), 2 * own, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": (8, 16), "blocks": (1,)}, "widths and blocks"),
        ({"in_channels": 3, "out_channels": 3}, "streams"),
        ({"streams": 1}, "streams"),
        ({"in_channels": 2, "out_channels": 4}, "must be equal"),
    ],
)
def test_wrong_settings_are_rejected_with_the_reason(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FusionUNet(**settings)
