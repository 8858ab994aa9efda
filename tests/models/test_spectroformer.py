"""Spectroformer: published parameter counts, shortcuts against the literal formulas, precision, gradients."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.models import spectroformer
from quell.models.blocks.spectroformer_attention import FrequencyFilter, QueryCascade
from quell.models.blocks.spectroformer_resampling import HybridUpsample, phase
from quell.models.blocks.spectroformer_skips import EnergyGate, PhaseGate
from quell.models.spectroformer import Spectroformer

Size = Literal["small", "base", "large"]
Design = Literal["official", "reproduction"]

COUNTS: dict[tuple[Size, Design], int] = {
    ("small", "official"): 2_452_235,
    ("base", "official"): 36_724_509,
    ("large", "official"): 80_976_833,
    ("small", "reproduction"): 2_992_892,
    ("base", "reproduction"): 46_672_770,
    ("large", "reproduction"): 103_084_334,
}
DECLARED_BY_AUTHORS, WITHOUT_GRADIENT = 2_511_081, 264_670


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def last_convolution(head: nn.Module) -> nn.Conv2d:
    *_, last = head.modules()
    assert isinstance(last, nn.Conv2d)
    return last


def skip_count(channels: int, kernel: int) -> int:
    """Parameters of a published SSFB by hand: four 1x1 maps, one to 2C, one from 2C, 3x3 groups, two PReLUs."""
    square = channels * channels
    return 4 * (square + channels) + 2 * (2 * square) + 3 * channels + (18 * channels + channels) + 2 + kernel


@pytest.mark.parametrize(("size", "design"), COUNTS)
def test_parameter_counts_are_the_documented_ones(size: Size, design: Design) -> None:
    with torch.device("meta"):
        network = Spectroformer(size=size, design=design)
    assert count(network) == COUNTS[size, design]
    assert f"{count(network):,}" in str(spectroformer.__doc__)


def test_official_count_is_the_declared_one_minus_uncalled_modules() -> None:
    """Minus attention[3], ups_4, ups1, ups2 and output1; of the rest only the frequency queries had no gradient."""
    up_4 = 4 * (3 * 3 + 3) + (3 * 1 + 1) + 3 * 6 * 9 + 3
    uncalled = skip_count(64, 3) + up_4 + 32 * 64 * 9 + 16 * 32 * 9 + 16 * 8 * 9
    blocks = [(16, 2), (32, 3), (64, 3), (128, 4), (64, 3), (32, 3), (32, 2), (32, 4)]
    queries = sum(2 * channels**2 * number for channels, number in blocks)
    assert uncalled + queries == WITHOUT_GRADIENT
    assert DECLARED_BY_AUTHORS - uncalled == COUNTS["small", "official"]


@pytest.mark.parametrize("design", ["official", "reproduction"])
def test_every_parameter_receives_a_gradient(design: Design) -> None:
    torch.manual_seed(0)
    network = Spectroformer(design=design)
    restored = network(torch.rand(2, 3, 32, 32))
    (restored - torch.rand(2, 3, 32, 32)).square().mean().backward()
    without_gradient = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without_gradient == []
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_any_image_size() -> None:
    network = Spectroformer(in_channels=1, out_channels=2, residual=False).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 1, 37, 18)).shape == (1, 2, 37, 18)
        assert network(torch.rand(1, 1, 3, 1)).shape == (1, 2, 3, 1)


def test_residual_is_added_to_the_input() -> None:
    network = Spectroformer()
    nn.init.zeros_(last_convolution(network.head).weight)
    noisy = torch.rand(1, 3, 16, 24)
    assert torch.equal(network(noisy), noisy)
    with pytest.raises(ConfigError, match="must be equal"):
        Spectroformer(in_channels=1)


def test_checkpointing_gives_the_same_gradients() -> None:
    torch.manual_seed(1)
    plain, checkpointed = Spectroformer(), Spectroformer(checkpointing=True)
    checkpointed.load_state_dict(plain.state_dict())
    noisy = torch.rand(1, 3, 16, 16)
    for network in (plain, checkpointed):
        network(noisy).square().mean().backward()
    for a, b in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None and torch.allclose(a.grad, b.grad, rtol=1e-5, atol=1e-8)


def test_frequency_filter_equals_the_one_on_the_full_spectrum() -> None:
    torch.manual_seed(2)
    image = torch.randn(2, 3, 10, 7, dtype=torch.float64)
    filtered = FrequencyFilter(3, spectrum="real", bias=True).double()
    literal = torch.fft.ifft2(filtered.mix(torch.fft.fft2(image).real)).real
    assert torch.allclose(filtered(image), literal, atol=1e-12)


def test_fourier_upsampling_equals_tiling_the_spectrum() -> None:
    torch.manual_seed(3)
    image = torch.randn(2, 4, 6, 8, dtype=torch.float64)
    up = HybridUpsample(4, bias=True).double().fourier
    spectrum = torch.fft.fft2(image)
    magnitude, angle = up.magnitude(spectrum.abs()).tile(2, 2), up.phase(phase(spectrum)).tile(2, 2)
    literal = up.post(torch.fft.ifft2(torch.polar(torch.ones_like(angle), angle) * magnitude).abs())
    assert torch.allclose(up(image), literal, atol=1e-12)


def test_published_gate_reads_the_mean_of_a_phase_only_image_and_stays_near_one_half() -> None:
    torch.manual_seed(4)
    image = torch.randn(2, 8, 12, 9, dtype=torch.float64)
    gate = PhaseGate(8).double()
    spectrum = torch.fft.fft2(image)
    phase_only = torch.fft.ifft2(spectrum / spectrum.abs()).real
    literal = torch.sigmoid(gate.mix(phase_only.mean((2, 3))[:, None]))[:, 0, :, None, None]
    assert torch.allclose(gate(image), image * literal, atol=1e-12)
    assert (literal - 0.5).abs().max() < gate.mix.weight.abs().sum() / (4 * 12 * 9) + 1e-12
    bright = image + 10 * torch.randn(2, 8, 1, 1, dtype=torch.float64)
    energy_gate = EnergyGate(8).double()
    assert (energy_gate(bright) / bright - 0.5).abs().max() > 0.05


def test_second_attention_depends_on_the_frequency_query() -> None:
    torch.manual_seed(5)
    attention, image = QueryCascade(8, 2, spectrum="real"), torch.randn(1, 8, 8, 8)
    before = attention(image)
    with torch.no_grad():
        assert attention.query is not None
        next(attention.query.parameters()).mul_(-1)
    assert not torch.allclose(before, attention(image), atol=1e-6)


def test_first_attention_again_as_in_the_official_code_has_no_query_and_all_its_parameters_learn() -> None:
    torch.manual_seed(7)
    network = Spectroformer(second_attention="first")
    assert count(Spectroformer()) - count(network) == 205_824
    network(torch.rand(1, 3, 16, 16)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    attention, image = QueryCascade(8, 2, spectrum="real", repeats_first=True), torch.randn(1, 8, 8, 8)
    query, key, value = attention.first(image).chunk(3, 1)
    q, k = (torch.nn.functional.normalize(t.reshape(1, 2, 4, 64), dim=-1) for t in (query, key))
    weights = torch.softmax(q @ k.transpose(-2, -1), -1)
    spatial = attention.between((weights @ value.reshape(1, 2, 4, 64)).reshape(image.shape))
    again = attention.second(spatial).chunk(2, 1)[1].reshape(1, 2, 4, 64)
    expected = attention.out((weights @ again).reshape(image.shape))
    assert torch.allclose(attention(image), expected, atol=1e-6)


def test_phase_has_the_gradient_of_the_angle_and_a_finite_one_at_zero() -> None:
    torch.manual_seed(6)
    parts = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    angle = phase(torch.complex(parts[0] + 3, parts[1]))
    assert torch.allclose(angle, torch.angle(torch.complex(parts[0] + 3, parts[1])))
    (gradient,) = torch.autograd.grad(angle.sum(), parts)
    (expected,) = torch.autograd.grad(torch.angle(torch.complex(parts[0] + 3, parts[1])).sum(), parts)
    assert torch.allclose(gradient, expected, rtol=1e-6)
    tiny = torch.tensor([1e-30, -1e-30, 0.0], requires_grad=True)
    (slope,) = torch.autograd.grad(phase(torch.complex(tiny, tiny)).sum(), tiny)
    assert torch.isfinite(slope).all() and slope.abs().max() < 1 / 1e-3


def test_rounding_errors_do_not_flip_the_phase() -> None:
    real = torch.full((2,), -5.0)
    angle = phase(torch.complex(real, torch.tensor([1e-7, -1e-7])))
    assert torch.equal(angle, torch.full((2,), math.pi))


@pytest.mark.parametrize("design", ["official", "reproduction"])
def test_spectra_and_attention_stay_in_float32_under_bfloat16(design: Design) -> None:
    torch.manual_seed(7)
    network = Spectroformer(design=design).eval()
    dtypes: list[torch.dtype] = []

    def record(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        dtypes.append(output.dtype)

    for name, module in network.named_modules():
        if isinstance(module, FrequencyFilter) or name.endswith((".fourier", ".norm1", ".magnitude", ".phase")):
            module.register_forward_hook(record)
    head_dtypes: list[torch.dtype] = []
    noisy = torch.rand(1, 3, 24, 40)
    with torch.no_grad():
        exact = network(noisy)
        network.head.register_forward_hook(lambda module, arguments, output: head_dtypes.append(output.dtype))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(noisy)
    assert dtypes and all(dtype == torch.float32 for dtype in dtypes)
    assert head_dtypes == [torch.bfloat16]
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max().clamp_min(0.1)


def test_blocks_pass_a_gradient_check() -> None:
    torch.manual_seed(8)
    image = torch.randn(1, 4, 4, 6, dtype=torch.float64, requires_grad=True)
    for module in (
        QueryCascade(4, 2, spectrum="real"),
        QueryCascade(4, 2, spectrum="complex"),
        HybridUpsample(4, bias=True),
    ):
        assert torch.autograd.gradcheck(module.double(), image, atol=1e-4, rtol=1e-3)
