"""From the names that another program gave its tensors to those of a network of `models/`."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quell.configs.errors import CheckpointError
from quell.launch.importing.old_files import State


@dataclass(frozen=True)
class Rule:
    """How tensors whose whole name matches a pattern are named here."""

    pattern: str
    """Regular expression."""
    name: str | Callable[[re.Match[str]], str] | None
    """The new name, with the groups of the pattern; None drops the tensor."""
    change: Callable[[Tensor], Tensor] = lambda tensor: tensor
    """What becomes of the tensor itself."""


def rename(state: Mapping[str, Tensor], rules: Sequence[Rule], source: object) -> tuple[State, list[str]]:
    """Rename every tensor by the first rule that matches its name; never by its position.

    Args:
        state: Tensors by their old names.
        rules: Tried in order.
        source: What messages call the state: a file, or a network in it.

    Returns:
        The tensors by their new names, and the old names of those that were dropped.

    Raises:
        CheckpointError: Tensors that no rule knows, or two that would have one name.
    """
    renamed: State = {}
    dropped, unknown = [], []
    for old, tensor in state.items():
        rule, match = _matching(old, rules)
        if rule is None or match is None:
            unknown.append(old)
        elif rule.name is None:
            dropped.append(old)
        else:
            new = rule.name(match) if callable(rule.name) else match.expand(rule.name)
            if new in renamed:
                raise CheckpointError(f"{source}: two tensors would be named '{new}', one of them '{old}'")
            renamed[new] = rule.change(tensor)
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise CheckpointError(
            f"{source}: tensor '{unknown[0]}'{more} does not belong to this kind of network: choose the kind of "
            "weights that belongs to the file"
        )
    return renamed, dropped


def swap_halves(weight: Tensor) -> Tensor:
    """A convolution's weight for an input whose two halves of channels are concatenated in the other order."""
    first, second = weight.chunk(2, dim=1)
    return torch.cat([second, first], dim=1)


def with_prefix(state: Mapping[str, Tensor], prefix: str) -> State:
    """The same tensors as those of a part of a larger network."""
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def _matching(name: str, rules: Sequence[Rule]) -> tuple[Rule | None, re.Match[str] | None]:
    for rule in rules:
        if match := re.fullmatch(rule.pattern, name):
            return rule, match
    return None, None
