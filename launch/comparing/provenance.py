"""What makes two runs of one method: settings, code, training data, and the runs that they began from."""

import hashlib
import json
from pathlib import Path

from quell.configs.errors import QuellError
from quell.configs.schema import RunConfig
from quell.configs.support.json_files import Record
from quell.configs.support.paths import resolve
from quell.launch.capsule.files import read_json_part, read_starts
from quell.launch.runs.folder import RunFolder

IRRELEVANT = {
    "": ("name", "seed", "tracking", "profile", "checkpoint"),
    "data": ("cache", "eval_batch_size", "prefetch", "threads", "verify"),
    "loop": ("threads",),
    "evaluation": ("images", "limit", "blind_checks"),
}
"""Section -> keys in which two runs of one method may differ. (What is measured is compared by itself.)"""

MOST_ANCESTORS = 8
"""Runs that began from one another; more are compared by their paths."""


def settings(config: RunConfig) -> Record:
    """The part of a configuration that makes a method: all but `IRRELEVANT`."""
    content: Record = config.model_dump(mode="json")
    for section, keys in IRRELEVANT.items():
        part = content[section] if section else content
        for key in keys:
            del part[key]
    return content


def method_settings(config: RunConfig, run: Path, depth: int = 0) -> str:
    """The settings that make a method as text, without paths where what lies there is known.

    Training data are known by their fingerprint, wherever their copy is; a run that this one began from is known by
    its own method, so that each seed of a second stage may begin from the same seed of the first.
    """
    content = settings(config)
    if data := _data(run):
        content["data"]["root"] = data
    if config.init_from is not None:
        content["init_from"]["run"] = _origin(resolve(config.init_from.run), depth)
    return json.dumps(content, sort_keys=True)


def code_of(run: Path) -> str:
    """What code a run was trained with, over all its starts, as text to compare; empty where that is not recorded."""
    fingerprints = set()
    for start in read_starts(run):
        code = start.get("code")
        fingerprint = code.get("fingerprint") if isinstance(code, dict) else None
        if not isinstance(fingerprint, str):
            return ""
        modules = read_json_part(run, start.get("own_modules"))
        texts = sorted([Path(file).name, text] for file, text in modules.items()) if isinstance(modules, dict) else []
        fingerprints.add(f"{fingerprint} {hashlib.sha256(json.dumps(texts).encode()).hexdigest() if texts else ''}")
    return json.dumps(sorted(fingerprints)) if fingerprints else ""


def _data(run: Path) -> list[str]:
    """The content of the training data of all starts; empty where that is not recorded."""
    found = set()
    for start in read_starts(run):
        data = start.get("data")
        train = data.get("train") if isinstance(data, dict) else None
        fingerprint = train.get("fingerprint") if isinstance(train, dict) else None
        if not isinstance(fingerprint, str):
            return []
        found.add(":".join(fingerprint.split(":")[:2]))  # without the checksum, which not every index has
    return sorted(found)


def _origin(path: Path, depth: int) -> object:
    """The method of the run that weights come from, and which of its checkpoints is named; the path if it is gone."""
    for run in (path, path.parent.parent):
        if depth < MOST_ANCESTORS and (run / "config.yaml").is_file():
            try:
                config = RunFolder(run).config()
            except QuellError:
                return str(path)
            return [method_settings(config, run, depth + 1), code_of(run), str(path.relative_to(run))]
    return str(path)
