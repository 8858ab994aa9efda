"""Out of memory as one sentence: where, what was asked of the device, how much it had, and what to lower."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from quell.configs.batching import batch_problem
from quell.configs.errors import MachineError
from quell.configs.schema import RunConfig
from quell.launch.machine import devices

_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|[Uu]nable to allocate|"
    r"(CUDNN|CUBLAS|CUFFT)_STATUS_ALLOC_FAILED"
)
"""How torch, its allocators, NVIDIA's libraries and numpy say it."""
_REQUEST = re.compile(r"([Tt]ried|[Tt]rying|[Uu]nable) to allocate ([\d.]+) ?(\w+)")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50, "EiB": 2**60}


@contextmanager
def explained(device: torch.device, work: Callable[[], str]) -> Iterator[None]:
    """Turn running out of memory, or a kernel that the device lacks, into a MachineError; other errors pass.

    Args:
        device: Where the block computes.
        work: What it does, and after a semicolon what to lower; called only then.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if missing := devices.missing_kernel(error):
            raise MachineError(missing) from error
        if not is_out_of_memory(error):
            raise
        raise MachineError(sentence(error, device, work())) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory of a device or of the machine could not be had."""
    return isinstance(error, MemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))


def sentence(error: BaseException, device: torch.device, work: str) -> str:
    """What to tell the user."""
    total, peak = devices.total_bytes(device), devices.peak_bytes(device)
    facts = [
        _request(error),
        f"{in_words(peak)} used at most" if peak else "",
        f"of {in_words(total)}" if total else "",
    ]
    numbers = ", ".join(filter(None, facts)).replace(", of", " of")
    return f"out of memory on {devices.describe(device)}{f' ({numbers})' if numbers else ''} while {work}"


def training(config: RunConfig, world: int) -> str:
    """What a run trains, and which settings decide how much memory that takes."""
    data, accumulate = config.data, config.loop.accumulate
    micro = data.batch_size // (world * accumulate)
    crop = f"data.crop {data.crop} px" if data.crop else "full images (data.crop null)"
    passes = f" in {accumulate} passes" if accumulate > 1 else ""
    what = (
        f"training {config.pipeline.name} on {world} process{'es' if world > 1 else ''} with data.batch_size "
        f"{data.batch_size}, {micro} sample{'s' if micro > 1 else ''} at a time on each{passes}, and {crop}"
    )
    more = next(
        (
            n
            for n in range(accumulate + 1, data.batch_size + 1)
            if not batch_problem(data.batch_size, world_size=world, accumulate=n)
        ),
        None,
    )
    if more is None:
        return f"{what}; lower data.crop, or choose smaller networks"
    left = data.batch_size // (world * more)
    return (
        f"{what}; start the same command again with loop.accumulate={more}, which takes {left} at a time, or lower "
        "data.crop or data.batch_size"
    )


def evaluating(method: str, batch_size: int) -> str:
    """What an evaluation restores, and which settings decide how much memory that takes."""
    if batch_size == 1:
        return f"restoring one full image with {method}; evaluate on the CPU (ACCELERATE_USE_CPU=true)"
    return (
        f"restoring {batch_size} full images together with {method}; lower data.eval_batch_size (--batch of "
        "launch/evaluate.py)"
    )


def restoring(shape: tuple[int, ...], method: str) -> str:
    """What is restored of files, and which options decide how much memory that takes; `shape` is (N, C, H, W)."""
    count, _, height, width = shape
    tiles = f"{count} tile{'s' if count > 1 else ''} of {height} x {width} px"
    return f"restoring {tiles} with {method}; lower --batch or --tile (0 is a full image)"


def in_words(size: float) -> str:
    """A size in memory, to three digits, in the largest unit of which it has one."""
    unit = max((unit for unit, length in _UNITS.items() if length <= size), key=_UNITS.__getitem__, default="bytes")
    return f"{size / _UNITS[unit]:.3g} {unit}"


def _request(error: BaseException) -> str:
    found = _REQUEST.search(str(error))
    unit = _UNITS.get(found[3].rstrip(".")) if found else None
    return f"{in_words(float(found[2]) * unit)} asked for" if found and unit else ""
