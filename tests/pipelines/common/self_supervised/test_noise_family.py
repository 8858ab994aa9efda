"""The random family of noise: levels, spectra and maps are what they are said to be, and vary within their ranges."""

import math

import pytest
import torch
from torch import Tensor

from quell.pipelines.common.self_supervised import noise_family
from quell.pipelines.common.self_supervised.noise_family import Family


def normals(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", [63, 64])
def test_filtered_noise_has_unit_variance_and_the_correlation_of_its_filter(width: int) -> None:
    columns = torch.tensor([0.0, 1.0]).repeat_interleave(100)
    noise = noise_family.filtered(normals(0, 200, 1, 64, width), torch.zeros(200), columns)
    for images, expected in ((noise[:100], 0.0), (noise[100:], math.exp(-1 / 4))):
        assert float(images.var()) == pytest.approx(1, abs=0.02)
        assert float((images * images.roll(1, -1)).mean()) == pytest.approx(expected, abs=0.01)
        assert float((images * images.roll(1, -2)).mean()) == pytest.approx(0, abs=0.01)


def test_a_white_draw_keeps_its_random_numbers() -> None:
    white = normals(1, 2, 2, 9, 12)
    assert torch.allclose(noise_family.filtered(white, torch.zeros(2), torch.zeros(2)), white, atol=1e-5)


def test_draws_differ_in_level_spectrum_and_map_and_stay_in_their_ranges() -> None:
    family = Family((0.05, 0.2), blur_px=1.5, map_ratio=4.0)
    drawn = noise_family.draw(family, normals(2, 300, 1, 32, 32), normals(3, 300, 1, 32, 32))
    level = drawn.sigma.square().mean((1, 2, 3)).sqrt()
    assert 0.05 <= float(level.min()) < 0.06 and 0.18 < float(level.max()) <= 0.2 + 1e-6
    flat = (drawn.sigma.amax((1, 2, 3)) - drawn.sigma.amin((1, 2, 3))) < 1e-6
    assert 0.4 < float(flat.float().mean()) < 0.6
    unit = drawn.noise / drawn.sigma
    correlation = (unit * unit.roll(1, -1)).mean((1, 2, 3))
    assert 0.35 < float((correlation > 0.3).float().mean()) < 0.65 and float(correlation.max()) > 0.8
    assert float(unit.square().mean()) == pytest.approx(1, abs=0.03)


def test_a_ratio_of_one_has_no_map_and_the_signal_raises_the_noise_where_it_is_bright() -> None:
    family = Family((0.1, 0.1), blur_px=0.0, map_ratio=1.0)
    assert noise_family.draw(family, normals(4, 9, 1, 16, 16), normals(5, 9, 1, 16, 16)).sigma.unique().numel() == 1
    signal = torch.linspace(0, 1, 16).expand(200, 1, 16, 16)
    sigma = noise_family.draw(family, normals(6, 200, 1, 16, 16), normals(7, 200, 1, 16, 16), signal).sigma
    assert (sigma[..., -1] >= sigma[..., 0] - 1e-6).all()
    assert 0.4 < float((sigma[:, 0, 0, -1] > sigma[:, 0, 0, 0] + 1e-6).float().mean()) < 0.6
    assert sigma.square().mean().item() == pytest.approx(0.01, rel=1e-3)


def test_a_draw_depends_on_the_numbers_of_its_own_image_alone() -> None:
    family = Family((0.05, 0.2), blur_px=1.5, map_ratio=4.0)
    normal, numbers = normals(8, 3, 2, 16, 16), normals(9, 3, 2, 16, 16)
    together = noise_family.draw(family, normal, numbers)
    alone = noise_family.draw(family, normal[1:2], numbers[1:2])
    assert torch.equal(alone.noise, together.noise[1:2]) and torch.equal(alone.sigma, together.sigma[1:2])
