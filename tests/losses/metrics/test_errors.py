"""RMSE and NMSE against scikit-image and their formulas."""

import math

import numpy as np
import pytest
from skimage.metrics import mean_squared_error, normalized_root_mse

from quell.configs.errors import DataError
from quell.losses.metrics.nmse import nmse
from quell.losses.metrics.rmse import rmse


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_rmse_and_nmse_equal_scikit_image(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    clean = rng.random(shape)
    restored = clean + 0.1 * rng.standard_normal(shape)
    assert rmse(restored, clean, data_range=1) == pytest.approx(np.sqrt(mean_squared_error(clean, restored)))
    relative = normalized_root_mse(clean, restored, normalization="euclidean")
    assert nmse(restored, clean, data_range=1) == pytest.approx(relative**2)


def test_known_values() -> None:
    clean = np.full((4, 4), 2.0)
    assert rmse(clean + 3, clean, data_range=255) == 3
    assert nmse(np.zeros((4, 4)), clean, data_range=255) == 1
    assert nmse(clean * 1.5, clean, data_range=1) == pytest.approx(0.25)
    assert math.isnan(nmse(clean, np.zeros((4, 4)), data_range=1))
    assert rmse(clean * np.nan, clean, data_range=1) == nmse(clean * np.nan, clean, data_range=1) == math.inf
    with pytest.raises(DataError, match="no clean image"):
        rmse(clean, None, data_range=1)  # type: ignore[arg-type]
