"""DRGAN's networks and CNCL's fusion: published parameter counts, shapes, and what each output depends on."""

import pytest
import torch
from torch import nn

from quell.configs.errors import DataError
from quell.models.blocks.drgan_blocks import StyledResidualBlock
from quell.models.cncl_fusion import CnclFusion
from quell.models.drgan_clean_decoder import DrganCleanDecoder
from quell.models.drgan_content_encoder import DrganContentEncoder
from quell.models.drgan_noise_encoder import DrganNoiseEncoder
from quell.models.drgan_noisy_decoder import DrganNoisyDecoder


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (DrganContentEncoder, 5_379_584),
        (DrganNoiseEncoder, 661_000),
        (DrganCleanDecoder, 5_920_833),
        (DrganNoisyDecoder, 7_041_601),
        (CnclFusion, 3),
    ],
)
def test_parameter_counts_are_the_published_ones(network: type[nn.Module], count: int) -> None:
    assert sum(parameter.numel() for parameter in network().parameters()) == count


def test_shapes_of_features_and_images() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 1, 32, 48)
    features = DrganContentEncoder(width=8)(images)
    assert [tuple(f.shape[1:]) for f in features] == [(8, 32, 48), (16, 16, 24), (32, 8, 12), (32, 8, 12)]
    codes = DrganNoiseEncoder(width=8)(images)
    assert codes.shape == (2, 8)
    for restored in (DrganCleanDecoder(width=8)(features), DrganNoisyDecoder(width=8)(features, codes)):
        assert restored.shape == images.shape
        assert restored.abs().max() <= 1


def test_samples_do_not_mix() -> None:
    torch.manual_seed(0)
    encoder, noise = DrganContentEncoder(width=4).double(), DrganNoiseEncoder(width=4).double()
    decoder = DrganNoisyDecoder(width=4).double()
    images = torch.rand(3, 1, 16, 16, dtype=torch.float64)
    together = decoder(encoder(images), noise(images))
    apart = torch.cat([decoder(encoder(image[None]), noise(image[None])) for image in images])
    torch.testing.assert_close(together, apart, rtol=1e-11, atol=1e-11)


def test_noise_code_changes_the_noisy_image_and_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    encoder, decoder = DrganContentEncoder(width=4), DrganNoisyDecoder(width=4)
    codes = torch.randn(2, 8, requires_grad=True)
    images = torch.rand(1, 1, 16, 16).expand(2, -1, -1, -1)
    noisy = decoder(encoder(images), codes)
    assert (noisy[0] - noisy[1]).abs().max() > 1e-4
    noisy.square().mean().backward()
    assert codes.grad is not None and codes.grad.abs().sum() > 0
    for network in (encoder, decoder):
        assert all(parameter.grad is not None for parameter in network.parameters())


def test_adain_sets_mean_and_standard_deviation() -> None:
    """With both convolutions as identities, the output of a block shows its style directly."""
    block = StyledResidualBlock(4)
    torch.manual_seed(0)
    nn.init.dirac_(block.first.weight)
    nn.init.dirac_(block.second.weight)
    for convolution in (block.first, block.second):
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)
    images = torch.rand(1, 4, 12, 12)
    shift_1, scale_1, shift_2, scale_2 = torch.rand(4, 1, 4) + 0.5
    branch = block(images, torch.cat([shift_1, scale_1, shift_2, scale_2], dim=1)) - images

    def standardise(x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()

    hidden = (standardise(images) * scale_1[..., None, None] + shift_1[..., None, None]).relu()
    expected = standardise(hidden) * scale_2[..., None, None] + shift_2[..., None, None]
    torch.testing.assert_close(branch, expected, rtol=1e-4, atol=1e-5)


def test_sides_that_cannot_be_halved_twice_are_rejected() -> None:
    with pytest.raises(DataError, match="30x32"):
        DrganContentEncoder(width=4)(torch.rand(1, 1, 30, 32))


def test_fusion_starts_as_the_mean_of_both_images() -> None:
    content, complement = torch.rand(2, 2, 3, 8, 8)
    torch.testing.assert_close(CnclFusion(3)(content, complement), (content + complement) / 2)


def test_dark_images_keep_their_grey_levels_under_bfloat16() -> None:
    """Near -1, where an image is dark, bfloat16 has steps of 1/256: half a grey level of an 8-bit image."""
    torch.manual_seed(0)
    decoder, features = DrganCleanDecoder(width=4, blocks=1), DrganContentEncoder(width=4, blocks=1)
    with torch.no_grad():
        decoder.get_parameter("up_path.image.weight").mul_(0.05)
        decoder.get_parameter("up_path.image.bias").fill_(-3.0)
        image = torch.rand(1, 1, 32, 32)
        expected = decoder(features(image))
        with torch.autocast("cpu", torch.bfloat16):
            output = decoder(features(image))
    assert expected.max() < -0.95 and output.dtype == torch.float32
    assert (output - expected).abs().max() < 1 / 1024
