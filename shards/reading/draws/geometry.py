"""Where the crops of many samples lie, and how they are turned: one draw of arrays."""

import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quell.shards.reading.draws import splitmix

NUMBERS = 6
"""Uniform numbers per sample: top, left, both mirrorings, rotation, phase."""

Uniforms = Callable[[int, int, np.ndarray, np.ndarray, int], NDArray[np.float64]]
"""(seed, stream, epochs (n,), samples (n,), count) -> float64 (n, count) in [0, 1)."""


class Geometries(NamedTuple):
    """Crop position, mirroring, rotation and phase of n samples, each an array (n,).

    All fields of a sample share them. What is switched off is drawn and ignored, so that the other numbers do not
    depend on it.
    """

    top: NDArray[np.float64]
    """Position of the crop, in [0, 1) of the range that is possible."""
    left: NDArray[np.float64]
    mirror_rows: NDArray[np.bool_]
    mirror_columns: NDArray[np.bool_]
    quarter_turns: NDArray[np.int64]
    """0 to 3, counterclockwise, after the mirroring."""
    theta: NDArray[np.float64]
    """Phase in radians, in [0, 2 pi)."""

    @classmethod
    def identity(cls, count: int) -> "Geometries":
        """Whole images, or crops at the top left, as they are stored."""
        return cls.of_uniforms(np.full((count, NUMBERS), 0.0), flip=False, rotate=False)

    @classmethod
    def of_uniforms(cls, uniform: NDArray[np.float64], *, flip: bool, rotate: bool) -> "Geometries":
        """The geometries that uniform numbers (n, NUMBERS) stand for."""
        top, left, rows, columns, turn, theta = np.ascontiguousarray(uniform.T)
        never = np.zeros(len(uniform), dtype=bool)
        turns = (turn * 4).astype(np.int64) if rotate else np.zeros(len(uniform), dtype=np.int64)
        return cls(top, left, rows < 0.5 if flip else never, columns < 0.5 if flip else never, turns, theta * 2 * np.pi)

    def corners(
        self, heights: np.ndarray, widths: np.ndarray, crop: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Top and left pixel of each crop in images of these sizes, int64 (n,) each; without a crop 0."""
        if crop is None:
            zeros = np.zeros(len(self.top), dtype=np.int64)
            return zeros, zeros
        return (
            (self.top * (heights - crop + 1)).astype(np.int64),
            (self.left * (widths - crop + 1)).astype(np.int64),
        )

    def turns(self) -> "Turns":
        """The same mirrorings and rotations as at most two mirrorings and a transposition."""
        turns = self.quarter_turns
        return Turns(
            self.mirror_rows ^ (turns >= 2), self.mirror_columns ^ ((turns == 1) | (turns == 2)), (turns & 1) == 1
        )


class Turns(NamedTuple):
    """Orientations of n crops: rows reversed, then columns reversed, then transposed; bool (n,) each."""

    rows: NDArray[np.bool_]
    columns: NDArray[np.bool_]
    transposed: NDArray[np.bool_]

    def apply(self, i: int, image: np.ndarray) -> np.ndarray:
        """An image (h, w) or (h, w, C) turned like the crop number `i`, as a view."""
        image = image[:: -1 if self.rows[i] else 1, :: -1 if self.columns[i] else 1]
        return image.swapaxes(0, 1) if self.transposed[i] else image


class PhiloxUniforms:
    """The uniform numbers of runs that began before draws were made for many samples at once (`transforms.generator`).

    One Philox is moved from sample to sample through its state, which takes a seventh of the time of a new one.
    """

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def generator(self, seed: int, epoch: int, sample: int, stream: int) -> np.random.Generator:
        """What `transforms.generator` returns; it is the calling thread's until the next call."""
        own = self._of_thread
        if not hasattr(own, "bits"):
            own.bits = np.random.Philox(0)
            own.generator, own.state = np.random.Generator(own.bits), own.bits.state
            own.key, own.counter = np.zeros(2, dtype=np.uint64), np.zeros(4, dtype=np.uint64)
            own.state["state"] = {"counter": own.counter, "key": own.key}
        mask = 2**64 - 1
        own.key[0], own.key[1] = seed & mask, stream & mask
        own.counter[2], own.counter[3] = sample & mask, epoch & mask
        own.bits.state = own.state
        generator: np.random.Generator = own.generator
        return generator

    def __call__(
        self, seed: int, stream: int, epochs: np.ndarray, samples: np.ndarray, count: int
    ) -> NDArray[np.float64]:
        """The first numbers of each sample's own generator, float64 (n, count)."""
        pairs = zip(epochs.tolist(), samples.tolist(), strict=True)
        drawn = [self.generator(seed, epoch, sample, stream).random(count) for epoch, sample in pairs]
        return np.array(drawn, dtype=np.float64).reshape(-1, count)


def draw(
    seed: int,
    stream: int,
    epochs: np.ndarray,
    samples: np.ndarray,
    *,
    flip: bool,
    rotate: bool,
    uniforms: Uniforms = splitmix.uniforms,
) -> Geometries:
    """Draw the geometries of samples (n,) in their epochs (n,).

    Args:
        seed: Of the run.
        stream: Separates the geometries of unpaired samples.
        epochs: Epoch of each sample.
        samples: The samples.
        flip: Mirror rows and columns, each with probability one half.
        rotate: Rotate by a multiple of 90 degrees.
        uniforms: Where random numbers come from: `PhiloxUniforms` for runs that began with it.
    """
    return Geometries.of_uniforms(uniforms(seed, stream, epochs, samples, NUMBERS), flip=flip, rotate=rotate)
