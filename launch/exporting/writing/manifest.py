"""What an exported file says about itself."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

from quell.configs.loader import dump
from quell.configs.support.json_files import Record
from quell.launch.exporting.formats.onnx_file import output_names
from quell.launch.exporting.program.restoration import Port, RestorationProgram
from quell.launch.exporting.writing.parity import Parity
from quell.launch.inference.restorer import MIN_SIDE_PX, Restorer, Tiles
from quell.launch.inference.trained_model import TrainedModel
from quell.losses.noise.model import FieldNoise


def manifest(
    restorer: Restorer, program: RestorationProgram, format_: str, facts: Mapping[str, object], parity: Parity
) -> Record:
    """Everything that a program which runs the file has to know, as plain values.

    Args:
        restorer: The run.
        program: What was written.
        format_: Name of the file's format.
        facts: What the writer says of the conversion.
        parity: How the file was compared with the run.
    """
    model = restorer.model
    return {
        "quell": quell_version(),
        "run": model.config.name,
        "checkpoint": model.checkpoint.name,
        "method": model.config.pipeline.name,
        "pipeline": model.config.pipeline.model_dump(mode="json"),
        "config_sha256": hashlib.sha256(dump(model.config).encode()).hexdigest(),
        "format": {"name": format_, **facts},
        "inputs": [{**_described(port), "training_images": _level(model, port.field)} for port in program.inputs],
        "levels": [_described_level(name) for name in program.levels],
        "outputs": [
            {**_described(port), "file_name": name, "in_the_units_of": port.field}
            for port, name in zip(program.outputs, output_names(program), strict=True)
        ],
        "sizes": {"batch": "1 or more", "height": f"{MIN_SIDE_PX} px or more", "width": f"{MIN_SIDE_PX} px or more"},
        "units": _units(model),
        "normalisation": "each image is divided by its median magnitude, inside the program"
        if model.config.data.normalise == "median"
        else "none",
        "noise_found_in_training_images": _noise(restorer.noise.trained_on),
        "noise_assumed": _assumed(program),
        "noise_levels_trained_on": {
            name: {"low": each.low, "high": each.high} for name, each in restorer.noise.ranges.items()
        },
        "random_numbers": random_numbers(model),
        "tiles": _tile_advice(),
        "parity": parity.to_json(),
    }


def quell_version() -> str:
    """Of the installed package; from a checkout that is not installed, what that is."""
    try:
        return version("quell")
    except PackageNotFoundError:
        return "from a checkout"


def random_numbers(model: TrainedModel) -> str:
    """What of a restoration is drawn, and how it stays the same."""
    passes = getattr(model.config.pipeline, "passes", 0)
    if not passes:
        return "none"
    return (
        f"the mean of {passes} restorations of copies that the program changes at random; the numbers are those with "
        "which quell denoise restores image n of a stack, for image n of the batch, and the same at every call"
    )


def _described(port: Port) -> Record:
    meaning = "the real and the imaginary part" if port.layout == "ri" else "the stored channels"
    return {
        "name": port.name,
        "shape": ["batch", port.channels, "height", "width"],
        "dtype": "float32",
        "channels": meaning,
    }


def _described_level(name: str) -> Record:
    return {
        "name": name,
        "shape": [1],
        "dtype": "float32",
        "meaning": "standard deviation of the noise, stored units, of all images; 0: as the run knows or estimates it",
    }


def _level(model: TrainedModel, field: str) -> Record | None:
    """Where the values of the training images lie."""
    if model.training_data is None or field not in model.training_data.levels:
        return None
    return asdict(model.training_data.levels[field])


def _units(model: TrainedModel) -> Record:
    notes = model.training_data.notes if model.training_data is not None else {}
    return {
        "stored_units": "those of the training images; 8 and 16 bit integers as fractions of 255 and 65535",
        "builder": {key: notes[key] for key in ("source", "units", "window_hu", "data_range") if key in notes},
    }


def _noise(found: Mapping[str, FieldNoise]) -> Record:
    """The noise of fields."""
    return {name: {"sigma": noise.sigma, "kind": noise.kind} for name, noise in found.items()}


def _assumed(program: RestorationProgram) -> Record:
    """The noise that the method restores with; a standard deviation of 0 is estimated from each image."""
    inputs = program.pipeline.noise_inputs()
    return {} if inputs is None else _noise(inputs.model().fields)


def _tile_advice() -> Record:
    tiles = Tiles()
    return {
        "advice": "restore whole images; of those too large for memory take overlapping tiles, and blend them. What "
        "is measured on an image (its median, its noise level) is then measured on each tile.",
        "size_px": tiles.size,
        "overlap_px": tiles.overlap,
    }
