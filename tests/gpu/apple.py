"""Which operators have a kernel for Apple's GPUs, by the list that PyTorch is built from (native_functions.yaml)."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import yaml

Entry = dict[str, Any]

ANYWHERE = ("CompositeImplicitAutograd", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")
"""Kernels that consist of other operators, on any device."""


def lacks_kernel(operator: str) -> bool:
    """Whether nothing computes an operator, such as `add.Tensor`, on an Apple GPU."""
    entry = _functions().get(operator)
    if entry is None:
        return True
    entry = _functions()[entry["structured_delegate"]] if "structured_delegate" in entry else entry
    kinds = {kind.strip() for kinds in entry.get("dispatch", {ANYWHERE[0]: ""}) for kind in kinds.split(",")}
    return "MPS" not in kinds and kinds.isdisjoint(ANYWHERE)


@functools.cache
def _functions() -> dict[str, Entry]:
    """The entries of the list by name and overload."""
    spec = importlib.util.find_spec("torchgen")
    assert spec is not None and spec.origin is not None
    file = Path(spec.origin).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    entries = yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {entry["func"].partition("(")[0]: entry for entry in entries}
