"""Whether a checkpoint is the one that was written: size and SHA-256 of every file, and of meta.json itself.

meta.json lists every other file of the checkpoint under `files`, and its own content is covered by `checksum`. A
checkpoint of format 1, as versions up to 0.2 wrote it, has neither: its files are opened and compared with each other.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from quell.configs.support.json_files import Record, read_json
from quell.launch.checkpoints.layout import META, step_of

FORMAT = 2
"""Written into meta.json; incremented whenever the content of a checkpoint changes its meaning. 2 added checksums."""
READABLE = (1, 2)

_CHUNK_BYTES = 1 << 20
_TYPES: dict[str, type] = {"step": int, "world": int, "samples": int, "config": dict, "metrics": dict}
"""Types of what readers of meta.json rely on. Without a checksum (format 1) nothing else shows that it was changed."""
_NEEDED = ("step", "world", "samples", "config")


def describe(folder: Path) -> dict[str, Record]:
    """Size in bytes and SHA-256 of every file of a checkpoint but meta.json, by name."""
    return {
        name: {"size": (folder / name).stat().st_size, "sha256": _sha256(folder / name)}
        for name in sorted(_visible(folder) - {META})
    }


def to_json(meta: Record) -> str:
    """The text of meta.json, with its format and its checksum."""
    content: Record = json.loads(json.dumps({"format": FORMAT, **meta}))  # keys and tuples as they will be read back
    return json.dumps({**content, "checksum": _checksum(content)}, indent=1)


def identity(checkpoint: Path) -> str:
    """What tells a checkpoint from all others, wherever it is moved to; empty where its meta.json is unreadable."""
    meta = read_json(checkpoint / META)
    return str(meta.get("checksum") or _checksum(meta)) if meta else ""


def meta_problem(checkpoint: Path, meta: Record) -> str | None:
    """What is wrong with the content of a checkpoint's meta.json; None where it can be relied on."""
    if not meta:
        present = (checkpoint / META).exists()
        return f"{META} is not readable" if present else f"{META} is missing"
    if meta.get("format") not in READABLE:
        return f"{META} has format {meta.get('format')}, expected one of {READABLE}"
    if meta["format"] >= 2 or "checksum" in meta:
        content = {name: value for name, value in meta.items() if name != "checksum"}
        if _checksum(content) != meta.get("checksum") or not isinstance(meta.get("files"), dict):
            return f"{META} is damaged: its checksum differs"
    for key, kind in _TYPES.items():
        if key in meta and not (type(meta[key]) is kind or (meta[key] is None and key not in _NEEDED)):
            return f"{META} is damaged: '{key}' is {str(meta[key])[:40]!r}"
    if step_of(checkpoint) not in (None, meta.get("step")):
        return f"{META} is of step {meta.get('step')}"
    return None


def file_problem(checkpoint: Path, name: str, meta: Record, *, thorough: bool = True) -> str | None:
    """What is wrong with one file of a checkpoint; None where it is what was written, or nothing is known about it.

    Args:
        checkpoint: The checkpoint folder.
        name: File name.
        meta: The checkpoint's meta.json.
        thorough: Whether to compare the checksum as well, for which the file is read.
    """
    file, expected = checkpoint / name, meta.get("files", {}).get(name)
    if expected is None:
        return None
    try:
        size = file.stat().st_size
        if size != expected["size"]:
            return f"{name} has {size} bytes, {expected['size']} were written"
        if thorough and _sha256(file) != expected["sha256"]:
            return f"{name} is damaged: its checksum differs"
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    return None


def problems(checkpoint: Path, *, hashed: Iterable[str] | None = None) -> list[str]:
    """Everything that is wrong with a checkpoint, in words; nothing where it is intact.

    Args:
        checkpoint: The checkpoint folder.
        hashed: Files whose checksum is compared; of the others only the size is. None compares all.
    """
    meta = read_json(checkpoint / META)
    if problem := meta_problem(checkpoint, meta):
        return [problem]
    if "files" not in meta:
        return _problems_of_format_1(checkpoint, meta)
    thorough = set(meta["files"]) if hashed is None else set(hashed)
    found = (file_problem(checkpoint, name, meta, thorough=name in thorough) for name in meta["files"])
    return [problem for problem in found if problem]


def unknown_files(checkpoint: Path) -> list[str]:
    """Visible files in a checkpoint that were not written with it; nothing reads them."""
    listed = read_json(checkpoint / META).get("files")
    return sorted(_visible(checkpoint) - {META, *listed}) if listed else []


def has_average(checkpoint: Path, meta: Record) -> bool:
    """Whether the checkpoint was written with a moving average of the weights."""
    if "files" in meta:
        return "ema.safetensors" in meta["files"]
    loop = meta.get("config", {}).get("loop")
    return bool(loop["ema_decay"]) if loop and "ema_decay" in loop else (checkpoint / "ema.safetensors").exists()


def _problems_of_format_1(checkpoint: Path, meta: Record) -> list[str]:
    """What is wrong with a checkpoint without checksums, as far as opening its files shows it."""
    weights = ["weights.safetensors"] + ["ema.safetensors"] * has_average(checkpoint, meta)
    states = ["state.pt"] + [f"rank-{rank}.pt" for rank in range(meta.get("world", 0))]
    found = []
    for name in [*weights, *states]:
        try:
            if name in weights:
                with safe_open(checkpoint / name, framework="pt") as tensors:
                    tensors.keys()
                continue
            state = torch.load(checkpoint / name, map_location="cpu", weights_only=True)
            if name == "state.pt" and state["step"] != meta["step"]:
                found.append(f"{name} is of step {state['step']}")
        except FileNotFoundError:
            found.append(f"{name} is missing")
        except (SafetensorError, Exception) as error:  # torch raises half a dozen kinds for a damaged file
            found.append(f"{name} is damaged ({type(error).__name__})")
    return found


def _visible(folder: Path) -> set[str]:
    """Names of the files in a folder, without hidden ones, which file systems and editors leave."""
    return {entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")}


def _sha256(file: Path) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK_BYTES))
    with file.open("rb", buffering=0) as opened:
        while count := opened.readinto(buffer):
            digest.update(buffer[:count])  # without the interpreter's lock: training goes on meanwhile
    return digest.hexdigest()


def _checksum(content: Record) -> str:
    """SHA-256 of a JSON object, whatever the order of its keys and however it is laid out."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
