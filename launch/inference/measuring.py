"""Measuring inputs before they are restored: their level, NaN and Inf, and what their volume is divided by."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from quell.configs.errors import DataError
from quell.launch.data.training_levels import Level, level_of
from quell.launch.inference import level_check
from quell.launch.inference.inputs import ArrayRef
from quell.launch.inference.restorer import Layout
from quell.launch.inference.trained_model import TrainedModel
from quell.launch.inference.units import Units, rule_for
from quell.shards.listing.finite import check_finite
from quell.shards.reading.recipe import INTEGER_MAX

BAND_VALUES = 1 << 22
"""Values of a large image that are in memory while it is measured."""
SAMPLE_VALUES = 1 << 16
"""Values of each band of a large image, and of each slice of a series, that are kept for its level."""
ABSOLUTE_SETTINGS = ("sigma", "gain", "clip")
"""Settings of methods in stored units: with one of them the level matters although images are normalised."""

_Place = tuple[str, str]
"""Path of a file and name of an array in it."""


class Measurements:
    """What was measured on the inputs of one call."""

    def __init__(self, model: TrainedModel, noise_reach: Mapping[str, float]) -> None:
        """Prepare; `noise_reach` is how far below a field's training images the noise of its images may reach."""
        self._noise_reach = noise_reach
        self._training = model.training_data
        self._notes = model.training_data.notes if model.training_data is not None else {}
        settings = type(model.config.pipeline).model_fields
        self._level_matters = model.config.data.normalise == "none" or any(
            name in settings for name in ABSOLUTE_SETTINGS
        )
        self._levels: dict[_Place, Level] = {}
        self._units: dict[_Place, Units] = {}
        self._series: dict[_Place, object] = {}
        self._samples: dict[object, list[np.ndarray]] = {}

    @property
    def slice_axis(self) -> int | None:
        """The axis across the slices of the training volumes, where the builder noted it."""
        axis = self._notes.get("axis")
        return axis if isinstance(axis, int) and axis in (0, 1, 2) else None

    def add(self, ref: ArrayRef, layout: Layout, source: str) -> None:
        """Read an array once. Raises DataError where it cannot be read, or holds NaN or Inf."""
        place = _place(ref)
        if place in self._levels:
            return
        sample = _sample_of_large(ref, layout, source) if ref.file.is_large else ref.file.read(ref.name)
        self._levels[place] = level_of(sample)
        rule = rule_for(self._notes, ref.file.format, ref.name)
        if rule is None:
            return
        series = ref.file.series
        if series is None:
            self._units[place] = rule(sample)
            return
        self._series[place] = series
        values = sample.ravel()
        self._samples.setdefault(series, []).append(
            values[:: -(-values.size // SAMPLE_VALUES)].copy()
        )  # a view would keep all of it

    def units(self, ref: ArrayRef) -> Units:
        """The units in which an array is restored."""
        place = _place(ref)
        if place in self._series and place not in self._units:
            rule = rule_for(self._notes, ref.file.format, ref.name)
            assert rule is not None
            units = rule(np.concatenate(self._samples[self._series[place]]))
            self._units |= {other: units for other, series in self._series.items() if series == self._series[place]}
        return self._units.get(place, Units())

    def problem(self, field: str, ref: ArrayRef, source: str) -> DataError | None:
        """Why an array is too far from the training images, if it is."""
        if self._training is None or field not in self._training.levels or not self._level_matters:
            return None
        level, units = self._levels[_place(ref)], self.units(ref)
        if not units.is_identity:
            factor = INTEGER_MAX.get(str(ref.dtype), 1.0)
            level = Level(*((value * factor - units.offset) / units.scale for value in vars(level).values()))
        training = self._training.levels[field]
        training = replace(training, low=training.low - self._noise_reach.get(field, 0.0))
        try:
            level_check.check_level(level, training, ref.dtype, f"{source}: {field}")
        except DataError as error:
            return error
        return None

    def cannot_check(self) -> str | None:
        """Why levels cannot be compared, where they cannot; None where they can, or do not matter."""
        if not self._level_matters or (self._training is not None and self._training.levels):
            return None
        return (
            "the level of the inputs cannot be checked, because this run does not record that of its training images: "
            "make sure that they are stored in the same units"
        )


def _place(ref: ArrayRef) -> _Place:
    return str(ref.file.path), ref.name


def _sample_of_large(ref: ArrayRef, layout: Layout, source: str) -> np.ndarray:
    """Some values of an array that is read in parts, all of which are checked for NaN and Inf."""
    samples = []
    for image, top, block in _bands(ref, layout):
        check_finite(block, f"{source}: image {image}, from row {top}")
        values = block.ravel()
        samples.append(values[:: -(-values.size // SAMPLE_VALUES)].copy())  # a view would keep all of it
    return np.concatenate(samples)


def _bands(ref: ArrayRef, layout: Layout) -> Iterator[tuple[int, int, np.ndarray]]:
    """Image, first row, and pixels of bands that cover an array."""
    rows = ref.file.rows(ref.name, layout)
    band = max(1, BAND_VALUES // (layout.width * layout.channels))
    for image in range(layout.images):
        for top in range(0, layout.height, band):
            yield image, top, rows.rows(image, top, min(top + band, layout.height))
