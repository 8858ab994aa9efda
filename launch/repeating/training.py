"""Training a leg of a run again: the command, and the processes that it starts."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from quell.configs.errors import MachineError
from quell.configs.support.child_process import ChildProcesses, Command, shell_exit_code
from quell.configs.support.json_files import Record
from quell.configs.support.mappings import Settings, flatten
from quell.configs.support.paths import resolve
from quell.launch.machine import devices
from quell.launch.repeating.environment import environment_of
from quell.launch.repeating.history import Leg


@dataclass(frozen=True)
class Repetition:
    """Where and from what a run is trained again."""

    config_file: Path
    """Of the run that is repeated."""
    config: Settings
    """Its content."""
    run_dir: Path
    """Of the repetition."""
    data_root: str | None = None
    """Where the data are, if not where they were."""


class Planned(NamedTuple):
    """How a leg is trained again."""

    leg: Leg
    command: list[str]
    code: Path
    """Root of the code that trains."""


def command_of(leg: Leg, repetition: Repetition, code: Path, *, is_first: bool, stops: bool = True) -> list[str]:
    """The command that trains a leg.

    Args:
        leg: What to train.
        repetition: Where.
        code: Root of the code that trains.
        is_first: Whether it is the first leg, which may begin with another run's checkpoint.
        stops: Whether that code can stop at a step; older code trains to the end.
    """
    script = [str(code / "launch" / "train.py")]
    world = int(leg.start.get("world", 1))
    if world > 1:
        script = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(world), *script]
    words = ["--config", str(repetition.config_file.resolve()), "--run-dir", str(repetition.run_dir.resolve())]
    words += ["--stop-at", str(leg.end)] if stops else []
    if is_first and (outside := continued_elsewhere(leg)):
        words += ["--resume", outside["checkpoint"]]
    return [sys.executable, *script, *words, *_overrides(leg, repetition)]


def continued_elsewhere(first: Leg) -> Record | None:
    """The checkpoint of another run with which the first leg began (--resume PATH); None for fresh weights."""
    return first.start.get("continues") if first.begin > 0 else None


def train(leg: Leg, command: list[str]) -> int:
    """Run the command of a leg, and pass stop signals on to it; its exit code."""
    refuse_too_few_devices(leg.start)
    folder = Path(str(leg.start.get("command", {}).get("folder", "")))
    cwd = folder if folder.is_absolute() and folder.is_dir() else None
    started = Command(command, environment=environment_of(leg.start), cwd=cwd, stdin=subprocess.DEVNULL)
    with ChildProcesses([started]) as children:
        (process,) = children.processes
        return shell_exit_code(process.wait())


def refuse_too_few_devices(start: Record) -> None:
    """MachineError where a run that used several GPUs finds fewer here."""
    kind, world = str(start.get("device", "cpu")).split(":")[0], int(start.get("world", 1))
    here = devices.default_device()
    if kind == "cpu" or world == 1:
        return
    count = devices.module_of(here).device_count() if here.type == kind else 0
    if count < world:
        raise MachineError(
            f"the run was trained by {world} processes on {kind} devices, and this machine has {count}: run the "
            "command that --check-only prints where there are as many (under the launcher of your cluster, in place "
            "of torch.distributed.run), then this one again with the same --run-dir, which compares the two"
        )


def _overrides(leg: Leg, repetition: Repetition) -> list[str]:
    """Settings of the leg that are not in the configuration, as `a.b=c`.

    What was left to `auto` is given as it was chosen (tf32 follows from the precision), and paths are absolute.
    """
    known = flatten(repetition.config)
    arithmetic = leg.start.get("arithmetic", {})
    chosen = {f"loop.{name}": arithmetic.get(name) for name in ("threads", "precision", "channels_last")}
    settings = {**leg.settings, **{key: value for key, value in chosen.items() if value is not None}}
    settings |= _only_local_trackers(known)
    settings |= {key: str(resolve(path)) for key, path in _paths(known).items()}
    if repetition.data_root is not None:
        settings["data.root"] = repetition.data_root
    changed = {key: value for key, value in settings.items() if key in known and known[key] != value}
    if any(key.startswith("init_from.") and value is None for key, value in settings.items()):
        changed = {key: value for key, value in changed.items() if not key.startswith("init_from.")}
        changed["init_from"] = None
    return [f"{key}={_as_yaml(value)}" for key, value in sorted(changed.items())]


def _only_local_trackers(known: Mapping[str, object]) -> dict[str, object]:
    """Settings with which a repetition sends nothing to the trackers of the run."""
    settings: dict[str, object] = {}
    if known.get("tracking.wandb_project") is not None:
        settings["tracking.wandb_project"] = None
    trackers = known.get("tracking.trackers")
    if isinstance(trackers, list | tuple):
        settings["tracking.trackers"] = [name for name in trackers if name == "tensorboard"]
    return settings


def _paths(known: Mapping[str, object]) -> dict[str, str]:
    """Settings that are relative paths."""
    values = {key: known.get(key) for key in ("data.root", "init_from.run")}
    return {key: value for key, value in values.items() if isinstance(value, str) and "://" not in value}


def _as_yaml(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).strip()
    return text.removesuffix("...").strip()
