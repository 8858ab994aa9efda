"""What is recorded when a run starts, or starts again."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from quell.configs.errors import QuellError
from quell.configs.schema import RunConfig
from quell.configs.source_code import changes, files
from quell.configs.support.json_files import Record
from quell.configs.support.mappings import flatten
from quell.configs.support.paths import IS_INSTALLED, ROOT
from quell.configs.support.secrets import mask
from quell.launch.capsule import machine, packages, process
from quell.launch.capsule.files import append, keep, read_part
from quell.launch.capsule.own_modules import own_modules
from quell.launch.checkpoints import integrity
from quell.launch.data import splits
from quell.launch.machine import acceleration, memory_layout
from quell.launch.runs.folder import RunFolder
from quell.pipelines.base import Pipeline
from quell.shards.reading.split import Split

FORMAT = 1
"""Incremented whenever the content of a start changes its meaning."""


@dataclass(frozen=True)
class Facts:
    """What a run knows of itself when it starts."""

    config: RunConfig
    step: int
    """Optimizer steps taken."""
    world: int
    device: torch.device
    """Of this process."""
    precision: str
    commit: str
    """Of the code, with a plus where tracked files were changed; empty outside git."""
    checkpoint: Path | None
    """What it continues from."""
    weights: str | None
    """Fingerprint of the initial weights, where it begins here."""


def keep_start(folder: RunFolder, facts: Facts, pipeline: Pipeline, shards: Split) -> str | None:
    """Add this start to the capsule of a run, whose folder still has the configuration of the start before. For rank 0.

    Args:
        folder: The run folder.
        facts: What the run knows.
        pipeline: The method, as it will train.
        shards: The training split.

    Returns:
        A warning where that was not possible: it is no reason not to train.
    """
    try:
        return "; ".join(record(folder, facts, pipeline, shards)) or None
    except Exception as error:  # such as a full disk
        return f"what repeats this run was not recorded ({error!r})"


def record(folder: RunFolder, facts: Facts, pipeline: Pipeline, shards: Split) -> list[str]:
    """Add this start to the capsule, as `keep_start` does, which explains the arguments.

    docs/repeating.md says what the keys hold. What cannot be recorded is left out.

    Returns:
        What was left out and why, and which parts hold credentials, in sentences.

    Raises:
        OSError: The capsule cannot be written.
    """
    run_dir, data = folder.path, facts.config.data
    continues, changed = None, {}
    if facts.checkpoint is not None:
        identity = integrity.identity(facts.checkpoint)
        continues = {"checkpoint": str(facts.checkpoint.resolve()), "identity": identity}
        with suppress(QuellError):  # config.yaml is damaged, or there is none where a run begins elsewhere
            changed = differing_settings(folder.config(), facts.config)
    start: Record = {
        "format": FORMAT,
        "time": round(time.time(), 3),
        "step": facts.step,
        "continues": continues,
        "config_changes": changed,
        "weights": facts.weights,
        "world": facts.world,
        "device": str(facts.device),
        "arithmetic": _arithmetic(facts, pipeline),
    }
    parts: dict[str, Callable[[], object]] = {
        "code": lambda: {
            "version": packages.installed().get("quell", ""),
            **code_facts(run_dir, ROOT, facts.commit),
        },
        "own_modules": lambda: _own_modules(run_dir, facts.config),
        "packages": lambda: keep(run_dir, "packages", "txt", packages.to_text(packages.installed()).encode()),
        "machine": lambda: machine.describe(facts.device),
        "command": process.command,
        "variables": process.variables,
        "data": lambda: {
            "train": _split(run_dir, shards),
            "val": _split(run_dir, splits.open_split(splits.in_place(data), data.val_split)),
        },
    }
    warnings = []
    for name, make in parts.items():
        try:
            start[name] = make()
        except Exception as error:  # whatever is wrong with git, the packages or a file of the user's own
            warnings.append(f"{name} was not recorded ({error!r})")
    append(run_dir, start)
    return warnings + _credentials(run_dir, start)


def _credentials(run_dir: Path, start: Record) -> list[str]:
    """Which parts of the capsule hold credentials: they are kept as they are, as a patch has to apply."""
    names = (start.get("code", {}).get("changes"), start.get("own_modules"))
    texts = {name: (read_part(run_dir, name) or b"").decode(errors="replace") for name in names if name}
    return [
        f"capsule/{name} holds what looks like a credential in the code: take it out before the run folder is shared"
        for name, text in texts.items()
        if mask(text) != text
    ]


def differing_settings(before: RunConfig, after: RunConfig) -> dict[str, list[object]]:
    """Dotted key -> [value before, value after] of every setting that differs."""
    old, new = flatten(before.model_dump(mode="json")), flatten(after.model_dump(mode="json"))
    return {
        key: [old.get(key), new.get(key)] for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
    }


def _arithmetic(facts: Facts, pipeline: Pipeline) -> Record:
    """How this process computes, with all that was left to `auto` decided."""
    channels_last = memory_layout.takes_channels_last(pipeline, facts.device, facts.config.loop)
    return {
        "precision": facts.precision,
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "channels_last": channels_last and not acceleration.uses_deepspeed(),
        "deterministic": torch.get_deterministic_debug_mode() > 0,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "threads": torch.get_num_threads(),
        "draws": pipeline.draws,
    }


def code_facts(run_dir: Path, root: Path, commit: str) -> Record:
    """The code that runs; what it differs in from its commit is kept in the capsule.

    Args:
        run_dir: The run folder.
        root: The root of a checkout, or an installed package.
        commit: Its commit, with a plus where tracked files were changed; empty outside git.
    """
    found = None if IS_INSTALLED else changes.changes(root)
    unknown = "git did not say what differs from the commit" if commit.endswith("+") else ""
    return {
        "folder": str(root),
        "fingerprint": files.fingerprint(files.contents(root)),
        "commit": commit,
        "changes": keep(run_dir, "changes", "patch", found.patch) if found and found.patch else None,
        "untracked": list(found.untracked) if found else [],
        "left_out": found.left_out if found else unknown,
    }


def _own_modules(run_dir: Path, config: RunConfig) -> str | None:
    """The part of the capsule with modules of the user's own; None where the method uses none."""
    texts = own_modules(config.pipeline.model_dump(mode="json"))
    return keep(run_dir, "modules", "json", json.dumps(texts, indent=1).encode()) if texts else None


def _split(run_dir: Path, split: Split) -> Record:
    listed = json.dumps(split.shards, indent=1).encode()
    return {
        "path": mask(str(split.path)),
        "fingerprint": split.fingerprint,
        "samples": len(split),
        "shards": keep(run_dir, "shards", "json", listed),
    }
