"""Pairs that are mirrored, turned or inverted are found in any contrast and in noise; others are not suspected."""

from functools import lru_cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from quell.shards.checks.orientation import ORIENTATIONS, PairScore, Picture, Suspect, compare, picture, suspects
from quell.shards.reading.pixels.transforms import generator
from quell.shards.sources.phantom import clean_pair

UNDO = {1: 3, 2: 2, 3: 1, 4: 4, 5: 5, 6: 6, 7: 7}
"""What was done to an image -> the orientation that brings it back."""


@lru_cache(maxsize=2)
def contrasts(count: int = 8) -> list[tuple[np.ndarray, np.ndarray]]:
    """Noisy complex PD and PDFS of generated knees."""
    pairs = []
    for number in range(count):
        random = generator(7, 0, number, 1)
        pd, pdfs = clean_pair(random, 96)
        noise = [0.1 * (random.standard_normal(pd.shape) + 1j * random.standard_normal(pd.shape)) for _ in range(2)]
        pairs.append((pd + noise[0], pdfs + noise[1]))
    return pairs


def scene(seed: int, shape: tuple[int, int]) -> np.ndarray:
    """A smooth random image."""
    values = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 5)
    return 0.5 + 0.3 * values / values.std()


def turned(image: np.ndarray, how: int) -> np.ndarray:
    return np.rot90(image[:, ::-1] if how >= 4 else image, how % 4)


def inverted(image: np.ndarray) -> np.ndarray:
    magnitude = np.abs(image)
    return magnitude.max() - magnitude


def score(first: np.ndarray, second: np.ndarray) -> PairScore | None:
    a, b = picture(first), picture(second)
    assert isinstance(a, Picture) and isinstance(b, Picture)
    return compare(a, b)


def found(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[int, int, bool]]:
    return [(s.sample, s.orientation, s.is_inverted) for s in suspects([score(*pair) for pair in pairs])]


def test_intact_pairs_are_not_suspected_whatever_the_contrast() -> None:
    assert found(contrasts()) == []
    assert found([(np.abs(a), np.abs(b)) for a, b in contrasts()]) == []
    assert found(contrasts()[:3]) == [] and found(contrasts()[:1]) == []


@pytest.mark.parametrize("how", range(1, 8))
def test_one_turned_contrast_among_others_is_named(how: int) -> None:
    pairs = list(contrasts())
    pairs[5] = pairs[5][0], turned(pairs[5][1], how)
    assert found(pairs) == [(5, UNDO[how], False)]
    pairs[5] = turned(contrasts()[5][0], how), contrasts()[5][1]  # the other image of the pair
    assert [sample for sample, _, _ in found(pairs)] == [5]


@pytest.mark.parametrize("how", [1, 2, 4, 7])
def test_a_whole_set_that_is_turned_is_found(how: int) -> None:
    assert found([(a, turned(b, how)) for a, b in contrasts()]) == [(i, UNDO[how], False) for i in range(8)]


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("shape", [(80, 80), (60, 130), (31, 90)])
def test_noisy_and_clean_images_of_any_size(sigma: float, shape: tuple[int, int]) -> None:
    random = np.random.default_rng(3)
    clean = [scene(seed, shape) for seed in range(6)]
    pairs = [(image + sigma * random.standard_normal(shape), image) for image in clean]
    assert found(pairs) == [] and found(pairs[:1]) == []
    pairs[2] = pairs[2][0], inverted(pairs[2][1])
    pairs[4] = pairs[4][0], pairs[4][1][::-1]
    assert found(pairs) == [(2, 0, True), (4, 6, False)]
    assert found([(noisy, inverted(image[:, ::-1])) for noisy, image in zip(clean, clean, strict=True)]) == [
        (i, 4, True) for i in range(6)
    ]
    assert found(pairs[4:5]) == [(0, 6, False)]


def test_colour_is_compared_by_its_mean() -> None:
    clean = [np.stack([scene(3 * seed + c, (64, 64)) for c in range(3)], axis=2) for seed in range(5)]
    assert found([(image, image**1.4) for image in np.abs(clean)]) == []
    assert found([(image, 1 - image) for image in clean]) == [(i, 0, True) for i in range(5)]


def test_unrelated_images_constants_and_tiny_images_are_not_judged() -> None:
    pairs = contrasts()
    assert found([(pairs[i][0], pairs[(i + 3) % 8][0]) for i in range(8)]) == []
    unrelated = [(scene(i, (64, 64)), scene(i + 50, (64, 64))) for i in range(12)]
    assert found(unrelated) == [] and found(unrelated[:2]) == []
    assert picture(np.ones((40, 40))) is None and picture(np.eye(5)) is None
    assert suspects([None, None]) == []
    tall, wide = picture(scene(0, (20, 90))), picture(scene(0, (90, 20)))
    assert tall is not None and wide is not None and compare(tall, wide) is None


def test_the_sentence_names_fields_orientation_and_scores() -> None:
    fits = PairScore((0.2, 0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1), -0.95, (0.1, 0.9))
    assert Suspect(0, 4, True, fits).says("noisy", "clean") == (
        "clean fits noisy better when it is mirrored left-right (edges correlate by 0.90, as stored by 0.20) and "
        "inverted, black for white (grey values correlate by -0.95)"
    )
    assert len(ORIENTATIONS) == 8
