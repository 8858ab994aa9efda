"""What is known of the noise of a run's images, for baselines and reports: what the run saved, or an audit."""

from quell.configs.errors import DataError
from quell.configs.fields import Needs
from quell.configs.schema import DataConfig
from quell.configs.support.paths import resolve
from quell.launch.data import loading, splits
from quell.launch.runs.folder import RunFolder
from quell.losses.noise.model import FieldNoise, NoiseModel
from quell.pipelines.base import Pipeline
from quell.pipelines.common import noise_audit

AUDITED = 8
"""Training images that are examined where a run has saved no noise model."""

TUNING_IMAGES = 2
"""Training images on which a baseline is tuned without clean images."""


def noise_of_run(folder: RunFolder, pipeline: Pipeline, data: DataConfig, needs: Needs) -> NoiseModel | None:
    """The noise that the run saved, or else that of the first training images; None where neither can be read."""
    if folder.noise.is_file():
        return NoiseModel.load(folder.noise)
    fields = list(dict.fromkeys(output.noisy for output in pipeline.outputs.values()))
    try:
        shards = splits.open_split(data, data.train_split)
        batches = loading.load_whole_images(shards, needs, data, AUDITED)
    except DataError:
        return None
    return noise_audit.noise_of(batches, fields, pipeline.fields)


def noise_for_baselines(file: str | None, folder: RunFolder, pipeline: Pipeline, data: DataConfig) -> NoiseModel | None:
    """The noise model of a file, or `noise_of_run`."""
    if file is not None:
        return NoiseModel.load(resolve(file))
    return noise_of_run(folder, pipeline, data, type(pipeline).needs(pipeline.config))


def describe(noise: FieldNoise) -> str:
    """A field's noise in a few words."""
    words = [f"sigma {noise.sigma:.3g}"]
    if noise.spectrum is not None:
        words.append(f"correlation {noise.correlation(0, 1):.2f} across and {noise.correlation(1, 0):.2f} down")
    if noise.level_map is not None:
        level = noise.map_at(*noise.level_map.shape)
        words.append(f"varying from {level.min():.3g} to {level.max():.3g}")
    return ", ".join(words) + (", white" if noise.kind == "white" else "")


def describe_model(model: NoiseModel | None) -> str:
    """The noise of every field in a part of a sentence; empty without a model."""
    if model is None:
        return ""
    listed = "; ".join(f"{name}: {describe(noise)}" for name, noise in model.fields.items())
    return f"({model.source}) {listed}"
