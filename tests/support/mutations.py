"""Seeded damage to files: what disks, networks, editors and people do to bytes, tars, indexes, logs and YAML.

Each function takes what is intact and a numpy Generator, and returns a damaged copy; the same generator state gives the
same damage. Tests and the fault campaign share them.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quell.shards.format import tar

Mutator = Callable[[bytes, np.random.Generator], bytes]

NASTY_VALUES = (
    "", "null", "~", "true", "no", "-1", "0", "1", "1e400", "-1e400", ".nan", ".inf", "1000000", "1" * 5000,
    "-" + "9" * 400, "1e-400", "0x" + "f" * 300, "'", '"', "[", "{", "[]", "{}", "[[]]", "{{ X }}", '"{{ X }}"',
    "*missing", "&a [*a]", "!!python/object:os.system x", "!!int abc", "!!binary x", "2026-13-45", "12:30", "..",
    "../..", "/etc", "a/../b", "'a\\nb'", '"a\\nb"', "\x00", "\ud800", "é", "x" * 3000, "[" * 900, "- " * 900,
    "s3://user:secret@bucket/x", "ftp://host/x", "simplecache::s3://x", "https://h/x?token=secret", "<<", "? x",
    "{<<: {a: 1}}", "{1: 2}", "{null: 2}", "{[1]: 2}", "[1, two, 3.0]", "{name: unet, width: 0}",
    "{name: unet, width: 1000000}", "{name: ../unet}", "{name: unet, width: -1, 3: 4}", "|", ">-", "@x", "`x", "%",
)  # fmt: skip
"""Values that people and programs write where something else was expected."""


def mutate_bytes(data: bytes, random: np.random.Generator) -> bytes:
    """The data with one of seven kinds of damage at a random position."""
    raw, start = bytearray(data), int(random.integers(max(len(data), 1)))
    size = int(random.integers(1, 600))
    kind = random.integers(7)
    if kind == 0:
        raw[start : start + 1] = bytes(byte ^ 1 << int(random.integers(8)) for byte in raw[start : start + 1])
    elif kind == 1:
        raw[start : start + size] = random.bytes(len(raw[start : start + size]))
    elif kind == 2:
        del raw[start:]
    elif kind == 3:
        del raw[start : start + size]
    elif kind == 4:
        raw[start:start] = random.bytes(size)
    elif kind == 5:
        raw[start : start + size] = bytes(len(raw[start : start + size]))
    else:
        raw[start:start] = raw[start : start + 512]
    return bytes(raw)


def flip_bit(data: bytes, random: np.random.Generator, *, first: int = 0, last: int | None = None) -> bytes:
    """The data with one bit flipped in [first, last)."""
    raw = bytearray(data)
    raw[int(random.integers(first, len(raw) if last is None else last))] ^= 1 << int(random.integers(8))
    return bytes(raw)


def mutate_tar(data: bytes, random: np.random.Generator) -> bytes:
    """A tar with damage that keeps to its blocks, beside that of `mutate_bytes`: zeroed, swapped or repeated blocks."""
    kind = random.integers(5)
    blocks = len(data) // tar.BLOCK
    if kind < 2 or blocks < 2:
        return mutate_bytes(data, random)
    raw = bytearray(data)
    a, b = (slice(i * tar.BLOCK, (i + 1) * tar.BLOCK) for i in random.integers(blocks, size=2).tolist())
    if kind == 2:
        raw[a] = bytes(tar.BLOCK)
    elif kind == 3:
        raw[a], raw[b] = raw[b], raw[a]
    else:
        raw[a] = raw[b]
    return bytes(raw)


def mutate_json_lines(data: bytes, random: np.random.Generator) -> bytes:
    """A JSON-lines file, or one JSON file, in which a value changes its type, a key is lost, or bytes are damaged."""
    if random.integers(2):
        return mutate_bytes(data, random)
    lines = data.splitlines()
    number = int(random.integers(max(len(lines), 1)))
    replacements: Sequence[bytes] = (
        b"null", b"{}", b"[]", b"3", b'"text"', b"\xff\xfe", b"{" * 2000, b"[" * 100_000, b"NaN", b"9" * 5000, b"",
    )  # fmt: skip
    try:
        record: Any = json.loads(lines[number])
    except (ValueError, IndexError):
        record = None
    if isinstance(record, dict) and record and random.integers(3):
        key = str(random.choice(sorted(record)))
        values: Sequence[Any] = (None, "text", [], {}, True, -1, 1e308, float("nan"), {"a": {"b": []}}, 10**30)
        choice = int(random.integers(len(values) + 1))
        if choice == len(values):
            del record[key]
        else:
            record[key] = values[choice]
        lines[number : number + 1] = [json.dumps(record).encode()]
    else:
        lines[number : number + 1] = [replacements[int(random.integers(len(replacements)))]]
    return b"\n".join(lines) + (b"\n" if random.integers(2) else b"")


def mutate_yaml(text: str, random: np.random.Generator) -> str:
    """A YAML file after one to three slips: a value, a key, the indentation, a line, or a few characters changed."""
    for _ in range(int(random.integers(1, 4))):
        text = _one_slip(text, random)
    return text


def mutate_file(path: Path, intact: bytes, mutate: Mutator, random: np.random.Generator) -> None:
    """Write a damaged copy of `intact` to a path."""
    path.write_bytes(mutate(intact, random))


def _one_slip(text: str, random: np.random.Generator) -> str:
    lines = text.split("\n")
    number = int(random.integers(len(lines)))
    line, value = lines[number], NASTY_VALUES[int(random.integers(len(NASTY_VALUES)))]
    kind = random.integers(8)
    if kind < 3:  # another value
        key, colon, _ = line.partition(":")
        lines[number] = f"{key}{colon} {value}"
    elif kind == 3:  # another key
        _, colon, rest = line.partition(":")
        lines[number] = f"{value}{colon}{rest}"
    elif kind == 4:
        lines[number] = " " * int(random.integers(1, 5)) + line
    elif kind == 5:
        lines[number:number] = [line, value] if random.integers(2) else [line]
    elif kind == 6:
        del lines[number]
    else:
        position = int(random.integers(len(line) + 1))
        lines[number] = (
            line[:position] + str(random.choice(list("[]{}:,&*#?|-<>=!%@`'\"\\\t\x07 9aé"))) + line[position:]
        )
    return "\n".join(lines)
