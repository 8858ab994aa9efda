"""Finding numbers that are not finite, or not in single precision, and saying where they are."""

import numpy as np

from quell.configs.errors import DataError

LEAST, MOST = (float(getattr(np.finfo(np.float32), name)) for name in ("tiny", "max"))
"""The magnitudes that single precision holds, in which images are trained on and restored."""


class NotFiniteError(DataError):
    """An image that holds NaN or Inf."""


def first_non_finite(array: np.ndarray) -> tuple[int, ...] | None:
    """The index of the first NaN or infinite number of an array; None where there is none."""
    if array.dtype.kind not in "fc" or np.isfinite(array).all():
        return None
    return tuple(int(i) for i in np.unravel_index(int(np.argmin(np.isfinite(array))), array.shape))


def check_finite(array: np.ndarray, where: str, axes: str = "slice,row,column") -> None:
    """Check that every number of an image is finite, and stays so in single precision.

    Args:
        array: Any array; only floats are looked at.
        where: The file, for the message.
        axes: Names of the axes, without the slice where the array has two; further ones are called channel.

    Raises:
        NotFiniteError: Naming file, slice, row and column of the first one, and how many there are.
        DataError: The largest number would become Inf, or 0, in single precision.
    """
    place = first_non_finite(array)
    if place is None:
        _check_magnitude(array, where)
        return
    axes = axes.removeprefix("slice,") if array.ndim == 2 else axes
    names = [*axes.split(","), *["channel"] * array.ndim][: array.ndim]
    text = ", ".join(f"{name} {int(number)}" for name, number in zip(names, place, strict=True))
    count = int(array.size - np.isfinite(array).sum())
    what = "NaN" if np.isnan(array[place]) else "Inf"
    raise NotFiniteError(
        f"{where}: {text} is {what} ({count} of {array.size} values are NaN or Inf); repair the file or leave it out"
    )


def _check_magnitude(array: np.ndarray, where: str) -> None:
    if array.dtype.kind not in "fc" or not array.size or float(np.finfo(array.dtype).max) <= MOST:
        return
    parts = (array.real, array.imag) if array.dtype.kind == "c" else (array,)
    most = max(max(float(part.max()), -float(part.min())) for part in parts)
    if most > MOST or 0 < most < LEAST:
        raise DataError(
            f"{where}: its largest number is {most:.3g}, but images are processed in single precision, which holds "
            f"{LEAST:.2g} to {MOST:.2g}; rescale it"
        )
