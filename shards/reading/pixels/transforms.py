"""What is done to images, in numpy: conversion, phase, units, noise. Pure functions.

Everything random comes from Philox, a counter-based generator (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011), keyed by (seed, epoch, sample, stream): a sample looks the same whichever rank or thread loads it.
"""

import numpy as np

_MASK = 2**64 - 1


def generator(seed: int, epoch: int, sample: int, stream: int) -> np.random.Generator:
    """The random numbers that belong to one sample in one epoch; `stream` separates the purposes they are used for."""
    key = np.array([seed & _MASK, stream & _MASK], dtype=np.uint64)
    counter = np.array([0, 0, sample & _MASK, epoch & _MASK], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def convert(raw_NHWC: np.ndarray, out_NCHW: np.ndarray, divisor: float) -> None:
    """Write stored images into a batch.

    Args:
        raw_NHWC: Images of any dtype.
        out_NCHW: Where they go, float32 or complex64. A complex image stays complex in a complex place, becomes its
            real and imaginary part where there are two channels, and its magnitude otherwise.
        divisor: What real images are divided by.
    """
    raw_NCHW = raw_NHWC.transpose(0, 3, 1, 2)
    if raw_NCHW.dtype.kind != "c":
        out_NCHW[...] = raw_NCHW
        if divisor != 1.0:
            np.multiply(out_NCHW, np.float32(1 / divisor), out=out_NCHW)
    elif out_NCHW.dtype.kind == "c":
        out_NCHW[...] = raw_NCHW
    elif out_NCHW.shape[1] == 2:
        out_NCHW[:, :1], out_NCHW[:, 1:] = raw_NCHW.real, raw_NCHW.imag
    else:
        np.abs(raw_NCHW, out=out_NCHW, casting="same_kind")


def convert_complex(image: np.ndarray, out_CHW: np.ndarray, *, phase: float | None = None) -> None:
    """`convert` one complex image (H, W), multiplied by exp(i phase) unless the magnitude is taken."""
    if phase is not None and (out_CHW.dtype.kind == "c" or out_CHW.shape[0] == 2):
        image = image * np.complex64(np.exp(1j * phase))
    convert(image[None, ..., None], out_CHW[None], 1.0)


def typical_magnitude(image_CHW: np.ndarray) -> float:
    """The median magnitude, by which an image is normalised; the mean where that is zero; 1 where both are.

    The real and imaginary part of a complex image must be passed as a complex image (`as_complex`).
    """
    magnitude = np.abs(image_CHW).ravel()
    middle = (magnitude.size - 1) // 2  # the lower median, as torch.median: always a value of the image
    median = float(np.partition(magnitude, middle)[middle])
    if median > 0:
        return median
    mean = float(magnitude.mean())
    return mean if mean > 0 else 1.0


def as_complex(image_CHW: np.ndarray) -> np.ndarray:
    """Two real channels (real and imaginary part) as one complex image (H, W)."""
    return image_CHW[0] + 1j * image_CHW[1]


def fill_normal(random: np.random.Generator, out_CHW: np.ndarray) -> None:
    """Fill with standard-normal numbers; of a complex array each of real and imaginary part is standard normal."""
    real = out_CHW.view(np.float32) if out_CHW.dtype.kind == "c" else out_CHW
    random.standard_normal(out=real, dtype=np.float32)
