"""Checking runs with the code that starts them: data and fields, weights, packages, DeepSpeed, what is continued."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from quell.configs import loader
from quell.configs.errors import ConfigError, QuellError, machine_problem
from quell.configs.schema import RunConfig
from quell.launch.checkpoints import resume, store
from quell.launch.checkpoints.layout import step_folders
from quell.launch.machine import acceleration, compilation, precision
from quell.launch.preflight.requests import Request
from quell.launch.runs.trackers import choice
from quell.launch.training import deepspeed, dry_run
from quell.launch.training.build import length
from quell.launch.training.dry_run import OpenedRun

_NOT_ON_META = (RuntimeError, TypeError, ValueError, AttributeError, KeyError, AssertionError)
"""What a method raises that asks for values where there are only shapes; a refusal is a QuellError."""


@dataclass(frozen=True)
class _Checked:
    """A run that could be opened."""

    request: Request
    config: RunConfig
    opened: OpenedRun


def problems(requests: Sequence[Request]) -> dict[str, list[str]]:
    """What would stop each run, in sentences, by the name of its request."""
    found: dict[str, list[str]] = {}
    opened: dict[str, _Checked] = {}
    for request in requests:
        report = found[request.name] = []
        config = loader.structure(loader.parse(request.config))
        with _variables(request.environment):
            _collect(report, partial(_require_packages, request, config))
            _collect(report, partial(_require_precision, request, config))
            _collect(report, partial(_open, request, config, opened))
    for name, run in opened.items():
        _collect(found[name], partial(_continues, run))
        _collect(found[name], partial(_starts_from_weights, run, opened))
    return {name: list(dict.fromkeys(report)) for name, report in found.items()}


def _open(request: Request, config: RunConfig, opened: dict[str, _Checked]) -> None:
    """Open data and build the method as training does, and work out the shapes of two samples."""
    run = dry_run.open_run(config, request.world)
    opened[request.name] = _Checked(request, config, run)
    if acceleration.uses_deepspeed():
        deepspeed.refuse_what_cannot_work(config, run.pipeline)
    if request.on_cpu:
        compilation.check(config.loop, list(run.pipeline.phases), torch.device("cpu"))
    with suppress(*_NOT_ON_META):
        dry_run.try_losses(config, run.pipeline, run.shards, run.order, shapes_only=True)


def _require_packages(request: Request, config: RunConfig) -> None:
    if request.same_packages:
        choice.require(config.tracking)
    if request.same_packages and acceleration.uses_deepspeed():
        acceleration.require_deepspeed()


def _require_precision(request: Request, config: RunConfig) -> None:
    if request.on_cpu and not acceleration.uses_deepspeed():
        is_complex = config.data.representation == "complex"
        precision.choose(config.loop, torch.device("cpu"), complex_numbers=is_complex)


def _continues(run: _Checked) -> None:
    """Refuse what the run's own checkpoints do not fit."""
    folders = step_folders(Path(run.request.run_dir) / "checkpoints")
    if not folders:
        return
    checkpoint = folders[-1]
    meta = store.read_meta(checkpoint)
    resume.refuse_other_config(meta["config"], run.config.model_dump(mode="json"), checkpoint)
    resume.refuse_other_data(
        meta, run.opened.order.size, run.opened.shards, checkpoint, allowed=run.config.checkpoint.allow_other_data
    )
    resume.refuse_shorter(int(meta["step"]), length(run.config, run.opened.order)[0], checkpoint)


def _starts_from_weights(run: _Checked, opened: Mapping[str, _Checked]) -> None:
    """Refuse weights of other networks, in a checkpoint or as a stage before this one is going to train them."""
    init, pipeline = run.config.init_from, run.opened.pipeline
    if init is None:
        return
    sources: dict[Path, dict[str, Tensor]] = {}
    for name in run.request.weights_of:
        if name in opened:
            sources[Path(opened[name].request.run_dir)] = dict(opened[name].opened.pipeline.checkpoint_state())
    if not run.request.weights_of:
        checkpoint = resume.checkpoint_to_start_from(init)
        sources[checkpoint] = store.read_weights(checkpoint, averaged=True)
    for checkpoint, weights in sources.items():
        resume.fitting_weights(pipeline, pipeline.checkpoint_state(), weights, init, checkpoint)


def _collect(report: list[str], check: Callable[[], object]) -> None:
    """Add the sentences of what a check refuses."""
    try:
        check()
    except ConfigError as error:
        report += error.problems
    except QuellError as error:
        report.append(str(error))
    except OSError as error:
        report.append(machine_problem(error))


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
