"""Whether a repetition has the weights of the run, bit for bit, and where their logs part."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from quell.configs.support.event_log import CURVES, read_log
from quell.configs.support.json_files import Record
from quell.launch.checkpoints import integrity, store

TIMINGS = ("time", "images_per_s", "data_wait", "step_ms")
"""Numbers of the log that are about speed: they differ whenever a run is repeated."""

_Place = tuple[int, int, str, str]
"""Step, step after which the mean begins, kind of event, name."""


class TensorDifference(NamedTuple):
    """A tensor that is not the same."""

    name: str
    values: int
    """How many it has; 0 where one of the two lacks the tensor."""
    differing: int
    largest: float
    """Largest absolute difference; infinite where shapes or types differ, or a difference is not finite."""


class FirstDifference(NamedTuple):
    """The first logged number that is not the same."""

    step: int
    name: str
    recorded: object
    repeated: object


def compare_checkpoints(recorded: Path, repeated: Path) -> dict[str, list[TensorDifference]]:
    """Differing tensors of two checkpoints by file: `weights`, and `average` where one was kept.

    Raises:
        CheckpointError: A checkpoint is damaged.
    """
    found = {"weights": compare(store.read_weights(recorded), store.read_weights(repeated))}
    if all(integrity.has_average(path, store.read_meta(path)) for path in (recorded, repeated)):
        averages = [store.read_weights(path, averaged=True) for path in (recorded, repeated)]
        found["average"] = compare(*averages)
    return found


def compare(recorded: Mapping[str, Tensor], repeated: Mapping[str, Tensor]) -> list[TensorDifference]:
    """The tensors that differ in any bit."""
    found = []
    for name in sorted(recorded.keys() | repeated.keys()):
        a, b = recorded.get(name), repeated.get(name)
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            found.append(TensorDifference(name, 0, 0, float("inf")))
        elif not torch.equal(_bits(a), _bits(b)):
            wide = torch.complex128 if a.is_complex() else torch.float64
            distance = (a.to(wide) - b.to(wide)).abs()
            differing = int((_bits(a).reshape(a.numel(), -1) != _bits(b).reshape(b.numel(), -1)).any(1).sum())
            largest = float(distance.max()) if torch.isfinite(distance).all() else float("inf")
            found.append(TensorDifference(name, a.numel(), differing, largest))
    return found


def is_identical(
    tensors: Mapping[str, Sequence[TensorDifference]] | None, first: FirstDifference | None, same_start: bool | None
) -> bool | None:
    """Whether a repetition has the weights of the run; None where nothing that was compared can tell.

    Equal logs do not make weights identical: numbers are logged now and then, and are rounded sums.

    Args:
        tensors: From `compare_checkpoints`; None where there was no pair of checkpoints.
        first: From `first_difference`.
        same_start: Whether the initial weights were the same; None where that was not recorded.
    """
    if tensors is not None:
        return not any(tensors.values())
    return False if first is not None or same_start is False else None


def first_difference(recorded: Path, repeated: Path, end: int) -> tuple[FirstDifference | None, int]:
    """The first number in which two logs differ up to a step, and how many numbers were compared.

    Compared are the numbers of training and evaluation that both have of a step, in training those that are means over
    the same steps: the first line after a resumption may cover fewer.

    Args:
        recorded: metrics.jsonl of the run.
        repeated: That of the repetition.
        end: Last step that is compared.
    """
    before, now = (_numbers(read_log(file).events, end) for file in (recorded, repeated))
    shared = sorted(before.keys() & now.keys(), key=lambda place: place[0])
    for place in shared:
        if before[place] != now[place]:
            return FirstDifference(place[0], f"{place[2]} {place[3]}", before[place], now[place]), len(shared)
    return None, len(shared)


def _numbers(events: Sequence[Record], end: int) -> dict[_Place, object]:
    found: dict[_Place, object] = {}
    begin = 0
    for event in events:
        kind, step = event["event"], event["step"]
        if kind in CURVES and step <= end:
            after = begin if kind == "train" else 0
            found |= {
                (step, after, kind, name): event[name] for name in event if name not in ("event", "step", *TIMINGS)
            }
        if kind in ("train", "resume"):
            begin = step
    return found


def _bits(tensor: Tensor) -> Tensor:
    plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return plain.contiguous().reshape(-1).view(torch.uint8)
