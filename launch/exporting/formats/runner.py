"""What the formats have in common: who writes a file, and who runs one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from quell.configs.errors import MachineError
from quell.configs.support.json_files import Record

Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""Images (N, C, H, W) and levels (1,), float32, in the order of the program's inputs -> restored images."""

MANIFEST = "quell.json"
"""Name of the manifest inside the files of torch, and its key in those of ONNX."""


class FileWriter(Protocol):
    """A program, converted."""

    facts: Record
    """What the manifest says of the conversion: versions, opset."""

    def save(self, file: Path, manifest: Record) -> None:
        """Write the file."""


def missing_package(error: ImportError, needed_for: str) -> MachineError:
    """The error of an optional package that is not installed."""
    return MachineError(f"{needed_for} needs {error.name or error}: pip install 'quell[export]'")
