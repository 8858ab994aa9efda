"""Whether images have the level of those that a run was trained on."""

import numpy as np

from quell.configs.errors import DataError
from quell.launch.data.training_levels import Level, TrainingLevel

BRIGHTER, DARKER = 3.5, 8.0
"""How many times brighter than the brightest, or darker than the darkest training image an image may be.

An image in other units is off by more: 255 (floats of 0 to 255), 257 (8 bits in 16), 16 or 4 (12 or 14 bits in 16).
Photographs of one set differ by less."""
BELOW = 0.25
"""How far below the training images an image may reach, as a share of their range: noise may, an offset may not."""


def check_level(level: Level, training: TrainingLevel, dtype: np.dtype, source: str) -> None:
    """Raise DataError, with the numbers, where an image is far from the training images.

    Args:
        level: Of the image, in the units in which it will be restored.
        training: Of the training images.
        dtype: Of the image in its file.
        source: What the message calls the image.
    """
    problem = _problem(level, training)
    if problem is None:
        return
    raise DataError(
        f"{source}: {dtype} read as {_span(level.low, level.high)}, mean {level.mean:.3g}, but the run was trained on "
        f"{training.dtype} read as {_span(training.low, training.high)}, mean {training.mean:.3g}: {problem}"
        f"{_advice(level, training, dtype)}, or go on with --force (in Python, force=True)"
    )


def is_far(level: Level, training: TrainingLevel) -> bool:
    """Whether an image is far from the training images."""
    return _problem(level, training) is not None


def _problem(level: Level, training: TrainingLevel) -> str | None:
    if level.low == level.high == 0:
        return None  # a black image, which has no level
    span = training.high - min(training.low, 0.0)
    if level.low < training.low - BELOW * span:
        return "it reaches far below them"
    if level.high > BRIGHTER * training.high > 0:
        return f"it is {level.high / training.high:.3g} times as bright as the brightest"
    if level.high < training.least_high / DARKER and level.mean < training.least_mean / DARKER:
        times = f"{training.least_high / level.high:.3g} times as dark as" if level.high > 0 else "darker than"
        return f"it is {times} the darkest"
    return None


def _advice(level: Level, training: TrainingLevel, dtype: np.dtype) -> str:
    if training.dtype in ("uint8", "uint16") and str(dtype) not in ("uint8", "uint16"):
        return f"; save it as {training.dtype}, or divide it so that white is 1"
    if str(dtype) == "uint16" and level.high < training.least_high:
        return "; scale it to the full 16 bits if it uses fewer"
    return "; bring it to the units of the training images"


def _span(low: float, high: float) -> str:
    return f"{low:.3g} to {high:.3g}"
