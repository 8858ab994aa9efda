"""A run as a package of the BioImage Model Zoo, which many programs for microscopy read.

The whole restoration is in the weights (ONNX and TorchScript), so that the package asks for no pre- or postprocessing.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from quell.configs.errors import ConfigError, QuellError
from quell.configs.support.logs import get_logger
from quell.launch.exporting.bioimage import documents
from quell.launch.exporting.bioimage.compatibility import mend_serializers
from quell.launch.exporting.formats import onnx_file
from quell.launch.exporting.formats.runner import missing_package
from quell.launch.exporting.program import tracing
from quell.launch.exporting.program.restoration import Port, RestorationProgram
from quell.launch.exporting.writing import export, parity, samples
from quell.launch.exporting.writing.export import Exported
from quell.launch.exporting.writing.manifest import manifest
from quell.launch.exporting.writing.parity import Parity
from quell.launch.exporting.writing.samples import Sample
from quell.launch.inference.restorer import Restorer

MOST_PX = 256
"""Longest side of the test images inside a package."""
LEAST_PX = 32
"""Shortest side that the description allows, below the smallest that was compared."""
FORMATS = ("onnx", "torchscript")

log = get_logger(__name__)


@dataclass(frozen=True)
class Credits:
    """What no run knows, and every package has to state."""

    authors: tuple[str, ...] = ()
    """Names."""
    licence: str = ""
    """SPDX identifier, such as CC-BY-4.0."""
    cite: tuple[str, ...] = ()
    """`TEXT | DOI` or `TEXT | URL` each."""

    def check(self) -> None:
        """Raise ConfigError, with everything that is missing."""
        problems = []
        if not self.authors:
            problems.append("a package names its authors: give --author NAME, once for each")
        if not self.licence:
            problems.append("a package states its licence: give --licence SPDX, such as CC-BY-4.0")
        if not self.cite:
            problems.append("a package says what to cite: give --cite 'TEXT | DOI or URL', once for each")
        problems += [f"--cite '{each}': expected TEXT | DOI or URL" for each in self.cite if each.count("|") != 1]
        if problems:
            raise ConfigError(problems)


def export_package(
    run: str | Path,
    path: str | Path,
    credits: Credits,
    *,
    which: str = "best",
    images: Callable[[Restorer], list[Sample]] = samples.of_split,
    tolerance: float = parity.TOLERANCE,
    trust_code: bool = False,
) -> Exported:
    """Write a package of the BioImage Model Zoo.

    Args:
        run: Run folder, or one checkpoint folder inside it.
        path: Folder, or file .zip, to write; it must not exist.
        credits: Authors, licence and citations.
        which: "best" or "last" checkpoint.
        images: Chooses what the weights are compared with the run on; the first image becomes the test image.
        tolerance: As for `export.export`.
        trust_code: As for `export.export`.

    Returns:
        The package, and how its weights were compared with the run.

    Raises:
        ConfigError: Credits are missing, the path exists, or the method cannot be exported.
        MachineError: A package that this needs is missing.
        QuellError: The zoo's validator does not accept the package; it is not kept.
    """
    credits.check()
    path = Path(path)
    if path.exists():
        raise ConfigError(f"{path} exists: choose another --output, or remove it")
    try:
        import bioimageio.core  # noqa: F401
    except ImportError as error:
        raise missing_package(error, "--bioimage") from error
    mend_serializers()
    restorer = export.open_run(run, which, trust_code=trust_code)
    program = RestorationProgram(restorer, takes_levels=False)
    chosen = images(restorer)
    exported = tracing.traced(program, source=str(run))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        weights: dict[str, Exported] = {}
        facts: dict[str, Any] = {}
        for name in FORMATS:
            try:
                writer = export.WRITERS[name](exported, program, source=str(run))
            except ConfigError as error:
                log.warning("the package goes without %s weights: %s", name, error)
                continue
            file = Path(folder) / f"weights{export.SUFFIXES[name]}"
            weights[name] = export.write(writer, file, name, program, restorer, chosen, tolerance)
            facts[name] = writer.facts
        if not weights:
            raise ConfigError(f"{run}: neither {' nor '.join(FORMATS)} can hold this method")
        _assemble(Path(folder), path, weights, facts, program, restorer, chosen[0], credits)
    return Exported(path, worst(weights))


def _assemble(
    folder: Path,
    path: Path,
    weights: dict[str, Exported],
    facts: dict[str, Any],
    program: RestorationProgram,
    restorer: Restorer,
    sample: Sample,
    credits: Credits,
) -> None:
    """Write the other files and the description, have the package validated, and move it to its place."""
    from bioimageio.core import test_description
    from bioimageio.spec import save_bioimageio_package, save_bioimageio_package_as_folder

    height, width = (min(side, MOST_PX) for side in next(iter(sample.images.values())).shape[:2])
    sample = sample.resized((max(height, LEAST_PX), max(width, LEAST_PX)))
    restored = restorer.restore(sample.images, sample.key)
    names = dict(zip((port.name for port in program.outputs), onnx_file.output_names(program), strict=True))
    for port in program.inputs:
        tensor = parity.to_tensor(port, sample.images[port.name])
        np.save(folder / f"test_{port.name}.npy", tensor)
        tifffile.imwrite(folder / f"sample_{port.name}.tif", tensor.squeeze(), photometric="minisblack")
    for port in program.outputs:
        np.save(folder / f"test_{names[port.name]}.npy", parity.to_tensor(port, restored[port.name]))
    documents.write_cover(folder / "cover.png", sample, restored, program)
    record = manifest(restorer, program, " and ".join(weights), {}, worst(weights))
    (folder / "README.md").write_text(documents.readme(record, restorer), encoding="utf-8")
    with tracing.quiet():
        description = _description(folder, weights, facts, program, names, restorer, record, credits)
        if path.suffix == ".zip":
            made = save_bioimageio_package(description, output_path=folder / "package.zip")
        else:
            made = save_bioimageio_package_as_folder(description, output_path=folder / "package")
        summary = test_description(made)
    if summary.status != "passed":  # weights that fail are degraded to "valid-format", which is what an unrun file has
        failed = [error.msg for detail in summary.details for error in detail.errors] or [summary.status]
        raise QuellError(f"the validator of the BioImage Model Zoo does not accept the package: {'; '.join(failed)}")
    shutil.move(made, path)


def worst(weights: Mapping[str, Exported]) -> Parity:
    """The comparison of the weights that differ most."""
    return max((each.parity for each in weights.values()), key=lambda each: each.worst.relative_error)


def _description(
    folder: Path,
    weights: dict[str, Exported],
    facts: dict[str, Any],
    program: RestorationProgram,
    names: dict[str, str],
    restorer: Restorer,
    record: dict[str, Any],
    credits: Credits,
) -> Any:
    """The model's description in the zoo's own classes, checked by them."""
    from bioimageio.spec.generic.v0_3 import Author, CiteEntry
    from bioimageio.spec.model import v0_5

    config = restorer.model.config
    first = program.inputs[0].name
    described = {
        "onnx": lambda: v0_5.OnnxWeightsDescr(
            source=weights["onnx"].file, opset_version=facts["onnx"]["opset"], parent=None
        ),
        "torchscript": lambda: v0_5.TorchscriptWeightsDescr(
            source=weights["torchscript"].file,
            pytorch_version=facts["torchscript"]["torch"].split("+")[0],
            parent="onnx" if "onnx" in weights else None,
        ),
    }
    return v0_5.ModelDescr(
        name=f"Quell {config.pipeline.name} {config.name}".replace("/", " ").replace("_", " "),
        description=f"Image restoration: {config.pipeline.name}, trained by Quell {record['quell']}.",
        authors=[Author(name=name) for name in credits.authors],
        license=credits.licence,
        cite=[CiteEntry(text=text, **_place(place)) for text, place in (_halves(each) for each in credits.cite)],
        tags=["denoising", "restoration", "2d", "quell", config.pipeline.name],
        documentation=v0_5.FileDescr(source=folder / "README.md"),
        covers=[v0_5.FileDescr(source=folder / "cover.png")],
        inputs=[
            v0_5.InputTensorDescr(
                id=v0_5.TensorId(port.name),
                description=f"noisy image, field {port.field}",
                axes=_input_axes(port, first),
                test_tensor=v0_5.FileDescr(source=folder / f"test_{port.name}.npy"),
                sample_tensor=v0_5.FileDescr(source=folder / f"sample_{port.name}.tif"),
                data=v0_5.IntervalOrRatioDataDescr(type="float32"),
            )
            for port in program.inputs
        ],
        outputs=[
            v0_5.OutputTensorDescr(
                id=v0_5.TensorId(names[port.name]),
                description=f"restored image, in the units of {port.field}",
                axes=_output_axes(port, first),
                test_tensor=v0_5.FileDescr(source=folder / f"test_{names[port.name]}.npy"),
                data=v0_5.IntervalOrRatioDataDescr(type="float32"),
            )
            for port in program.outputs
        ],
        weights=v0_5.WeightsDescr(**{name: described[name]() for name in weights}),
        config=v0_5.Config(quell={key: value for key, value in record.items() if key != "parity"}),
    )


def _input_axes(port: Port, first: str) -> list[Any]:
    """All inputs have the size of the first."""
    from bioimageio.spec.model import v0_5

    sizes = {
        axis: v0_5.ParameterizedSize(min=LEAST_PX, step=1)
        if port.name == first
        else v0_5.SizeReference(tensor_id=v0_5.TensorId(first), axis_id=v0_5.AxisId(axis))
        for axis in ("y", "x")
    }
    space = [v0_5.SpaceInputAxis(id=v0_5.AxisId(axis), size=size) for axis, size in sizes.items()]
    return [v0_5.BatchAxis(), _channels(port), *space]


def _output_axes(port: Port, first: str) -> list[Any]:
    from bioimageio.spec.model import v0_5

    space = [
        v0_5.SpaceOutputAxis(
            id=v0_5.AxisId(axis), size=v0_5.SizeReference(tensor_id=v0_5.TensorId(first), axis_id=v0_5.AxisId(axis))
        )
        for axis in ("y", "x")
    ]
    return [v0_5.BatchAxis(), _channels(port), *space]


def _channels(port: Port) -> Any:
    from bioimageio.spec.model import v0_5

    usual = {1: ["intensity"], 3: ["red", "green", "blue"]}
    names = ["real", "imaginary"] if port.layout == "ri" else usual.get(port.channels)
    return v0_5.ChannelAxis(
        channel_names=[v0_5.Identifier(name) for name in names or [f"channel{i}" for i in range(port.channels)]]
    )


def _halves(cite: str) -> tuple[str, str]:
    text, place = (half.strip() for half in cite.split("|"))
    return text, place


def _place(place: str) -> dict[str, Any]:
    return {"url": place} if "://" in place else {"doi": place}
