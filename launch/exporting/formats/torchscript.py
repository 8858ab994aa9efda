"""TorchScript: a file .pt, which torch.jit.load and libtorch read; torch calls it deprecated, many programs read it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import fx
from torch.export import ExportedProgram

from quell.configs.errors import ConfigError
from quell.configs.support.json_files import Record, strict_json
from quell.launch.exporting.formats.runner import MANIFEST, Run
from quell.launch.exporting.program.restoration import RestorationProgram
from quell.launch.exporting.program.tracing import first_sentence, quiet

PLACEMENT = ("device", "pin_memory", "layout")
"""Arguments of operators that make tensors, which TorchScript does not parse; all of them are the defaults."""


class TorchScriptWriter:
    """Compiles the operators of the traced program."""

    def __init__(self, exported: ExportedProgram, program: RestorationProgram, *, source: str) -> None:
        self.facts: Record = {"torch": torch.__version__}
        try:
            with quiet():
                self._script = torch.jit.script(_plain(exported))
        except RuntimeError as error:
            raise ConfigError(
                f"{source}: {program.pipeline.config.name} cannot be exported to torchscript, whose compiler says: "
                f"{first_sentence(error)}; choose another --format"
            ) from error

    def save(self, file: Path, manifest: Record) -> None:
        """Write the program, with the manifest as an extra file."""
        with quiet():
            self._script.save(str(file), _extra_files={MANIFEST: strict_json(manifest)})


def runner(file: Path) -> Run:
    """The program of a file as a function of arrays."""
    with quiet():
        script = torch.jit.load(str(file))

    def run(values: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # otherwise each size is compiled again
            restored = script(*map(torch.from_numpy, values))
        return [image.numpy() for image in (restored if isinstance(restored, tuple) else (restored,))]

    return run


def read_manifest(file: Path) -> Record:
    """The manifest of a file."""
    extra = {MANIFEST: ""}
    with quiet():
        torch.jit.load(str(file), _extra_files=extra)
    manifest: Record = json.loads(extra[MANIFEST])
    return manifest


def _plain(exported: ExportedProgram) -> fx.GraphModule:
    """The program as a graph that TorchScript's compiler reads: operators by name, sizes as numbers, no guards.

    One image is returned as it is and several as a tuple.
    """
    module = exported.module()
    graph = module.graph
    for node in list(graph.nodes):
        if node.op == "call_module" or node.target is torch.ops.aten._assert_tensor_metadata.default:
            graph.erase_node(node)  # guards, which return nothing
        elif isinstance(node.target, torch._ops.OpOverload):
            packet = node.target.overloadpacket
            node.target = torch.ops.aten.size if packet is torch.ops.aten.sym_size else packet
            node.kwargs = {name: value for name, value in node.kwargs.items() if name not in PLACEMENT}
        elif node.op == "output" and len(node.args[0]) == 1:
            node.args = (node.args[0][0],)
    graph.set_codegen(fx.graph.CodeGen())
    return fx.GraphModule(module, graph)
