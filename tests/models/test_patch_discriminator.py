"""The critics match the published tables: output shape and parameter count of every layer."""

from typing import get_args

import pytest
import torch
from torch import nn

from quell.configs.errors import DataError
from quell.models.patch_discriminator import PatchDiscriminator, Variant

COMMON = [
    ("Conv2d", 64, 320, 1_088),
    ("LeakyReLU", 64, 320, 0),
    ("Conv2d", 128, 160, 131_200),
    ("InstanceNorm2d", 128, 160, 0),
    ("LeakyReLU", 128, 160, 0),
    ("Conv2d", 256, 80, 524_544),
    ("InstanceNorm2d", 256, 80, 0),
    ("LeakyReLU", 256, 80, 0),
]
STRIDED = [("Conv2d", 512, 40, 2_097_664), ("InstanceNorm2d", 512, 40, 0), ("LeakyReLU", 512, 40, 0)]
TABLES: dict[Variant, list[tuple[str, int, int, int]]] = {
    "v2": [
        *COMMON,
        *STRIDED,
        ("ZeroPad2d", 512, 41, 0),
        ("Conv2d", 512, 40, 4_194_816),
        ("InstanceNorm2d", 512, 40, 0),
        ("LeakyReLU", 512, 40, 0),
        ("ZeroPad2d", 512, 41, 0),
        ("Conv2d", 1, 40, 8_193),
    ],
    "v1": [
        *COMMON,
        *STRIDED,
        ("Conv2d", 512, 39, 4_194_816),
        ("ReflectionPad2d", 512, 40, 0),
        ("InstanceNorm2d", 512, 40, 0),
        ("LeakyReLU", 512, 40, 0),
        ("Conv2d", 1, 39, 8_193),
        ("ReflectionPad2d", 1, 40, 0),
    ],
    "official": [*COMMON, *STRIDED, ("ZeroPad2d", 512, 41, 0), ("Conv2d", 1, 40, 8_192)],
    "official_biased": [*COMMON, *STRIDED, ("ZeroPad2d", 512, 41, 0), ("Conv2d", 1, 40, 8_193)],
    "cyclegan": [
        *COMMON,
        ("Conv2d", 512, 79, 2_097_664),
        ("InstanceNorm2d", 512, 79, 0),
        ("LeakyReLU", 512, 79, 0),
        ("Conv2d", 1, 78, 8_193),
    ],
}
TOTALS: dict[Variant, int] = {
    "v1": 6_957_505, "v2": 6_957_505, "official": 2_762_688, "official_biased": 2_762_689, "cyclegan": 2_762_689,
}  # fmt: skip


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("variant", sorted(get_args(Variant)))
def test_layers_are_those_of_the_table(variant: Variant) -> None:
    critic = PatchDiscriminator(variant=variant)
    rows: list[tuple[str, int, int, int]] = []

    def record(module: nn.Module, _: object, output: torch.Tensor) -> None:
        assert output.shape[2] == output.shape[3]
        rows.append((type(module).__name__, output.shape[1], output.shape[2], parameters(module)))

    for layer in critic.layers:
        layer.register_forward_hook(record)
    with torch.no_grad():
        critic(torch.rand(1, 1, 640, 640))
    assert rows == TABLES[variant]
    assert parameters(critic) == TOTALS[variant]


def test_parameter_count_with_three_channels_as_in_cncl() -> None:
    assert parameters(PatchDiscriminator(3, variant="official")) == 2_764_736


@pytest.mark.parametrize("variant", ["v1", "v2", "official"])
def test_training_crop_has_eight_by_eight_scores(variant: Variant) -> None:
    assert PatchDiscriminator(variant=variant, width=4)(torch.rand(2, 1, 128, 128)).shape == (2, 1, 8, 8)


def test_every_parameter_gets_a_gradient_and_samples_do_not_mix() -> None:
    torch.manual_seed(0)
    critic = PatchDiscriminator(2, width=4).double()
    images = torch.rand(3, 2, 48, 64, dtype=torch.float64)
    together = critic(images)
    apart = torch.cat([critic(image[None]) for image in images])
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)
    together.square().sum().backward()
    assert all(parameter.grad is not None for parameter in critic.parameters())


def test_initial_weights_have_the_requested_spread_or_torchs_own() -> None:
    torch.manual_seed(0)
    weight = dict(PatchDiscriminator().named_parameters())["layers.5.weight"]
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    torchs_own = dict(PatchDiscriminator(init_std=None).named_parameters())["layers.5.weight"]
    assert torchs_own.std().item() == pytest.approx((1 / 3 / (128 * 16)) ** 0.5, rel=0.02)


def test_image_that_is_too_small_is_rejected() -> None:
    with pytest.raises(DataError, match="31x64.*data.crop"):
        PatchDiscriminator(width=4)(torch.rand(1, 1, 31, 64))
