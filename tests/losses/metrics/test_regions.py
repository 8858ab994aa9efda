"""CNR, ENL and MSR on regions with known statistics, given in a file or found in the image."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from quell.configs.errors import DataError
from quell.losses.metrics.cnr import cnr
from quell.losses.metrics.common.rois import Box, Rois, find_rois
from quell.losses.metrics.enl import enl
from quell.losses.metrics.msr import msr

ROIS = Rois(background=(Box(4, 4, 24, 24),), foreground=(Box(4, 40, 20, 20), Box(40, 40, 20, 20)))


def two_halves(sigma: float) -> NDArray[np.float64]:
    """A dark left half and a bright right half with noise of a known level everywhere."""
    image = np.where(np.arange(64) < 32, 0.2, 0.8) * np.ones((64, 64))
    return image + sigma * np.random.default_rng(0).standard_normal(image.shape)


def test_metrics_on_given_regions_equal_their_formulas() -> None:
    image = two_halves(0.05)
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
    clean, noisy = two_halves(0.01), two_halves(0.2)
    blurred = gaussian_filter(noisy, 1)
    for metric in (cnr, enl, msr):
        assert metric(blurred, clean, data_range=1) > metric(noisy, clean, data_range=1)
        assert metric(noisy, clean, data_range=1) == metric(noisy, data_range=1, rois=find_rois(clean))


def test_found_regions_are_dark_and_bright_disjoint_and_not_padding() -> None:
    image = two_halves(0.02)
    image[:16] = 0.0
    rois = find_rois(image)
    assert len(rois.background) == 1 and 1 < len(rois.foreground) <= 5
    assert rois.background[0].of(image).mean() < 0.3 and rois.background[0].row >= 9
    assert rois.background[0].of(image).std() > 0
    coverage = np.zeros(image.shape, dtype=int)
    for box in rois.foreground:
        assert box.of(image).mean() > 0.7
        coverage[box.row : box.row + box.height, box.column : box.column + box.width] += 1
    assert coverage.max() == 1 and coverage.sum() == len(rois.foreground) * 64


def test_found_region_is_the_most_homogeneous_by_brute_force() -> None:
    image = gaussian_filter(np.random.default_rng(5).random((40, 50)), 2)
    rois = find_rois(image)
    candidates = [Box(row, column, 8, 8) for row in range(33) for column in range(43)]
    dark = np.percentile([box.of(image).mean() for box in candidates], 25)
    best = min((box for box in candidates if box.of(image).mean() <= dark), key=lambda box: float(box.of(image).std()))
    assert rois.background == (best,)


def test_constant_regions_score_infinity_and_cannot_be_found() -> None:
    flat = np.ones((64, 64))
    assert enl(flat, data_range=1, rois=ROIS) == msr(flat, data_range=1, rois=ROIS) == math.inf
    assert cnr(flat, data_range=1, rois=ROIS) == math.inf
    with pytest.raises(DataError, match="regions"):
        find_rois(flat)


def test_restored_image_that_is_not_finite_scores_worst() -> None:
    image = two_halves(0.05)
    image[0, 0] = np.nan
    assert cnr(image, data_range=1, rois=ROIS) == -math.inf
    assert enl(image, data_range=1, rois=ROIS) == msr(image, data_range=1, rois=ROIS) == 0
    everywhere = np.full((64, 64), np.nan)
    assert enl(everywhere, data_range=1, rois=ROIS) == msr(everywhere, data_range=1, rois=ROIS) == 0


def test_region_files_are_read_and_checked(tmp_path: Path) -> None:
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
    with pytest.raises(DataError, match="extends beyond"):
        enl(two_halves(0.1)[:20], data_range=1, rois=ROIS)
