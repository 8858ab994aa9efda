"""The noise of a method's fields: its level and its shape, given, calibrated on training images, or per image."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import scipy
import torch
from torch import Tensor

from quell.configs.errors import ConfigError, DataError
from quell.configs.fields import Needs
from quell.configs.support.paths import resolve
from quell.losses.common.noise_level import noise_levels
from quell.losses.noise.model import FieldNoise, NoiseModel
from quell.losses.noise.verdicts import verdict
from quell.pipelines.base import Batch, Pipeline
from quell.pipelines.common import noise_audit
from quell.pipelines.common.noise_sampling import ORIENTATIONS, NoiseShape, Size
from quell.pipelines.common.noise_settings import GivenNoise, NoiseSetting
from quell.pipelines.common.recorruption import estimated_sigma
from quell.pipelines.reporting.assumed_noise import AssumedNoise

BUFFER = "levels"
"""Name of the buffer with the calibrated levels."""
SPECTRA, MAPS = "noise_spectra", "noise_maps"
"""Names of the buffers with the noise's shape, (fields, GRID, GRID) each; zeros in a field whose noise has none. They
exist only if a field's noise has a shape: the weights of runs on white noise are those of older versions."""
GRID = 64
"""Side of the saved spectra and maps: correlations up to 31 px, and a 64th of the image in a map."""

SigmaSetting = float | dict[str, float] | Literal["estimate", "estimate_each"]
"""The setting `pipeline.sigma`: one number or one per field, calibrated (estimate), or per image (estimate_each)."""

GENERAL = "r2r"
"""Method by which settings are judged where none is named: it needs the noise's model, and nothing else."""
FAILS_FROM = 0.5
"""Correlation between neighbours from which recorruption with white noise leaves the images worse than they were."""
SMALLEST_LEVEL = 0.05
"""Relative level below which a map is cut off before images are divided by it."""
DIFFERS_BY = 1.25
"""Ratio between a configured level and the one found from which a run is warned."""


class NoiseLevel:
    """Standard deviation, spectrum and map of the noise in each of a method's noisy fields.

    What is calibrated is measured before the first step and kept in the method's own buffers, so that it is saved,
    loaded and moved with the weights. Given and calibrated levels are in stored units; where there is neither, an
    image's level is estimated from the image itself.
    """

    def __init__(
        self, method: Pipeline, sigma: SigmaSetting, fields: Sequence[str], noise: NoiseSetting = "white"
    ) -> None:
        """Register in `method` the buffers for what is to be calibrated."""
        self.is_calibrated = sigma == "estimate"
        self.found: NoiseModel | None = None
        """What the audit of the training images found, in this process."""
        self._method, self._fields, self._noise = method, tuple(fields), noise
        self._notes: list[str] = []
        self._given: dict[str, float | None]
        if isinstance(sigma, dict):
            self._given = {name: sigma[name] for name in fields}
        else:
            self._given = dict.fromkeys(fields, sigma if isinstance(sigma, float) else None)
        white = {name: NoiseShape(FieldNoise(1.0)) for name in fields}
        self._levels = method.host_copy(BUFFER, read=Tensor.tolist, absent=[0.0] * len(fields))
        self._shapes = method.host_copy(SPECTRA, MAPS, read=self._read_shapes, absent=white)
        if self.is_calibrated:
            method.register_buffer(BUFFER, torch.zeros(len(self._fields)))

    @property
    def shapes(self) -> dict[str, NoiseShape]:
        """Field -> spectrum and map of its noise."""
        return self._shapes.value

    def _read_shapes(self, spectra: Tensor, maps: Tensor) -> dict[str, NoiseShape]:
        return {
            name: NoiseShape(FieldNoise(1.0, _optional(spectrum), _optional(level_map)))
            for name, spectrum, level_map in zip(self._fields, spectra, maps, strict=True)
        }

    @property
    def margin_px(self) -> int:
        """Rows and columns of standard-normal numbers that `coloured` needs beyond a window."""
        return max(shape.margin_px for shape in self.shapes.values())

    @property
    def is_white(self) -> bool:
        """Whether the noise of every field is taken to be uncorrelated and equally strong everywhere."""
        return all(shape.is_white and not shape.has_map for shape in self.shapes.values())

    @property
    def has_maps(self) -> bool:
        """Whether the noise of any field varies over the image."""
        return any(shape.has_map for shape in self.shapes.values())

    def completed(self, needs: Needs) -> Needs:
        """`Pipeline.training_needs`: where noise has a shape, the windows of the crops, and margins around them."""
        if self.is_white:
            return needs
        margins = dict.fromkeys(needs.normals, self.margin_px) if self.margin_px else {}
        return replace(needs, margins=margins, windows=True)

    @property
    def orientations(self) -> list[int]:
        """The orientations of an image in which the noise of every field looks the same."""
        kept = [set(shape.orientations()) for shape in self.shapes.values()]
        return [orientation for orientation in range(ORIENTATIONS) if all(orientation in each for each in kept)]

    def model(self) -> NoiseModel:
        """The noise that the method assumes; a level that is estimated per image is NaN-free 0."""
        return NoiseModel(
            {
                name: FieldNoise(level or 0.0, self.shapes[name].noise.spectrum, self.shapes[name].noise.level_map)
                for name, level in self._stored().items()
            },
            source="calibrated" if self.is_calibrated or self._noise != "white" else "given",
        )

    def assumed(self, name: str, *, cure: str = "") -> AssumedNoise:
        """The same for a field, as a diagnosis compares it with what the noise is."""
        return AssumedNoise(self.shapes[name].noise.kind, self._stored()[name] or 0.0, cure=cure)

    def of_batch(self, batch: Batch) -> dict[str, Tensor]:
        """The level of each image in the units of the batch, by field: (N, 1, 1, 1), or (N, 1, H, W) with a map."""
        window = batch.get("window")
        levels = {}
        for name, level in self._stored().items():
            image = batch[name]
            if f"{name}_sigma" in batch:  # of the whole image, where the batch holds tiles of it
                levels[name] = batch[f"{name}_sigma"]
            elif level is None:
                levels[name] = self._estimated(name, image, window)
            else:
                levels[name] = level / batch[f"{name}_scale"]
                if self.shapes[name].has_map:
                    levels[name] = levels[name] * self._relative(name, image, window)
        return levels

    def relative(self, batch: Batch) -> dict[str, Tensor]:
        """Level of every pixel over that of its image, by field: (N, 1, H, W), or (1, 1, 1, 1) without a map.

        Images divided by it have noise that is equally strong everywhere.
        """
        window = batch.get("window")
        return {
            name: batch[f"{name}_relative"]
            if f"{name}_relative" in batch  # of the whole image, where the batch holds tiles of it
            else self._relative(name, batch[name], window).clamp_min(SMALLEST_LEVEL)
            for name in self._fields
        }

    def coloured(self, name: str, normal_NCPQ: Tensor, like_NCHW: Tensor, window_N7: Tensor | None) -> Tensor:
        """Noise of unit variance with a field's correlation, in the shape of `like`; times `of_batch`, its noise."""
        return self.shapes[name].coloured(normal_NCPQ, Size(*like_NCHW.shape[-2:]), window_N7)

    def coloured_magnitudes(
        self, name: str, normal_NCPQ: Tensor, like_NCHW: Tensor, window_N7: Tensor | None
    ) -> Tensor:
        """As `coloured`, for magnitudes without signal."""
        return self.shapes[name].of_magnitudes().coloured(normal_NCPQ, Size(*like_NCHW.shape[-2:]), window_N7)

    def image_statistics(self, batch: Batch) -> dict[str, Tensor]:
        """`Pipeline.image_statistics`: `<field>_sigma` of the fields whose level is not one number for all images."""
        whole = {key: value for key, value in batch.items() if key != "window"}
        levels = self._stored()
        local = [name for name in self._fields if name in batch and (levels[name] is None or self.shapes[name].has_map)]
        statistics = {}
        for name in local:
            level = levels[name]
            if level is None:
                statistics[f"{name}_sigma"] = self._estimated(name, whole[name], None)
            else:
                scaled = level / whole[f"{name}_scale"]
                statistics[f"{name}_sigma"] = scaled * self._relative(name, whole[name], None)
            if self.shapes[name].has_map:
                relative = self._relative(name, whole[name], None).clamp_min(SMALLEST_LEVEL)
                statistics[f"{name}_relative"] = relative.expand(whole[name].shape[0], -1, -1, -1)
        return statistics

    @property
    def fields(self) -> tuple[str, ...]:
        """The noisy fields."""
        return self._fields

    def told(self, batch: Batch, levels: dict[str, Tensor]) -> dict[str, Tensor]:
        """`NoiseInputs.told`: levels in stored units, which count for all images where they are above 0."""
        own = self.of_batch(batch)
        return {
            f"{name}_sigma": torch.where(
                level > 0, level / batch[f"{name}_scale"] * self._relative(name, batch[name], None), own[name]
            )
            for name, level in levels.items()
        }

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch], *, required: bool = True) -> None:
        """Measure level and shape, as far as the settings ask, on whole training images.

        The level is the median over the images where the noise is white, and the audit's otherwise.

        Raises:
            DataError: A level comes out as 0 and is `required`: the method would take the noisy images for clean ones
                and learn the identity. Or white noise is assumed where it is so strongly correlated that the method
                would make the images worse.
            ConfigError: The file of a given noise model lacks a field.
        """
        audit = noise_audit.NoiseAudit(self._fields, self._method.fields)
        levels: dict[str, list[Tensor]] = {name: [] for name in self._fields}
        for batch in batches:
            audit.add(batch)
            for name in self._fields if self.is_calibrated else ():
                level = torch.from_numpy(noise_levels(batch[name].cpu().numpy()))
                levels[name].append(level * batch[f"{name}_scale"].flatten().cpu())
        self.found, self._notes = audit.model(from_repeats=self._noise == "from_repeats")
        assumed = self._assumed()
        if self._noise != "white":
            self._keep_shapes(assumed)
        if self.is_calibrated:
            medians = {name: float(torch.cat(values).median()) for name, values in levels.items()}
            self._keep_levels(medians, assumed, required=required)
        if self._noise == "white" and required:
            self._refuse_strong_correlation()

    def warnings(self, method: str = "") -> list[str]:
        """What the audit found that the settings, and a method of this name where given, do not suit."""
        sentences = list(self._notes)
        if self.found is None:
            return sentences
        for name, noise in self.found.fields.items():
            level, told = self._stored()[name], self.shapes[name].noise.kind
            judged = verdict(method or GENERAL, self.found, told=told, field=name)
            if judged.status.startswith("needs") or (method and judged.status != "fits"):
                sentences.append(f"{judged.reason}: {judged.remedy}")
            if level and noise.sigma and max(level / noise.sigma, noise.sigma / level) > DIFFERS_BY:
                sentences.append(
                    f"pipeline.sigma of '{name}' is {level:.3g}, but the training images' noise has a standard "
                    f"deviation of {noise.sigma:.3g}: set it to estimate, or check the units"
                )
        return sentences

    def migrate_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """`Pipeline.migrate_state`: a checkpoint older than a buffer estimated per image, and took noise for white.

        The method gets the buffers for a shape if the checkpoint has them.
        """
        missing = {}
        if self.is_calibrated and BUFFER not in tensors:
            missing[BUFFER] = torch.zeros(len(self._fields))
        if SPECTRA in tensors:
            self._register_shapes()
        elif self._has_shapes:
            missing |= {name: torch.zeros(len(self._fields), GRID, GRID) for name in (SPECTRA, MAPS)}
        return {**missing, **tensors}

    @property
    def _has_shapes(self) -> bool:
        return hasattr(self._method, SPECTRA)

    def _register_shapes(self) -> None:
        """Register the buffers for the shapes in the method, on its device, unless they are there."""
        if not self._has_shapes:
            device = next(self._method.parameters()).device
            for name in (SPECTRA, MAPS):
                self._method.register_buffer(name, torch.zeros(len(self._fields), GRID, GRID, device=device))

    def _assumed(self) -> dict[str, FieldNoise]:
        """The noise of each field as the settings say, from the file or from what the audit found."""
        if isinstance(self._noise, GivenNoise):
            return _given_noise(resolve(self._noise.given), self._fields)
        found = dict(self.found.fields) if self.found else {}
        kept = {"white": (), "spectrum": ("spectrum",), "map": ("level_map",)}
        parts = kept.get(self._noise, ("spectrum", "level_map"))
        return {
            name: FieldNoise(noise.sigma, **{part: getattr(noise, part) for part in parts})
            for name, noise in found.items()
        }

    def _keep_shapes(self, assumed: dict[str, FieldNoise]) -> None:
        spectra, maps = (torch.zeros(len(self._fields), GRID, GRID) for _ in range(2))
        for i, name in enumerate(self._fields):
            noise = assumed.get(name)
            if noise is not None and noise.spectrum is not None:
                spectra[i] = torch.from_numpy(noise.spectrum_at(GRID, GRID))
            if noise is not None and noise.level_map is not None:
                maps[i] = torch.from_numpy(_resized(noise.level_map))
        if spectra.any() or maps.any():
            self._register_shapes()
        if not self._has_shapes:
            return
        self._method.get_buffer(SPECTRA).copy_(spectra)
        self._method.get_buffer(MAPS).copy_(maps)

    def _keep_levels(self, medians: dict[str, float], assumed: dict[str, FieldNoise], *, required: bool) -> None:
        is_given = isinstance(self._noise, GivenNoise)
        for name, noise in assumed.items():
            if self._noise != "white" and (is_given or noise.kind != "white"):
                medians[name] = noise.sigma
        for name, median in medians.items():
            if required and not median > 0:
                raise DataError(
                    f"the noise level of '{name}' was estimated as {median:g}, which happens if more than half of each "
                    "image is constant (masked or padded): set pipeline.sigma to its standard deviation in stored units"
                )
        self._method.get_buffer(BUFFER).copy_(torch.tensor([medians[name] for name in self._fields]))

    def _refuse_strong_correlation(self) -> None:
        for name, noise in (self.found.fields if self.found else {}).items():
            strongest = max(abs(noise.correlation(0, 1)), abs(noise.correlation(1, 0)))
            if strongest >= FAILS_FROM:
                raise DataError(
                    f"pipeline.noise is white, but the noise of '{name}' has a correlation of {strongest:.2f} between "
                    "neighbouring pixels, with which the restored images end worse than the noisy ones: set "
                    "pipeline.noise to auto, or give the noise as pipeline.noise={given: FILE}"
                )

    def _estimated(self, name: str, image: Tensor, window: Tensor | None) -> Tensor:
        """The level of each image, estimated from the image itself as far as the shape of its noise is known."""
        shape = self.shapes[name]
        if shape.is_white and not shape.has_map:
            return estimated_sigma(image)
        relative = self._relative(name, image, window)
        return estimated_sigma(image / relative) / max(shape.haar_gain(), 1e-3) * relative

    def _relative(self, name: str, image: Tensor, window: Tensor | None) -> Tensor:
        return self.shapes[name].levels(Size(*image.shape[-2:]), window, device=image.device)

    def _stored(self) -> dict[str, float | None]:
        """The level of each field in stored units; None where it is estimated per image."""
        if not self.is_calibrated:
            return self._given
        # 0 in the buffer: nothing measured, as in checkpoints older than the buffer
        return {name: level or None for name, level in zip(self._fields, self._levels.value, strict=True)}


def _given_noise(path: Path, fields: Sequence[str]) -> dict[str, FieldNoise]:
    model = NoiseModel.load(path)
    missing = [name for name in fields if name not in model.fields]
    if missing:
        raise ConfigError(
            f"pipeline.noise.given: {path} describes the noise of {', '.join(model.fields)}, but not of "
            f"{', '.join(missing)}"
        )
    return {name: model.fields[name] for name in fields}


def _resized(level_map: np.ndarray) -> np.ndarray:
    """A map on the grid that is saved, with mean square 1."""
    factors = [GRID / size for size in level_map.shape]
    resized = scipy.ndimage.zoom(level_map, factors, order=1, mode="nearest", grid_mode=True)
    return np.asarray(resized / np.sqrt(np.mean(resized**2)))


def _optional(values: Tensor) -> np.ndarray | None:
    array = values.cpu().double().numpy()
    return array if array.any() else None
