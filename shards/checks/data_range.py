"""Whether the values of images fit the data range that is declared for them, which PSNR and SSIM are computed with.

A data range that is 16 times too large raises PSNR by 24 dB without a word. Values are compared in the units in which
training reads them: 8- and 16-bit unsigned images scaled to [0, 1], all others as stored.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

INTEGER_MAX = {"uint8": 255.0, "uint16": 65535.0}
"""Dtype -> the value that training reads as 1."""
BLOCK_PX = 4
"""Images are averaged over blocks with this side before their usual values are taken: noise is no evidence."""
LOW_PERCENT, HIGH_PERCENT = 1.0, 99.0
TOO_HIGH = 2.0
"""Usual high values beyond so many ranges contradict it; a volume divided by a percentile reaches less than that."""
FAR_TOO_HIGH = 16.0
"""As TOO_HIGH, for one image among others that fit."""
SIGNED_LOW, SIGNED_SPAN = -0.25, 1.25
"""Values usually below and spanning more than so many ranges are signed values with a range for unsigned ones."""
TOO_LOW = 1 / 15
"""Images of which none exceeds this share of the range contradict it: 12 bits in 16 reach 1/16."""
TOO_LOW_WHOLE = 0.2501
"""As TOO_LOW, for whole numbers of more than 8 bits, whose 14 bits in 16 reach 1/4."""
BITS = (8, 10, 12, 14, 16)


@dataclass(frozen=True)
class Span:
    """The values of one image, in the units in which training reads it."""

    dtype: str
    low: float
    """A usual low value: a percentile of block means; of the magnitude of complex images."""
    high: float
    """A usual high value."""
    least: float
    most: float
    is_whole: bool
    """Whether all stored values are whole numbers."""

    @property
    def is_scaled(self) -> bool:
        """Whether training scales the stored values to [0, 1]."""
        return self.dtype in INTEGER_MAX


@dataclass(frozen=True)
class Proposal:
    """A data range, and what it follows from."""

    value: float
    reason: str


def span_of(image: np.ndarray) -> Span:
    """The span of an image (H, W) or (H, W, C) without NaN and Inf."""
    values = np.abs(image) if image.dtype.kind == "c" else image
    scale = INTEGER_MAX.get(image.dtype.name, 1.0)
    means = _block_means(values)
    low, high = np.percentile(means, (LOW_PERCENT, HIGH_PERCENT)).tolist()
    is_whole = image.dtype.kind in "iub" or (image.dtype.kind == "f" and bool((values == np.rint(values)).all()))
    least, most = float(values.min()), float(values.max())
    return Span(image.dtype.name, low / scale, high / scale, least / scale, most / scale, is_whole)


def contradiction(declared: float, spans: Sequence[Span], *, is_normalised: bool = False) -> str | None:
    """How images contradict a data range, with the numbers; None where they do not.

    Args:
        declared: The data range.
        spans: Those of the images of one field.
        is_normalised: Whether the builder has divided the values, so that the range is right by definition where they
            do not exceed it.
    """
    spans = [span for span in spans if span.most > span.least]
    if not spans:
        return None
    scaled = next((span for span in spans if span.is_scaled), None)
    most, least = max(span.most for span in spans), min(span.least for span in spans)
    if scaled is not None and declared > 1 + 1e-6:
        stored = round(most * INTEGER_MAX[scaled.dtype])
        return (
            f"{scaled.dtype} images are divided by {INTEGER_MAX[scaled.dtype]:,.0f} when they are read (stored values "
            f"up to {stored:,}, read as {most:.4g}), so none can reach it"
        )
    high, low = (float(np.median([getattr(span, name) for span in spans])) for name in ("high", "low"))
    span = float(np.median([span.high - span.low for span in spans]))
    if low < SIGNED_LOW * declared and span > SIGNED_SPAN * declared:
        return f"the values are signed, as Hounsfield units are, and go from {least:.4g} to {most:.4g}"
    if high > TOO_HIGH * declared:
        return f"the values usually reach {high:.4g}, at most {most:.4g}"
    is_deep = all(span.is_whole for span in spans) and not all(span.dtype == "uint8" for span in spans)
    threshold = TOO_LOW_WHOLE if is_deep else TOO_LOW
    reach = max(most, -least)
    if not is_normalised and reach <= threshold * declared:
        read = f" (stored values up to {round(most * INTEGER_MAX[scaled.dtype]):,})" if scaled is not None else ""
        return f"no value exceeds {reach:.4g}{read}, {declared / reach:.3g} times less"
    return None


def propose(spans: Sequence[Span]) -> Proposal | None:
    """The data range that the values themselves suggest; None for an empty sequence or constant images."""
    spans = [span for span in spans if span.most > span.least]
    if not spans:
        return None
    most, least = max(span.most for span in spans), min(span.least for span in spans)
    if all(span.dtype == "uint8" for span in spans):
        return Proposal(1.0, "8-bit images, scaled to [0, 1]")
    scale = next((INTEGER_MAX[span.dtype] for span in spans if span.is_scaled), 1.0)
    if least >= 0 and all(span.is_whole for span in spans) and most * scale > 1:
        stored = round(most * scale)
        bits = next((bits for bits in BITS if stored < 2**bits), None)
        if bits is not None:
            return Proposal((2**bits - 1) / scale, f"whole numbers up to {stored:,}, which need {bits} bits")
    if least >= 0 and most <= 1:
        return Proposal(1.0, f"values from {least:.3g} to {most:.3g}")
    return Proposal(_rounded_up(most - min(least, 0.0)), f"values from {least:.4g} to {most:.4g}")


def _block_means(values: np.ndarray) -> np.ndarray:
    """Means over whole blocks; the values themselves where the image is smaller than four blocks a side."""
    height, width = (side // BLOCK_PX for side in values.shape[:2])
    if min(height, width) < 4:
        return np.asarray(values, dtype=np.float64)
    inside = values[: height * BLOCK_PX, : width * BLOCK_PX]
    blocks = inside.reshape(height, BLOCK_PX, width, BLOCK_PX, *values.shape[2:])
    means: np.ndarray = blocks.mean(axis=(1, 3), dtype=np.float64)
    return means


def _rounded_up(value: float) -> float:
    """The next number with two digits."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step - 1e-9) * step:.6g}")
