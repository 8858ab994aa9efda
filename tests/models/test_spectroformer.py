"""Spectroformer: sizes of the published designs, identities against their literal formulas, precision, gradients."""

import math

import pytest
import torch
from torch import Tensor, nn

from configs.errors import ConfigError
from models import spectroformer
from models.blocks.spectro_attention import FrequencyFilter, QueryCascade
from models.blocks.spectro_scales import EnergyGate, HybridUp, PhaseGate, phase
from models.spectroformer import Spectroformer

COUNTS = {
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


def skip_count(channels: int, kernel: int) -> int:
    """Parameters of one published SSFB, by hand: four 1x1 maps, one to 2C, one from 2C, 3x3 groups, two PReLUs."""
    square = channels * channels
    return 4 * (square + channels) + 2 * (2 * square) + 3 * channels + (18 * channels + channels) + 2 + kernel


@pytest.mark.parametrize(("size", "design"), COUNTS)
def test_sizes_are_those_stated(size: str, design: str) -> None:
    with torch.device("meta"):
        network = Spectroformer(size=size, design=design)  # type: ignore[arg-type]
    assert count(network) == COUNTS[size, design]
    assert f"{count(network):,}" in str(spectroformer.__doc__)


def test_the_official_size_is_the_declared_one_without_modules_nothing_calls() -> None:
    """Minus attention[3], ups_4, ups1, ups2 and output1; the frequency queries are all else that had no gradient."""
    up_4 = 4 * (3 * 3 + 3) + (3 * 1 + 1) + 3 * 6 * 9 + 3
    uncalled = skip_count(64, 3) + up_4 + 32 * 64 * 9 + 16 * 32 * 9 + 16 * 8 * 9
    blocks = [(16, 2), (32, 3), (64, 3), (128, 4), (64, 3), (32, 3), (32, 2), (32, 4)]
    queries = sum(2 * channels**2 * number for channels, number in blocks)
    assert uncalled + queries == WITHOUT_GRADIENT
    assert DECLARED_BY_AUTHORS - uncalled == COUNTS["small", "official"]


@pytest.mark.parametrize("design", ["official", "reproduction"])
def test_every_parameter_receives_gradient(design: str) -> None:
    torch.manual_seed(0)
    network = Spectroformer(design=design)  # type: ignore[arg-type]
    restored = network(torch.rand(2, 3, 32, 32))
    (restored - torch.rand(2, 3, 32, 32)).square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_any_height_and_width() -> None:
    network = Spectroformer(in_channels=1, out_channels=2, residual=False).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 1, 37, 18)).shape == (1, 2, 37, 18)
        assert network(torch.rand(1, 1, 3, 1)).shape == (1, 2, 3, 1)


def test_residual_adds_the_input() -> None:
    network = Spectroformer()
    nn.init.zeros_(network.head[-1].weight)  # type: ignore[index]
    noisy = torch.rand(1, 3, 16, 24)
    assert torch.equal(network(noisy), noisy)
    with pytest.raises(ConfigError, match="must be equal"):
        Spectroformer(in_channels=1)


def test_checkpointing_gives_the_same_gradients() -> None:
    torch.manual_seed(1)
    plain, thrifty = Spectroformer(), Spectroformer(checkpointing=True)
    thrifty.load_state_dict(plain.state_dict())
    noisy = torch.rand(1, 3, 16, 16)
    for network in (plain, thrifty):
        network(noisy).square().mean().backward()
    for a, b in zip(plain.parameters(), thrifty.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None and torch.allclose(a.grad, b.grad, rtol=1e-5, atol=1e-8)


def test_frequency_filter_is_the_literal_one_on_the_whole_spectrum() -> None:
    torch.manual_seed(2)
    image = torch.randn(2, 3, 10, 7, dtype=torch.float64)
    filtered = FrequencyFilter(3, spectrum="real", bias=True).double()
    literal = torch.fft.ifft2(filtered.mix(torch.fft.fft2(image).real)).real
    assert torch.allclose(filtered(image), literal, atol=1e-12)


def test_fourier_upsampling_is_the_tiled_spectrum() -> None:
    torch.manual_seed(3)
    image = torch.randn(2, 4, 6, 8, dtype=torch.float64)
    up = HybridUp(4, bias=True).double().fourier
    spectrum = torch.fft.fft2(image)
    magnitude, angle = up.magnitude(spectrum.abs()).tile(2, 2), up.phase(phase(spectrum)).tile(2, 2)
    literal = up.post(torch.fft.ifft2(torch.polar(torch.ones_like(angle), angle) * magnitude).abs())
    assert torch.allclose(up(image), literal, atol=1e-12)


def test_the_published_gate_is_the_mean_of_a_phase_only_image_and_stays_near_one_half() -> None:
    torch.manual_seed(4)
    image = torch.randn(2, 8, 12, 9, dtype=torch.float64)
    gate = PhaseGate(8).double()
    spectrum = torch.fft.fft2(image)
    phase_only = torch.fft.ifft2(spectrum / spectrum.abs()).real
    literal = torch.sigmoid(gate.mix(phase_only.mean((2, 3))[:, None]))[:, 0, :, None, None]
    assert torch.allclose(gate(image), image * literal, atol=1e-12)
    assert (literal - 0.5).abs().max() < gate.mix.weight.abs().sum() / (4 * 12 * 9) + 1e-12
    bright = image + 10 * torch.randn(2, 8, 1, 1, dtype=torch.float64)
    other = EnergyGate(8).double()
    assert (other(bright) / bright - 0.5).abs().max() > 0.05


def test_second_attention_depends_on_the_frequency_query() -> None:
    torch.manual_seed(5)
    attention, image = QueryCascade(8, 2, spectrum="real"), torch.randn(1, 8, 8, 8)
    before = attention(image)
    with torch.no_grad():
        attention.query.mix[0].weight.mul_(-1)  # type: ignore[operator]
    assert not torch.allclose(before, attention(image), atol=1e-6)


def test_phase_has_the_angles_gradient_and_a_finite_one_at_zero() -> None:
    torch.manual_seed(6)
    parts = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    angle = phase(torch.complex(parts[0] + 3, parts[1]))
    assert torch.allclose(angle, torch.angle(torch.complex(parts[0] + 3, parts[1])))
    (got,) = torch.autograd.grad(angle.sum(), parts)
    (wanted,) = torch.autograd.grad(torch.angle(torch.complex(parts[0] + 3, parts[1])).sum(), parts)
    assert torch.allclose(got, wanted, rtol=1e-6)
    tiny = torch.tensor([1e-30, -1e-30, 0.0], requires_grad=True)
    (slope,) = torch.autograd.grad(phase(torch.complex(tiny, tiny)).sum(), tiny)
    assert torch.isfinite(slope).all() and slope.abs().max() < 1 / 1e-3


def test_a_rounding_error_does_not_turn_the_phase_around() -> None:
    real = torch.full((2,), -5.0)
    angle = phase(torch.complex(real, torch.tensor([1e-7, -1e-7])))
    assert torch.equal(angle, torch.full((2,), math.pi))


@pytest.mark.parametrize("design", ["official", "reproduction"])
def test_spectra_and_attention_stay_in_float32_under_bfloat16(design: str) -> None:
    torch.manual_seed(7)
    network = Spectroformer(design=design).eval()  # type: ignore[arg-type]
    seen: list[tuple[str, torch.dtype]] = []

    def watch(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((type(module).__name__, output.dtype))

    for name, module in network.named_modules():
        if isinstance(module, FrequencyFilter) or name.endswith((".fourier", ".norm1", ".magnitude", ".phase")):
            module.register_forward_hook(watch)
    seen_head: list[torch.dtype] = []
    noisy = torch.rand(1, 3, 24, 40)
    with torch.no_grad():
        exact = network(noisy)
        network.head.register_forward_hook(lambda module, arguments, output: seen_head.append(output.dtype))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(noisy)
    assert seen and all(dtype == torch.float32 for _, dtype in seen)
    assert seen_head == [torch.bfloat16]
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max().clamp_min(0.1)


def test_fields_of_the_blocks_pass_a_gradient_check() -> None:
    torch.manual_seed(8)
    image = torch.randn(1, 4, 4, 6, dtype=torch.float64, requires_grad=True)
    for module in (QueryCascade(4, 2, spectrum="real"), QueryCascade(4, 2, spectrum="complex"), HybridUp(4, bias=True)):
        assert torch.autograd.gradcheck(module.double(), image, atol=1e-4, rtol=1e-3)
