"""Training in Python: `quell.train(config)`, and the run folder that comes of it."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quell.api import evaluations, models
from quell.api.process_state import in_user_program, own_run
from quell.configs import loader, locations
from quell.configs.errors import ConfigError
from quell.configs.schema import RunConfig
from quell.configs.support.event_log import CURVES, read_events
from quell.configs.support.mappings import Settings
from quell.launch.runs.folder import RunFolder
from quell.launch.sharing.locating import locate
from quell.launch.training import run as training

if TYPE_CHECKING:
    from quell.api.evaluations import Evaluation
    from quell.api.models import Model, PathLike


class Run:
    """A run folder: how the run stands, what it logged, its model."""

    def __init__(self, folder: PathLike) -> None:
        """Open a run folder, whether or not its run has ended.

        Raises:
            CheckpointError: It is none.
        """
        self.folder = Path(os.path.abspath(os.path.expanduser(folder)))
        """Absolute path."""
        self.config: RunConfig = RunFolder(self.folder).config()
        """The complete configuration."""

    @property
    def summary(self) -> dict[str, Any]:
        """The present summary.json: status, step, steps, metrics of the last evaluation, warnings."""
        return RunFolder(self.folder).summary()

    @property
    def status(self) -> str:
        """`finished`, `running`, or why it is neither: `stopped`, `interrupted`, `failed`, `diverged`."""
        return str(self.summary.get("status", "unknown"))

    @property
    def curves(self) -> dict[str, dict[str, np.ndarray]]:
        """What was logged while training: `curves["train"]["step"]`, `curves["val"]["restored/psnr"]`, ...

        Each is float64, NaN at steps where the value was not logged; `step` is an integer.
        """
        events = read_events(RunFolder(self.folder).metrics_file)
        return {
            title: _columns([event for event in events if event["event"] == kind]) for kind, title in CURVES.items()
        }

    def __fspath__(self) -> str:
        """The folder, so that a run is taken wherever a run folder is."""
        return str(self.folder)

    def load(self, **options: Any) -> Model:
        """The trained model; options as of `quell.load`."""
        return models.load(self.folder, **options)

    def evaluate(self, **options: Any) -> Evaluation:
        """Measure the trained model; options as of `quell.evaluate`."""
        return evaluations.evaluate(self.folder, **options)

    def __repr__(self) -> str:
        summary = self.summary
        return f"<quell.Run {self.folder}: {self.status}, step {summary.get('step', 0)} of {summary.get('steps', '?')}>"


@in_user_program
def train(
    config: PathLike | Mapping[str, Any] | RunConfig,
    *,
    run_dir: PathLike | None = None,
    resume: PathLike = "auto",
    overrides: Mapping[str, Any] | None = None,
    **sections: Any,
) -> Run:
    """Train one method in this process; the same weights as `quell train` gives.

    An interrupt (Ctrl-C, or the stop button of a notebook) ends training after the present step, with a checkpoint; the
    same call then continues. A second one does not wait for the checkpoint.

    Args:
        config: The name of a configuration that comes with Quell, such as "r2r", the path of a YAML file, or a mapping
            with the same content.
        run_dir: Run folder; default `runs/<name>` in the working directory. One with checkpoints is continued.
        resume: "auto" continues from the last checkpoint, "never" refuses to; or the path of a checkpoint.
        overrides: Changes to single keys: `{"loop.max_steps": 100}`.
        **sections: Changes to whole sections, merged into those of the configuration: `loop={"max_steps": 100}`. Where
            the `name` in a mapping differs, as that of another network, the mapping replaces the one it changes. Keys
            that are not named stay: `pipeline={"losses": {"l1": 1}}` keeps the other losses of the configuration, while
            `overrides={"pipeline.losses": {"l1": 1}}` replaces them all.

    Returns:
        The run; its `status` is "finished", or "interrupted" or "stopped" after an interrupt or a stop signal.

    Raises:
        ConfigError: The configuration cannot be run; all its problems are named.
        DataError: Shards that are missing, damaged, or lack what the method needs.
        CheckpointError: The run folder holds a run of another configuration.
        DivergedError: Training stopped itself.
        MachineError: The device, the folder or a missing package.
        KeyboardInterrupt: Interrupted before the first step.
    """
    complete = configuration(config, overrides or {}, sections)
    folder = locations.run_folder(os.fspath(run_dir) if run_dir is not None else f"runs/{complete.name}")
    with own_run():
        training.train(complete, folder, mode=os.fspath(resume), ends_process=False)
    return Run(folder)


@in_user_program
def open_run(source: PathLike, *, trust_code: bool = False) -> Run:
    """Open a run folder that is there already. Raises CheckpointError where it is none.

    Args:
        source: The folder, or a shared model as of `quell.load`.
        trust_code: Whether the configuration of a shared model may import classes from outside of Quell.
    """
    return Run(locate(os.fspath(source), trust_code=trust_code))


def configuration(
    config: PathLike | Mapping[str, Any] | RunConfig, overrides: Mapping[str, Any], sections: Mapping[str, Any]
) -> RunConfig:
    """The configuration that `train` runs; ConfigError with every problem."""
    if isinstance(config, RunConfig):
        config = config.model_dump(mode="json")
    if isinstance(config, Mapping):
        data, source = copy.deepcopy(dict(config)), "config"
    else:
        path = loader.find_file(os.fspath(config))
        data, source = loader.read_run(path), str(path)
    changed = loader.apply(
        merged(data, sections), [f"{key}={_as_yaml(key, value)}" for key, value in overrides.items()]
    )
    pipeline = changed.get("pipeline")
    if changed.get("name", "") == "" and isinstance(pipeline, dict):
        changed["name"] = pipeline.get("name", "")
    return loader.structure(_plain(changed), source=source)


def merged(data: Settings, changes: Mapping[str, Any]) -> Settings:
    """Nested mappings with changes merged in; one of another `name` replaces what it changes."""
    result = dict(data)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(old, str) and isinstance(value, Mapping):
            old = {"name": old}
        if (
            isinstance(old, Mapping)
            and isinstance(value, Mapping)
            and value.get("name", old.get("name")) == old.get("name")
        ):
            value = merged(dict(old), value)
        result[key] = value
    return result


def _as_yaml(key: str, value: object) -> str:
    """A value as the command line would take it."""
    try:
        return json.dumps(_plain(value))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}: {error}; give numbers, texts, lists and mappings", source="overrides") from error


def _plain(value: Any) -> Any:
    """Paths as text, numpy's numbers as Python's, and tuples as lists, at any depth."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _columns(events: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Events as one array for each value."""
    names = dict.fromkeys(name for event in events for name in event if name not in ("event", "step", "time"))
    columns = {name: np.array([_number(event.get(name)) for event in events]) for name in names}
    return {"step": np.array([event["step"] for event in events], dtype=np.int64), **columns}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else np.nan
