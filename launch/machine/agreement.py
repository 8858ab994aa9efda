"""What one rank does or suffers, told to all of them, so that none waits for a rank that has left. Collective calls."""

from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from quell.configs.errors import QuellError

T = TypeVar("T")


def on_first(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """The result of `work` on rank 0, on every rank; a QuellError of rank 0 is raised on all."""
    told: list[object] = [None, None]
    if accelerator.is_main_process:
        try:
            told[0] = work()
        except QuellError as error:
            told[1] = error
    if accelerator.num_processes > 1:
        broadcast_object_list(told)
    result, failure = told
    if isinstance(failure, QuellError):
        raise failure
    return result  # type: ignore[return-value]


def on_all(work: Callable[[], object], world: int) -> None:
    """Do `work` on every rank; a QuellError of any of them, that of the lowest rank, is raised on all."""
    own: QuellError | None = None
    try:
        work()
    except QuellError as error:
        own = error
    errors: list[QuellError | None] = [own] * world
    if world > 1:
        torch.distributed.all_gather_object(errors, own)
    failures = [error for error in errors if error is not None]
    if failures:
        raise failures[0]
