"""Runs and restorations inside a program of the user's, which finds its process as it was before."""

import functools
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import torch

from quell.configs.support import paths
from quell.launch.machine import devices, rng

P = ParamSpec("P")
R = TypeVar("R")

_FILLS = "fill_uninitialized_memory"


def in_user_program(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function start relative paths in the working directory, and leave no state of the process behind."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with paths.starting_here(), unchanged_process():
            return function(*args, **kwargs)

    return call


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Restore after the block what commands set once for their process.

    These are the random number generators, the environment, filters of warnings, and torch's threads, determinism and
    TF32.
    """
    environment = dict(os.environ)
    random_state, threads = rng.random_state(devices.default_device()), torch.get_num_threads()
    mode, fills = torch.get_deterministic_debug_mode(), getattr(torch.utils.deterministic, _FILLS)
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    switches = cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32
    try:
        with warnings.catch_warnings():
            yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32 = switches
        torch.set_deterministic_debug_mode(mode)
        setattr(torch.utils.deterministic, _FILLS, fills)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        rng.set_random_state(random_state)
        _restore_environment(environment)


def _restore_environment(before: dict[str, str]) -> None:
    """Undo changes of the environment one by one: other threads may read it meanwhile."""
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
