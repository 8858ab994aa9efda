"""Geometries of many samples in one draw: each sample's own, spread evenly, turned as numpy turns."""

import itertools

import numpy as np
import pytest

from quell.shards.reading.draws import geometry, splitmix
from quell.shards.reading.draws.geometry import NUMBERS, Geometries, PhiloxUniforms
from quell.shards.reading.pixels.transforms import generator

KEYS = [(1, 0, 2, 3), (-7, 1 << 32 | 5, 0, 0), (2**63, 4, 2**40, 2**39)]
"""Seed, stream, epoch, sample."""


@pytest.mark.parametrize("uniforms", [splitmix.uniforms, PhiloxUniforms()], ids=["splitmix", "philox"])
def test_the_numbers_of_a_sample_are_its_own(uniforms: geometry.Uniforms) -> None:
    """They depend on seed, stream, epoch and sample, and on nothing that is drawn at the same time."""
    epochs, samples = np.arange(40) // 8, np.arange(40) % 8
    together = uniforms(3, 5, epochs, samples, NUMBERS)
    assert together.shape == (40, NUMBERS) and (together >= 0).all() and (together < 1).all()
    for part in (slice(0, 1), slice(7, 20), slice(39, 40)):
        assert np.array_equal(uniforms(3, 5, epochs[part], samples[part], NUMBERS), together[part])
    others = [uniforms(4, 5, epochs, samples, NUMBERS), uniforms(3, 6, epochs, samples, NUMBERS)]
    drawn = np.concatenate([together, *others])
    assert len(np.unique(drawn)) == drawn.size


def test_a_philox_that_is_moved_draws_what_new_ones_draw() -> None:
    philox = PhiloxUniforms()
    for seed, stream, epoch, sample in KEYS * 2:
        expected = generator(seed, epoch, sample, stream)
        moved = philox.generator(seed, epoch, sample, stream)
        assert np.array_equal(moved.standard_normal(1001, np.float32), expected.standard_normal(1001, np.float32))
        own = philox(seed, stream, np.array([epoch]), np.array([sample]), 6)[0]
        assert np.array_equal(own, generator(seed, epoch, sample, stream).random(6))


def test_splitmix_is_uniform_and_uncorrelated() -> None:
    """Over 200,000 neighbouring samples: means, variances, a histogram, and correlations with neighbours."""
    count = 200_000
    drawn = splitmix.uniforms(0, 0, np.zeros(count, np.int64), np.arange(count), 4)
    assert abs(drawn.mean(0) - 0.5).max() < 5 * np.sqrt(1 / 12 / count)
    assert abs(drawn.var(0) - 1 / 12).max() < 5 * np.sqrt(1 / 180 / count)
    cells = np.bincount((drawn[:, 0] * 16).astype(int) * 16 + (drawn[:, 1] * 16).astype(int), minlength=256)
    chi_square = ((cells - count / 256) ** 2 / (count / 256)).sum()
    assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)
    centred = drawn - 0.5
    limit = 5 / np.sqrt(count)
    pairs = [(centred[:, a], centred[:, b]) for a, b in itertools.combinations(range(4), 2)]
    pairs += [(centred[1:, a], centred[:-1, b]) for a in range(4) for b in range(4)]
    assert all(abs((a * b).mean() * 12) < limit for a, b in pairs)


def test_what_is_switched_off_does_not_change_the_rest() -> None:
    epochs, samples = np.zeros(50, np.int64), np.arange(50)
    plain = geometry.draw(0, 0, epochs, samples, flip=False, rotate=False)
    full = geometry.draw(0, 0, epochs, samples, flip=True, rotate=True)
    for name in ("top", "left", "theta"):
        assert np.array_equal(getattr(plain, name), getattr(full, name))
    assert not plain.mirror_rows.any() and not plain.mirror_columns.any() and not plain.quarter_turns.any()


def test_draws_cover_every_crop_mirroring_and_rotation_evenly() -> None:
    drawn = geometry.draw(0, 0, np.zeros(4000, np.int64), np.arange(4000), flip=True, rotate=True)
    tops, lefts = drawn.corners(np.full(4000, 13), np.full(4000, 20), 10)
    for values, sides in ((tops, 4), (lefts, 11), (drawn.quarter_turns, 4), (drawn.mirror_rows.astype(int), 2)):
        counts = np.bincount(values, minlength=sides)
        expected = 4000 / sides
        assert len(counts) == sides and abs(counts - expected).max() < 5 * np.sqrt(expected)
    assert (drawn.theta >= 0).all() and 6.2 < drawn.theta.max() < 2 * np.pi
    whole = drawn.corners(np.full(4000, 13), np.full(4000, 20), None)
    assert not whole[0].any() and not whole[1].any()


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2)])
def test_turning_agrees_with_numpy(shape: tuple[int, ...]) -> None:
    image = np.arange(np.prod(shape)).reshape(shape)
    kinds = list(itertools.product((False, True), (False, True), range(4)))
    rows, columns, turns = (np.array(values) for values in zip(*kinds, strict=True))
    drawn = Geometries.identity(16)._replace(mirror_rows=rows, mirror_columns=columns, quarter_turns=turns)
    for i, (mirror_rows, mirror_columns, quarter_turns) in enumerate(kinds):
        expected = image[::-1] if mirror_rows else image
        expected = np.rot90(expected[:, ::-1] if mirror_columns else expected, quarter_turns)
        assert np.array_equal(drawn.turns().apply(i, image), expected)
