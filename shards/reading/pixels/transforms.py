"""What is done to single images, in numpy: phase, units, noise. Pure functions.

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


def write_image(image: np.ndarray, out_CHW: np.ndarray, *, divisor: float = 1.0, phase: float | None = None) -> None:
    """Write a stored image into its place in a batch, and convert it on the way.

    Args:
        image: (H, W) or (H, W, C) of any dtype.
        out_CHW: Where it goes, float32 or complex64. A complex image stays complex in a complex place, becomes its
            real and imaginary part where there are two channels, and its magnitude otherwise.
        divisor: What real images are divided by.
        phase: Angle theta in radians; complex images are multiplied by exp(i theta) unless the magnitude is taken.
    """
    if image.dtype.kind == "c":
        if phase is not None and (out_CHW.dtype.kind == "c" or out_CHW.shape[0] == 2):
            image = image * np.complex64(np.exp(1j * phase))
        if out_CHW.dtype.kind == "c":
            out_CHW[0] = image
        elif out_CHW.shape[0] == 2:
            out_CHW[0], out_CHW[1] = image.real, image.imag
        else:
            np.abs(image, out=out_CHW[0], casting="same_kind")
        return
    source = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    if divisor == 1.0:
        out_CHW[...] = source
    else:
        np.multiply(source, np.float32(1 / divisor), out=out_CHW)


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
