"""torch.export: a file .pt2, which torch.export.load reads, and AOTInductor compiles."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from quell.configs.support.json_files import Record, strict_json
from quell.launch.exporting.formats.runner import MANIFEST, Run
from quell.launch.exporting.program.restoration import RestorationProgram
from quell.launch.exporting.program.tracing import quiet


class TorchExportWriter:
    """Writes the traced program as it is."""

    def __init__(self, exported: ExportedProgram, program: RestorationProgram, *, source: str) -> None:
        self._exported = exported
        self.facts: Record = {"torch": torch.__version__}

    def save(self, file: Path, manifest: Record) -> None:
        """Write the program, with the manifest as an extra file."""
        content = io.BytesIO()  # torch.export.save warns of file names without its own suffix
        with quiet():
            torch.export.save(self._exported, content, extra_files={MANIFEST: strict_json(manifest)})
        file.write_bytes(content.getvalue())


def runner(file: Path) -> Run:
    """The program of a file as a function of arrays."""
    with quiet():
        module = torch.export.load(io.BytesIO(file.read_bytes())).module()

    def run(values: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            return [image.numpy() for image in module(*map(torch.from_numpy, values))]

    return run


def read_manifest(file: Path) -> Record:
    """The manifest of a file."""
    extra = {MANIFEST: ""}
    with quiet():
        torch.export.load(io.BytesIO(file.read_bytes()), extra_files=extra)
    manifest: Record = json.loads(extra[MANIFEST])
    return manifest
