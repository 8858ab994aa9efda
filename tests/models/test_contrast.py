"""Dual-domain networks: published parameter counts, any image size, every kind of skip, the broken start."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.models.blocks.complex_layers import LayerNorm2d
from quell.models.blocks.contrast_blocks import UpBlock
from quell.models.contrast_decoder import ContrastDecoder
from quell.models.contrast_encoder import ContrastEncoder
from tests.support.images import normal_image


def small_encoder(complex: bool = False) -> ContrastEncoder:
    return ContrastEncoder(1, features=(4, 8, 16), latent_channels=6, complex=complex)


def small_decoder(complex: bool = False, **options: Any) -> ContrastDecoder:
    return ContrastDecoder(1, features=(16, 8, 4), latent_channels=6, complex=complex, **options)


def image(channels: int = 1, size: tuple[int, int] = (16, 20), complex: bool = False) -> Tensor:
    return normal_image(2, channels, *size, seed=3, dtype=torch.complex64 if complex else torch.float32)


def elements(network: nn.Module) -> int:
    """Number of parameters, each complex one counted once."""
    return sum(p.numel() for p in network.parameters())


def real_numbers(network: nn.Module) -> int:
    """Number of real numbers in the parameters, two for each complex one."""
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in network.parameters())


@pytest.mark.parametrize(
    ("latent", "features", "encoder_counts", "decoder_counts"),
    [
        (256, (256, 128, 64), (1_210_944, 2_420_096), (783_617, 1_566_466)),
        (512, (512, 256, 128), (1_276_736, 2_551_680), (3_131_905, 6_262_274)),
    ],
)
def test_parameter_counts_are_the_published_ones(
    latent: int, features: tuple[int, ...], encoder_counts: tuple[int, int], decoder_counts: tuple[int, int]
) -> None:
    for complex in (False, True):
        encoder = ContrastEncoder(1, latent_channels=latent, complex=complex)
        decoder = ContrastDecoder(1, features=features, latent_channels=latent, complex=complex)
        assert (elements(encoder), elements(decoder)) == (encoder_counts[0], decoder_counts[0])
        if complex:
            assert (real_numbers(encoder), real_numbers(decoder)) == (encoder_counts[1], decoder_counts[1])


@pytest.mark.parametrize("complex", [False, True])
@pytest.mark.parametrize("size", [(16, 20), (17, 19), (3, 6), (1, 2)])
def test_any_image_size(complex: bool, size: tuple[int, int]) -> None:
    encoder = small_encoder(complex)
    decoder = small_decoder(complex, skip_channels=encoder.skip_channels)
    noisy = image(size=size, complex=complex)
    latent, skips = encoder(noisy)
    assert not latent.is_complex()
    assert latent.shape[1] == encoder.latent_width == (12 if complex else 6)
    assert [skip.shape[1] for skip in skips] == list(encoder.skip_channels) == [4, 8]
    for decoder_skips in (None, skips):
        restored = decoder(latent, decoder_skips, size=size)
        assert restored.shape == noisy.shape and restored.dtype == noisy.dtype


def test_encoder_pads_by_reflection() -> None:
    encoder = small_encoder()
    noisy = image(size=(6, 8))
    padded = torch.cat([noisy, noisy[..., 4:5, :], noisy[..., 3:4, :]], dim=-2)
    torch.testing.assert_close(encoder(noisy)[0], encoder(padded)[0])


@pytest.mark.parametrize("complex", [False, True])
@pytest.mark.parametrize("skip_channels", [None, 5, 8])
def test_missing_skip_channels_count_as_zeros(skip_channels: int | None, complex: bool) -> None:
    """Against the definition: concat[skip padded with zero channels, up], then the full convolution."""
    block = UpBlock(16, 8, complex=complex)
    x = image(16, (4, 4), complex)
    skip = None if skip_channels is None else image(skip_channels, (8, 8), complex)
    up = block.up(x)
    joined = torch.zeros(2, 16, 8, 8, dtype=x.dtype)
    joined[:, 8:] = up
    if skip is not None:
        joined[:, :skip_channels] = skip
    torch.testing.assert_close(block(x, skip), block.conv(joined), rtol=1e-4, atol=1e-5)
    block(x, skip).abs().sum().backward()
    gradient = block.conv.conv1.weight.grad
    assert gradient is not None
    used = gradient.abs().sum(dim=(0, 2, 3))
    present = skip_channels or 0
    assert (used[8:] > 0).all() and (used[:present] > 0).all() and (used[present:8] == 0).all()


def test_wide_decoder_accepts_narrow_skips() -> None:
    encoder = ContrastEncoder(2, features=(4, 8, 16), latent_channels=32)
    decoder = ContrastDecoder(2, features=(32, 16, 8), latent_channels=32, skip_channels=encoder.skip_channels)
    latent, skips = encoder(image(2))
    with_skips, without_skips = decoder(latent, skips), decoder(latent, None)
    assert with_skips.shape == without_skips.shape == (2, 2, 16, 20)
    assert not torch.allclose(with_skips, without_skips)


def test_complex_normalisation_normalises_each_part_separately() -> None:
    norm = LayerNorm2d(4)
    assert not norm.weight.is_complex()
    x = image(4, complex=True)
    normed = norm(x)
    for part in (normed.real, normed.imag):
        torch.testing.assert_close(part.mean(dim=(1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(part.var(dim=(1, 2, 3), correction=0), torch.ones(2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("complex", [False, True])
def test_every_parameter_receives_a_gradient(complex: bool) -> None:
    encoder = small_encoder(complex)
    decoder = small_decoder(complex)
    decoder(*encoder(image(complex=complex))).abs().square().sum().backward()
    for network in (encoder, decoder):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_complex_gradients_match_finite_differences() -> None:
    encoder = ContrastEncoder(1, features=(2, 4), latent_channels=3, complex=True)
    decoder = ContrastDecoder(1, features=(4, 2), latent_channels=3, complex=True)
    noisy = image(size=(4, 4), complex=True)
    bias = decoder.outc.bias
    assert bias is not None

    def loss() -> Tensor:
        return decoder(*encoder(noisy)).abs().square().sum()

    loss().backward()
    assert bias.grad is not None
    for step in (torch.tensor(1e-2), torch.tensor(1e-2j)):
        with torch.no_grad():
            bias += step
            above = loss()
            bias -= 2 * step
            below = loss()
            bias += step
        slope = (above - below) / (2 * step.abs())
        expected = bias.grad.real if not step.is_complex() else bias.grad.imag
        torch.testing.assert_close(slope, expected.sum(), rtol=1e-2, atol=1e-2)


def test_identity_mapping_starts_as_the_identity_and_trains_only_the_last_bias() -> None:
    encoder = small_encoder()
    decoder = small_decoder(identity_mapping=True)
    noisy = image(size=(13, 18))
    latent, skips = encoder(noisy)
    torch.testing.assert_close(decoder(latent, skips, noisy), noisy)
    restored = decoder(latent, skips, None, size=(13, 18))
    assert (restored == 0).all()
    (restored - 1).abs().sum().backward()
    trained = [name for name, p in decoder.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert trained == ["outc.bias"]


def test_identity_is_added_only_with_identity_mapping() -> None:
    decoder = small_decoder()
    latent, skips = small_encoder()(image())
    torch.testing.assert_close(decoder(latent, skips, image()), decoder(latent, skips))


@pytest.mark.parametrize("skip_channels", [(4, 16), (4,), (16, 8)])
def test_skips_that_do_not_fit_are_rejected(skip_channels: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="features"):
        small_decoder(skip_channels=skip_channels)
