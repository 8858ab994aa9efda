"""CNR, ENL and MSR on regions with known statistics, given and found."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from configs.errors import DataError
from losses.metrics.cnr import cnr
from losses.metrics.common.rois import Box, Rois, automatic
from losses.metrics.enl import enl
from losses.metrics.msr import msr

ROIS = Rois(background=(Box(4, 4, 24, 24),), foreground=(Box(4, 40, 20, 20), Box(40, 40, 20, 20)))


def layers(sigma: float) -> NDArray[np.float64]:
    """A dark left half and a bright right half with noise of a known level everywhere."""
    image = np.where(np.arange(64) < 32, 0.2, 0.8) * np.ones((64, 64))
    return image + sigma * np.random.default_rng(0).standard_normal(image.shape)


def test_given_regions_by_their_formulas() -> None:
    image = layers(0.05)
    dark = image[4:28, 4:28]
    bright = [image[4:24, 40:60], image[40:60, 40:60]]
    contrast = [10 * math.log10((b.mean() - dark.mean()) / math.sqrt((b.var() + dark.var()) / 2)) for b in bright]
    assert cnr(image, data_range=1, rois=ROIS) == pytest.approx(np.mean(contrast))
    assert enl(image, data_range=1, rois=ROIS) == pytest.approx(dark.mean() ** 2 / dark.var())
    assert msr(image, data_range=1, rois=ROIS) == pytest.approx(np.mean([b.mean() / b.std() for b in bright]))
    assert cnr(image, data_range=1, rois=ROIS) == pytest.approx(10 * math.log10(0.6 / 0.05), abs=0.3)
    colour = np.stack([image - 0.1, image, image + 0.1], axis=-1)
    for metric in (cnr, enl, msr):
        assert metric(colour, data_range=1, rois=ROIS) == pytest.approx(metric(image, data_range=1, rois=ROIS))


def test_less_noise_scores_better_on_the_regions_of_the_clean_image() -> None:
    clean, noisy = layers(0.01), layers(0.2)
    blurred = gaussian_filter(noisy, 1)
    for metric in (cnr, enl, msr):
        assert metric(blurred, clean, data_range=1) > metric(noisy, clean, data_range=1)
        assert metric(noisy, clean, data_range=1) == metric(noisy, data_range=1, rois=automatic(clean))


def test_found_regions_are_dark_bright_apart_and_not_padding() -> None:
    image = layers(0.02)
    image[:16] = 0.0
    found = automatic(image)
    assert len(found.background) == 1 and 1 < len(found.foreground) <= 5
    assert found.background[0].of(image).mean() < 0.3 and found.background[0].row >= 9
    assert found.background[0].of(image).std() > 0
    taken = np.zeros(image.shape, dtype=int)
    for box in found.foreground:
        assert box.of(image).mean() > 0.7
        taken[box.row : box.row + box.height, box.column : box.column + box.width] += 1
    assert taken.max() == 1 and taken.sum() == len(found.foreground) * 64


def test_found_regions_are_the_calmest_by_brute_force() -> None:
    image = gaussian_filter(np.random.default_rng(5).random((40, 50)), 2)
    found = automatic(image)
    spots = [Box(row, column, 8, 8) for row in range(33) for column in range(43)]
    dark = np.percentile([box.of(image).mean() for box in spots], 25)
    best = min((box for box in spots if box.of(image).mean() <= dark), key=lambda box: float(box.of(image).std()))
    assert found.background == (best,)


def test_constant_regions_are_infinite_and_equal_ones_have_no_contrast() -> None:
    flat = np.ones((64, 64))
    assert enl(flat, data_range=1, rois=ROIS) == msr(flat, data_range=1, rois=ROIS) == math.inf
    assert cnr(flat, data_range=1, rois=ROIS) == math.inf
    with pytest.raises(DataError, match="regions"):
        automatic(flat)


def test_a_restored_image_that_is_not_finite_scores_worst() -> None:
    image = layers(0.05)
    image[0, 0] = np.nan
    assert cnr(image, data_range=1, rois=ROIS) == -math.inf
    assert enl(image, data_range=1, rois=ROIS) == msr(image, data_range=1, rois=ROIS) == 0
    everywhere = np.full((64, 64), np.nan)
    assert enl(everywhere, data_range=1, rois=ROIS) == msr(everywhere, data_range=1, rois=ROIS) == 0


def test_region_files(tmp_path: Path) -> None:
    path = tmp_path / "rois.json"
    path.write_text(json.dumps({"background": [[4, 4, 24, 24]], "foreground": [[4, 40, 20, 20], [40, 40, 20, 20]]}))
    assert Rois.from_file(path) == ROIS
    for wrong in ('{"background": [[1, 2, 3]], "foreground": [[1, 2, 3, 4]]}', "[]", "{", '{"background": []}'):
        path.write_text(wrong)
        with pytest.raises(DataError, match="expected"):
            Rois.from_file(path)
    path.write_text('{"background": [], "foreground": [[1, 2, 3, 4]]}')
    with pytest.raises(DataError, match="at least one"):
        Rois.from_file(path)
    with pytest.raises(DataError, match="reaches out"):
        enl(layers(0.1)[:20], data_range=1, rois=ROIS)
