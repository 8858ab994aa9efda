"""The tensors in a weights file of another program, read without running any code from it."""

import pickle
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from quell.configs.errors import CheckpointError

State = dict[str, Tensor]
"""The tensors of a network, by name."""

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights")
"""Keys under which programs put the only state of a file."""

_HARMLESS = {
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("collections", "OrderedDict"),
    ("builtins", "set"),
    ("__builtin__", "set"),
    ("torch", "Size"),
}
"""What a pickled module may build, beside the storages of its tensors."""


@dataclass(frozen=True)
class OldFile:
    """A weights file: the tensors of one network, or of several by name."""

    path: Path
    parts: dict[str, State]
    """Name of a network in the file -> its tensors; a file of a single network has the part ``""``."""

    @property
    def tensors(self) -> State:
        """The tensors of a file that holds a single network; CheckpointError for others."""
        if set(self.parts) != {""}:
            raise CheckpointError(
                f"{self.path} holds several networks ({', '.join(self.parts)}), where one was expected: choose the "
                "kind of weights that belongs to this file"
            )
        return self.parts[""]


def read(path: Path) -> OldFile:
    """Read a file written by `torch.save`: a state dict, several of them, or a whole module.

    Of a whole module only the tensors are read. Its classes are neither imported nor called.

    Raises:
        CheckpointError: The file is missing, damaged, or holds no tensors.
    """
    try:
        content = _load(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"{path} cannot be read as a file of torch.save ({type(error).__name__}: {reason}): give the weights file "
            "as the old program wrote it"
        ) from error
    parts = _parts(content)
    if not parts:
        raise CheckpointError(f"{path} holds no tensors: give the weights file as the old program wrote it")
    return OldFile(path, parts)


def _load(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        reader = types.ModuleType("reader")  # torch takes the unpickler of a module
        reader.Unpickler, reader.load = _TensorsOnly, _load_tensors  # type: ignore[attr-defined]
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=reader)


def _load_tensors(file: BinaryIO, **options: Any) -> object:
    """As `pickle.load`, with `_TensorsOnly`; files from before torch 1.6 are read by it."""
    return _TensorsOnly(file, **options).load()


class _Stub:
    """Stands for an object of a class that is not imported; keeps the attributes it was pickled with."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Accept any arguments."""

    def __setstate__(self, state: object) -> None:
        if isinstance(state, Mapping):
            self.__dict__.update(state)


class _TensorsOnly(pickle.Unpickler):
    """Rebuilds tensors and containers; every other class becomes a `_Stub`, and no function of the file is called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _HARMLESS or (module in ("torch", "torch.storage") and name.endswith("Storage")):
            return super().find_class(module, name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return type(name, (_Stub,), {})


def _parts(content: object) -> dict[str, State]:
    """The networks of a file; empty where it holds none."""
    if isinstance(content, _Stub):
        return {"": _without_prefix(dict(_tensors_of_module(content, "")))}
    if not isinstance(content, Mapping):
        return {}
    for wrapper in WRAPPERS:
        inner = content.get(wrapper)
        if isinstance(inner, Mapping) and inner and all(isinstance(value, Tensor) for value in inner.values()):
            return {"": _without_prefix(inner)}
    own = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if own:
        return {"": _without_prefix(own)}
    return {
        str(key): _without_prefix(value)
        for key, value in content.items()
        if isinstance(value, Mapping) and value and all(isinstance(inner, Tensor) for inner in value.values())
    }


def _without_prefix(state: Mapping[Any, Tensor]) -> State:
    """The state without the `module.` that DataParallel and DDP put before every name."""
    return {str(name).removeprefix("module."): value.detach() for name, value in state.items()}


def _tensors_of_module(module: object, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers of a pickled module and all modules in it, as its state dict names them."""
    attributes: dict[str, Any] = getattr(module, "__dict__", {})
    skipped = attributes.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, value in (attributes.get(kind) or OrderedDict()).items():
            if isinstance(value, Tensor) and name not in skipped:
                yield prefix + name, value.detach()
    for name, inner in (attributes.get("_modules") or OrderedDict()).items():
        yield from _tensors_of_module(inner, f"{prefix}{name}.")
