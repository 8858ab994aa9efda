"""Runs and restorations inside a program of the user's, which finds its process as it was before."""

import functools
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import ParamSpec, TypeVar

import torch

from quell.configs.errors import MachineError
from quell.launch.machine import acceleration, devices, rng

P = ParamSpec("P")
R = TypeVar("R")

_FILLS = "fill_uninitialized_memory"


def in_user_program(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function compute as a command does, whatever the program has set, and leave no setting behind.

    Calls may overlap in several threads. Random number generators are left alone: what draws from them is an
    `own_run`.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _SETTINGS, _thread_of_a_command():
            return function(*args, **kwargs)

    return call


@contextmanager
def own_run() -> Iterator[None]:
    """A block that draws random numbers and uses accelerate; both are afterwards as the program had them.

    Raises:
        MachineError: Another such block has not ended, or the program has a process group of its own.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise MachineError(
            "this program has a process group of torch.distributed, which a run would take and close: train in a "
            "process of its own, as with `accelerate launch -m quell.launch.train`, or close the group first"
        )
    if not _RUNNING.acquire(blocking=False):
        raise MachineError(
            "another thread of this program is training or evaluating, and the random number generators are one for "
            "all threads: wait for it, or start a second process"
        )
    try:
        random_state = rng.random_state(devices.default_device())
        try:
            with acceleration.apart():
                yield
        finally:
            rng.set_random_state(random_state)
    finally:
        _RUNNING.release()


_RUNNING = threading.Lock()


class _Settings:
    """Settings of the process, kept while any thread is inside: the first to enter notes them, the last restores."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._kept: AbstractContextManager[None]

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._kept = _kept_settings()
                self._kept.__enter__()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._kept.__exit__(None, None, None)


_SETTINGS = _Settings()


@contextmanager
def _kept_settings() -> Iterator[None]:
    """Set torch's default type, and restore after the block what commands set once for their process.

    These are the environment, filters of warnings, and torch's threads, determinism and TF32.
    """
    environment, threads, dtype = dict(os.environ), torch.get_num_threads(), torch.get_default_dtype()
    mode, fills = torch.get_deterministic_debug_mode(), getattr(torch.utils.deterministic, _FILLS)
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    switches = cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32
    torch.set_default_dtype(torch.float32)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32 = switches
        torch.set_deterministic_debug_mode(mode)
        setattr(torch.utils.deterministic, _FILLS, fills)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        _restore_environment(environment)


@contextmanager
def _thread_of_a_command() -> Iterator[None]:
    """What torch keeps for each thread, as it is when a command starts: no autocast, gradients, no default device."""
    with ExitStack() as stack:
        for kind in {"cpu", devices.default_device().type}:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        yield


def _restore_environment(before: dict[str, str]) -> None:
    """Undo changes of the environment one by one: other threads may read it meanwhile."""
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
