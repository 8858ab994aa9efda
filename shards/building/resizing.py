"""Bringing the images of a data set to one size, all fields of a sample alike."""

import argparse
import re

import numpy as np

from quell.configs.errors import ConfigError, DataError
from quell.shards.building.items import Sample, WorkItem
from quell.shards.format.index import Meta
from quell.shards.reading.pixels.resampling import Size, resize_antialiased

MODES = ("stretch", "crop", "window")
"""Choices of --resize-mode."""


def image_size(text: str) -> Size:
    """The type of an argument such as 256 or 240x320 (height x width)."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})(?:x([1-9][0-9]{0,5}))?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected N or HEIGHTxWIDTH such as 256 or 240x320, got '{text}'")
    return Size(int(match[1]), int(match[2] or match[1]))


class Resizing:
    """Brings every sample of a build to one size; an instance is called for each.

    Args:
        size: Height and width of the results.
        mode: One of MODES.
    """

    def __init__(self, size: Size, mode: str) -> None:
        self.size, self.mode = size, mode

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Resizing | None":
        """The resizing that --resize asks for, or None."""
        return None if args.resize is None else cls(Size(*args.resize), args.resize_mode)

    def notes(self) -> dict[str, object]:
        """What the index records of it."""
        return {"height": self.size.height, "width": self.size.width, "mode": self.mode}

    def __call__(self, item: WorkItem, sample: Sample) -> Sample:
        """The sample with its fields resized, and their former size noted as `size_before`.

        Raises:
            ConfigError: The files are to be stored as they are.
            DataError: The fields differ in size, or an image is too small for the window.
        """
        arrays = {name: value for name, value in sample.members.items() if isinstance(value, np.ndarray)}
        if len(arrays) < len(sample.members):
            raise ConfigError("--resize cannot change files that are stored as they are: omit --encoded")
        sizes = {name: image.shape[:2] for name, image in arrays.items()}
        if len(set(sizes.values())) > 1:
            described = ", ".join(
                f"{name.removesuffix('.npy')} {height} x {width}" for name, (height, width) in sizes.items()
            )
            raise DataError(
                f"{item.key}: sample {sample.key}: the fields differ in size ({described}); --resize changes all "
                "fields of a sample alike and cannot align them"
            )
        before = Size(*next(iter(sizes.values())))
        if before == self.size:
            return sample
        where = f"{item.key}: sample {sample.key}"
        members = {name: self.resize(image, where) for name, image in arrays.items()}
        return Sample(sample.key, members, {**sample.metadata, "size_before": list(before)}, sample.suggested_range)

    def resize(self, image: np.ndarray, where: str) -> np.ndarray:
        """An image (H, W) or (H, W, C) in the new size and its own dtype; integers are rounded and kept in range.

        Raises DataError, naming `where` it is from, for one that is smaller than the window.
        """
        before = Size(*image.shape[:2])
        if before == self.size:
            return image
        if self.mode == "window" and (before.height < self.size.height or before.width < self.size.width):
            raise DataError(
                f"{where} is {before} pixels, smaller than the window of {self.size}; choose a smaller --resize or "
                "another --resize-mode"
            )
        top, left, height, width = self._source(before)
        if self.mode == "window":
            return np.ascontiguousarray(image[int(top) : int(top) + height, int(left) : int(left) + width])
        box = (left, top, left + width, top + height)
        return resize_antialiased(image, self.size, box)

    def _source(self, before: Size) -> tuple[float, float, float, float] | tuple[int, int, int, int]:
        """Top, left, height and width of the part of an image that is kept."""
        if self.mode == "stretch":
            return 0, 0, before.height, before.width
        if self.mode == "window":
            height, width = self.size
            return (before.height - height) // 2, (before.width - width) // 2, height, width
        factor = max(self.size.height / before.height, self.size.width / before.width)
        kept_height, kept_width = self.size.height / factor, self.size.width / factor
        return (before.height - kept_height) / 2, (before.width - kept_width) / 2, kept_height, kept_width


def resize_notes(args: argparse.Namespace) -> Meta:
    """The note `resize` of a source that resizes its images itself, before it adds noise; empty without --resize."""
    resizing = Resizing.of(args)
    return {} if resizing is None else {"resize": resizing.notes()}
