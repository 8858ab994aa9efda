"""ONNX: a file .onnx for onnxruntime and everything that is built on it."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from quell.configs.errors import ConfigError
from quell.configs.support.json_files import Record, strict_json
from quell.launch.exporting.formats.runner import MANIFEST, Run, missing_package
from quell.launch.exporting.program.restoration import RestorationProgram
from quell.launch.exporting.program.tracing import first_sentence, quiet

AXES = ("batch", None, "height", "width")
"""Names of the sizes that are open."""

_UNKNOWN = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")


class OnnxWriter:
    """Converts the traced program to operators of ONNX.

    A level is an optional input: its initial value 0 counts where none is given.
    """

    def __init__(self, exported: ExportedProgram, program: RestorationProgram, *, source: str) -> None:
        if any(parameter.is_complex() for parameter in program.parameters()):
            raise ConfigError(
                f"{source}: ONNX has no complex convolutions: export to torch.export or torchscript, or train with "
                "data.representation ri (two channels)"
            )
        images = [port.name for port in program.inputs]
        outputs = output_names(program)
        try:
            import onnx

            with quiet():
                converted = torch.onnx.export(
                    exported,
                    input_names=[*images, *program.levels],
                    output_names=outputs,
                    dynamo=True,
                    verbose=False,
                )
        except ImportError as error:
            raise missing_package(error, "--format onnx") from error
        except Exception as error:  # the converter's classes of errors are private
            raise ConfigError(
                f"{source}: {program.pipeline.config.name} cannot be exported to onnx: {_reason(error)}; choose "
                "torch.export or torchscript"
            ) from error
        assert converted is not None
        self._model = converted.model_proto
        _name_sizes(self._model, {*images, *outputs})
        for name in program.levels:
            self._model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), name))
        self.facts: Record = {
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "opset": next(each.version for each in self._model.opset_import if each.domain in ("", "ai.onnx")),
        }

    def save(self, file: Path, manifest: Record) -> None:
        """Write the model, with the manifest among its metadata."""
        import onnx

        onnx.helper.set_model_props(self._model, {MANIFEST: strict_json(manifest)})
        file.write_bytes(self._model.SerializeToString())


def output_names(program: RestorationProgram) -> list[str]:
    """Names of the restored images, which differ from those of the inputs."""
    taken = {port.name for port in program.inputs}
    return [f"{port.name}_restored" if port.name in taken else port.name for port in program.outputs]


def runner(file: Path) -> Run:
    """The model of a file as a function of arrays, by onnxruntime on the CPU."""
    session = opened(file)
    names = [each.name for each in (*session.get_inputs(), *session.get_overridable_initializers())]

    def run(values: Sequence[np.ndarray]) -> list[np.ndarray]:
        restored: list[np.ndarray] = session.run(None, dict(zip(names, values, strict=True)))
        return restored

    return run


def read_manifest(file: Path) -> Record:
    """The manifest of a file."""
    manifest: Record = json.loads(opened(file).get_modelmeta().custom_metadata_map[MANIFEST])
    return manifest


def opened(file: Path) -> Any:
    """The model of a file in onnxruntime, on the CPU."""
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise missing_package(error, "running an ONNX file") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _name_sizes(model: Any, images: set[str]) -> None:
    """Call the open sizes of images by their names; sizes of tensors in between are no one's business."""
    for value in (*model.graph.input, *model.graph.output):
        if value.name in images:
            for dimension, name in zip(value.type.tensor_type.shape.dim, AXES, strict=True):
                if name is not None:
                    dimension.dim_param = name
    del model.graph.value_info[:]


def _reason(error: BaseException) -> str:
    """The operators that the converter does not know, or what else it says."""
    causes = list(_causes(error))
    unknown = sorted({operator for each in causes for operator in _UNKNOWN.findall(str(each))})
    if unknown:
        return f"ONNX has no {', '.join(unknown)}"
    return f"the converter stopped at {first_sentence(causes[-1])}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__
