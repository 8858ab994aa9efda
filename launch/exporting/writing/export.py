"""A run's restoration as a file of another program: traced, converted, compared with the run, and only then kept."""

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Literal, NamedTuple, get_args

import torch

from quell.configs.errors import ConfigError
from quell.configs.support.atomic_files import naming, temporary_beside
from quell.configs.support.suggestions import did_you_mean
from quell.launch.exporting.formats import onnx_file, torch_export, torchscript
from quell.launch.exporting.formats.runner import FileWriter
from quell.launch.exporting.program import tracing
from quell.launch.exporting.program.restoration import RestorationProgram
from quell.launch.exporting.writing import parity, samples
from quell.launch.exporting.writing.manifest import manifest
from quell.launch.exporting.writing.parity import Parity
from quell.launch.exporting.writing.samples import Sample
from quell.launch.inference.restorer import Restorer, Tiles

Format = Literal["onnx", "torch.export", "torchscript"]

SUFFIXES: dict[str, str] = {"onnx": ".onnx", "torch.export": ".pt2", "torchscript": ".pt"}
"""Format -> suffix of its files."""
MODULES: dict[str, ModuleType] = {"onnx": onnx_file, "torch.export": torch_export, "torchscript": torchscript}
"""Format -> the module that runs its files."""
WRITERS: dict[str, Callable[..., FileWriter]] = {
    "onnx": onnx_file.OnnxWriter,
    "torch.export": torch_export.TorchExportWriter,
    "torchscript": torchscript.TorchScriptWriter,
}


class Exported(NamedTuple):
    """A file that was written."""

    file: Path
    parity: Parity


def export(
    run: str | Path,
    path: str | Path,
    *,
    format: Format = "onnx",
    which: str = "best",
    images: Callable[[Restorer], list[Sample]] = samples.of_split,
    tolerance: float = parity.TOLERANCE,
    trust_code: bool = False,
) -> Exported:
    """Write the whole restoration of a run as one file: images in stored units in, restored images out.

    Args:
        run: Run folder, or one checkpoint folder inside it.
        path: File to write; an existing one is replaced.
        format: Of the file.
        which: "best" or "last" checkpoint.
        images: Chooses what the file is compared with the run on; by default some of the run's test split.
        tolerance: Largest difference to `quell denoise` that is accepted, as a share of the range of the image.
        trust_code: Whether the configuration of a shared model may import classes from outside of Quell.

    Returns:
        The file, and how it was compared.

    Raises:
        ConfigError: The method, or its network, cannot be written in this format, or the file has the suffix of
            another.
        CheckpointError: There is no usable checkpoint.
        DataError: There are no images to compare on.
        MachineError: A package that the format needs is missing.
        QuellError: The file restores otherwise than the run; it is not kept.
    """
    check_format(format, Path(path))
    restorer = open_run(run, which, trust_code=trust_code)
    chosen = images(restorer)
    program = RestorationProgram(restorer)
    exported = tracing.traced(program, source=str(run))
    writer = WRITERS[format](exported, program, source=str(run))
    return write(writer, Path(path), format, program, restorer, chosen, tolerance)


def write(
    writer: FileWriter,
    file: Path,
    format_: str,
    program: RestorationProgram,
    restorer: Restorer,
    images: list[Sample],
    tolerance: float,
) -> Exported:
    """Save a converted program beside its place, compare, add the manifest, and move it there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(file)
    temporary = temporary.with_name(temporary.name + SUFFIXES[format_])
    try:
        with naming(file):
            writer.save(temporary, {})
        measured = parity.measure(MODULES[format_].runner(temporary), program, restorer, images)
        parity.refuse_difference(measured, restorer.model.config.name, tolerance)
        with naming(file):
            writer.save(temporary, manifest(restorer, program, format_, writer.facts, measured))
            os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    return Exported(file, measured)


def open_run(run: str | Path, which: str = "best", *, trust_code: bool = False) -> Restorer:
    """The run, restoring full images on the CPU: where its file is written and compared."""
    return Restorer(Path(run), which=which, tiles=Tiles(0), device=torch.device("cpu"), trust_code=trust_code)


def check_format(name: str, file: Path) -> None:
    """Raise ConfigError where there is no such format, or a file has the suffix of another."""
    if name not in get_args(Format):
        raise ConfigError(f"no format '{name}'; {did_you_mean(name, list(get_args(Format)))}")
    for other, suffix in SUFFIXES.items():
        if other != name and file.suffix == suffix:
            raise ConfigError(
                f"{file}: {suffix} is the suffix of {other} files, but the format is {name}: choose the format "
                f"{other}, or a file that ends with {SUFFIXES[name]}"
            )
