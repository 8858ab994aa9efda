"""Units and noise of one image."""

import numpy as np
import pytest

from quell.shards.reading.pixels import transforms
from quell.shards.reading.pixels.transforms import generator


def test_the_generator_depends_on_every_part_of_its_key() -> None:
    base = generator(1, 2, 3, 4).random(4).tolist()
    assert base == generator(1, 2, 3, 4).random(4).tolist()
    variants = [generator(*key).random(4).tolist() for key in ((9, 2, 3, 4), (1, 9, 3, 4), (1, 2, 9, 4), (1, 2, 3, 9))]
    assert all(variant != base for variant in variants) and len({tuple(variant) for variant in variants}) == 4


def test_every_dtype_is_converted() -> None:
    z = (np.arange(6).reshape(2, 3) + 1j).astype(np.complex64)
    ri, mag, cplx = np.empty((2, 2, 3), "f4"), np.empty((1, 2, 3), "f4"), np.empty((1, 2, 3), "c8")
    transforms.convert_complex(z, ri)
    transforms.convert_complex(z, mag)
    transforms.convert_complex(z, cplx, phase=np.pi / 2)
    assert np.array_equal(ri[0], z.real) and np.array_equal(ri[1], z.imag) and np.allclose(mag[0], np.abs(z))
    assert np.allclose(cplx[0], z * 1j, atol=1e-6)
    rgb, out = np.full((2, 3, 3), 51, np.uint8), np.empty((3, 2, 3), "f4")
    transforms.convert(rgb[None], out[None], divisor=255.0)
    assert np.allclose(out, 0.2)
    deep = np.empty((1, 2, 3), "f4")
    transforms.convert(np.full((1, 2, 3, 1), 65535, np.uint16), deep[None], divisor=65535.0)
    assert np.allclose(deep, 1, atol=1e-6)


def test_typical_magnitude_is_the_median_then_the_mean_then_one() -> None:
    image = np.array([[-3.0, 1, 2], [4, 5, 6], [7, 8, -9]], "f4")
    assert transforms.typical_magnitude(image) == 5
    mostly_zero = np.zeros((4, 4), "f4")
    mostly_zero[0, 0] = 8
    assert transforms.typical_magnitude(mostly_zero) == 0.5
    assert transforms.typical_magnitude(np.zeros((4, 4), "f4")) == 1
    assert transforms.typical_magnitude(transforms.as_complex(np.array([[[3.0]], [[4.0]]]))) == 5


@pytest.mark.parametrize("dtype", ["f4", "c8"])
def test_normals_are_standard(dtype: str) -> None:
    out = np.empty((1, 200, 200), dtype)
    transforms.fill_normal(generator(0, 0, 0, 1), out)
    parts = [out.real, out.imag] if dtype == "c8" else [out]
    for part in parts:
        assert abs(part.mean()) < 0.02 and abs(part.std() - 1) < 0.02
