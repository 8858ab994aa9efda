"""What differs between a run, as it recorded itself, and what is here: code, packages, machine, data."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from quell.configs.errors import DataError
from quell.configs.schema import DataConfig
from quell.configs.source_code import files as code_files
from quell.configs.support.git import git_commit
from quell.configs.support.json_files import Record
from quell.configs.support.paths import ROOT
from quell.launch.capsule import machine, packages
from quell.launch.capsule.files import read_json_part, read_part
from quell.launch.capsule.own_modules import read_source
from quell.launch.data import splits
from quell.launch.machine import devices
from quell.launch.repeating.history import Leg
from quell.shards.format.fingerprint import same_content
from quell.shards.reading.split import Split

COMPARED = ("system", "python", "torch", "cpu", "cpu_instructions", "devices", "driver", "cuda", "rocm", "cudnn")
"""What is compared of the machine; the number of cores matters only through the threads, which are repeated."""

_DESCRIBING = ("code", "own_modules", "packages", "machine", "device_name")
"""Keys of a start that `differences` reads."""


class Difference(NamedTuple):
    """One row of the table."""

    part: str
    """`code`, a file of the user's own, `package NAME`, or what differs of the machine."""
    recorded: str
    here: str


def differences_of(run: Path, legs: Sequence[Leg]) -> tuple[list[Difference], list[str]]:
    """The differences of every start of these legs; those that not all starts have are named with their steps."""
    spans = [span for leg in legs for span in leg.spans()]
    places: dict[Difference, list[tuple[int, int]]] = {}
    sentences: dict[str, list[tuple[int, int]]] = {}
    known: dict[str, tuple[list[Difference], list[str]]] = {}
    for begin, end, start in spans:
        key = json.dumps([start.get(name) for name in _DESCRIBING])
        if key not in known:  # a run that is requeued often records the same again and again
            known[key] = differences(run, start)
        found, unknown = known[key]
        for row in found:
            places.setdefault(row, []).append((begin, end))
        for sentence in unknown:
            sentences.setdefault(sentence, []).append((begin, end))
    rows = [
        row if len(where) == len(spans) else row._replace(part=f"{row.part}, {_steps(where)}")
        for row, where in places.items()
    ]
    named = [name if len(where) == len(spans) else f"{name} ({_steps(where)})" for name, where in sentences.items()]
    return rows, named


def differences(run: Path, start: Record, root: Path = ROOT) -> tuple[list[Difference], list[str]]:
    """Every difference in code, packages and machine that can change numbers, and sentences on what is unknown.

    Args:
        run: The run folder.
        start: What the run recorded at one of its starts.
        root: The root of the code to compare with.
    """
    found, unknown = _of_code(start.get("code", {}), root)
    found += _of_own_modules(read_json_part(run, start.get("own_modules")) or {})
    text = read_part(run, start.get("packages"))
    if text is None:
        unknown.append("packages were not recorded")
    else:
        found += _of_packages(packages.from_text(text.decode()))
    if "machine" in start:
        found += _of_machine(start["machine"])
    else:
        unknown.append("the machine was not recorded")
        here = devices.name(devices.default_device())
        if start.get("device_name", here) != here:
            found.append(Difference("device", start["device_name"], here))
    return found, unknown


def is_of_machine(row: Difference) -> bool:
    """Whether a difference is one of the node, not of code, Python or packages."""
    return row.part in {"device", *(name.replace("_", " ") for name in COMPARED)} - {"python", "torch"}


def refuse_other_data(run: Path, recorded: Mapping[str, Record], data: DataConfig) -> list[str]:
    """DataError where a split is not the one that the run was trained on; sentences on what is unknown.

    Shards are compared by what their index records of them. Their pixels are compared with their checksums when they
    are read (`shards.verify` reads all).

    Args:
        run: The run folder.
        recorded: Split -> its record in the capsule, or only its fingerprint.
        data: Where the data are.
    """
    here = splits.in_place(data)
    current: dict[str, Split] = {"train": splits.open_training(here)}
    if "val" in recorded:
        current["val"] = splits.open_split(here, data.val_split)
    for name, split in current.items():
        known = recorded.get(name, {})
        if not same_content(known.get("fingerprint"), split.fingerprint):
            raise DataError(
                f"{split.path} does not hold the data that {run} was trained on: {_other_shards(run, known, split)}; "
                "restore them, or give the folder or URL where they are with --data-root"
            )
    missing = [name for name in ("train", "val") if not recorded.get(name, {}).get("fingerprint")]
    return [f"the data of the split {name} were not recorded" for name in missing]


def _other_shards(run: Path, known: Record, split: Split) -> str:
    """Which shards differ, as far as they were recorded one by one."""
    listed = read_json_part(run, known.get("shards"))
    if listed is None:
        return "names, sizes or checksums of its shards differ"
    before = {shard["name"]: shard for shard in listed}
    now = {shard["name"]: dict(shard) for shard in split.shards}
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if not changed:
        return "the shards are the same, but the index of their members differs"
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    kind = "is missing" if changed[0] not in now else "is new" if changed[0] not in before else "differs"
    return f"{changed[0]}{more} {kind}"


def _steps(spans: Sequence[tuple[int, int]]) -> str:
    """Stretches of steps in words; those that touch are one."""
    joined: list[tuple[int, int]] = []
    for begin, end in spans:
        if joined and joined[-1][1] == begin:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return "steps " + ", ".join(f"{begin} to {end}" for begin, end in joined)


def _of_code(recorded: Record, root: Path) -> tuple[list[Difference], list[str]]:
    commit = git_commit(root)
    if "fingerprint" in recorded:
        here = code_files.fingerprint(code_files.contents(root))
        if recorded["fingerprint"] == here:
            return [], []
        return [Difference("code", _named(recorded["commit"], recorded["fingerprint"]), _named(commit, here))], []
    if not recorded.get("commit"):
        return [], ["the code was not recorded"]
    unknown = ["changes to the commit were not recorded"] if recorded["commit"].endswith("+") else []
    if recorded["commit"] == commit:
        return [], unknown
    return [Difference("code", _named(recorded["commit"]), _named(commit))], unknown


def _of_own_modules(recorded: Mapping[str, str]) -> list[Difference]:
    """Modules of the user's own whose text is not what it was."""
    found = []
    for path, text in recorded.items():
        try:
            same = read_source(Path(path)) == text
        except OSError:
            found.append(Difference(path, "in the capsule", "missing"))
            continue
        if not same:
            found.append(Difference(path, "in the capsule", "changed"))
    return found


def _named(commit: str, fingerprint: str = "") -> str:
    short = f"commit {commit[:10]}{' with changes' if commit.endswith('+') else ''}" if commit else "no commit"
    return f"{short} ({fingerprint})" if fingerprint else short


def _of_packages(recorded: Mapping[str, str]) -> list[Difference]:
    here = packages.installed()
    names = sorted(name for name in recorded.keys() | here.keys() if recorded.get(name) != here.get(name))
    return [
        Difference(f"package {name}", recorded.get(name, "not installed"), here.get(name, "not installed"))
        for name in names
        if name != "quell"  # the code is compared itself
    ]


def _of_machine(recorded: Record) -> list[Difference]:
    here = machine.describe(devices.default_device())
    pairs = ((name, _plain(recorded.get(name)), _plain(here[name])) for name in COMPARED)
    return [Difference(name.replace("_", " "), before, now) for name, before, now in pairs if before != now]


def _plain(value: object) -> str:
    """A value of the machine's description as text; equal devices are counted."""
    if isinstance(value, list):
        names = [str(device.get("name")) for device in value]
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or "none"
    return "none" if value is None else str(value)
