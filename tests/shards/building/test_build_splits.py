"""Building data sets: parallel, in order, and resumed after an interruption with the same bytes."""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quell.configs.errors import DataError, MachineError
from quell.configs.support.paths import ROOT
from quell.shards import build
from quell.shards.building.build_splits import build_splits
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.options import add_build_arguments
from quell.shards.format.index import Meta
from quell.shards.reading.shard_set import ShardSet

KILLED_AFTER_THE_SECOND_SHARD = """
import os, signal, sys
from quell.shards import build
from quell.shards.building.split_build import SplitBuild
on_shard_done = SplitBuild._on_shard_done
def then_kill(self, shard):
    on_shard_done(self, shard)
    if shard.name.endswith("-000001.tar"):
        os.kill(os.getpid(), signal.SIGKILL)
SplitBuild._on_shard_done = then_kill
sys.exit(build.main(sys.argv[1:]))
"""


def arguments(output: Path, **more: Any) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_build_arguments(parser)
    args = parser.parse_args(["--output", str(output), "--seed", "1", "--shard-mb", "0.01", "--workers", "3"])
    return argparse.Namespace(**{**vars(args), **more})


def items(count: int = 9, samples: int = 3, fail_at: int | None = None) -> Sequence[WorkItem]:
    """Items of a few constant images each; loading item number `fail_at` raises an OSError."""

    def load(number: int) -> list[Sample]:
        if number == fail_at:
            raise OSError("the disk is gone")
        return [
            Sample.of_arrays(f"v{number}-{part}", {"x": np.full((20, 20), number * 10 + part, np.float32)}, part=part)
            for part in range(samples)
        ]

    return [WorkItem(f"v{number}", f"patient-{number}", partial(load, number)) for number in range(count)]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_samples_are_in_order_and_the_card_and_preview_are_written(tmp_path: Path) -> None:
    build_splits(arguments(tmp_path), "demo", {"train": items(), "test": []}, {"data_range": 1.0, "licence": "MIT"})
    shards = ShardSet.open(tmp_path / "train")
    assert [shards.key(i) for i in range(27)] == [f"v{i}-{part}" for i in range(9) for part in range(3)]
    assert shards.json(4) == {"group": "patient-1", "part": 1} and (shards.read(13, "x") == 41).all()
    card = (tmp_path / "dataset.md").read_text()
    assert "Licence: MIT" in card and "| train | 27 |" in card and (tmp_path / "preview.png").stat().st_size > 100
    assert not list(tmp_path.glob("*.partial")) and not (tmp_path / "test").exists()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("quell")] == []


@pytest.mark.parametrize("fail_at", [0, 4, 8])
def test_a_failed_build_is_resumed_and_ends_with_the_same_bytes(tmp_path: Path, fail_at: int) -> None:
    meta: Meta = {"data_range": 1.0}
    build_splits(arguments(tmp_path / "uninterrupted"), "demo", {"train": items()}, meta)
    for _ in range(2):
        with pytest.raises(DataError, match=f"v{fail_at}: cannot be read .the disk is gone"):
            build_splits(arguments(tmp_path / "resumed"), "demo", {"train": items(fail_at=fail_at)}, meta)
        assert not (tmp_path / "resumed" / "train").exists()
    kept = sorted((tmp_path / "resumed" / "train.partial").glob("*.tar"))
    times = {path.name: path.stat().st_mtime_ns for path in kept[: fail_at // 3]}
    journal = tmp_path / "resumed" / "train.partial" / "journal.jsonl"
    journal.write_text(journal.read_text() + '{"shard": "demo-0000')  # SIGKILL may leave half a line
    build_splits(arguments(tmp_path / "resumed", workers=1), "demo", {"train": items()}, meta)
    assert tree(tmp_path / "resumed") == tree(tmp_path / "uninterrupted")
    assert all((tmp_path / "resumed" / "train" / name).stat().st_mtime_ns == time for name, time in times.items())


def test_a_complete_split_is_not_rewritten_and_other_input_is_refused(tmp_path: Path) -> None:
    build_splits(arguments(tmp_path), "demo", {"train": items()}, {})
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "train").iterdir()}
    build_splits(arguments(tmp_path, workers=1), "demo", {"train": items()}, {})
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "train").iterdir()}
    with pytest.raises(DataError, match="built from other input"):
        build_splits(arguments(tmp_path, seed=2), "demo", {"train": items()}, {})
    with pytest.raises(DataError, match="built from other input"):
        build_splits(arguments(tmp_path), "demo", {"train": items(8)}, {})


def test_dry_run_writes_nothing_and_limit_shortens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_splits(arguments(tmp_path / "d", dry_run=True), "demo", {"train": items()}, {})
    assert "train: 9 files or volumes in 9 groups, v0 ... v8" in capsys.readouterr().out
    assert not (tmp_path / "d").exists()
    build_splits(arguments(tmp_path / "d", limit=2), "demo", {"train": items()}, {})
    assert len(ShardSet.open(tmp_path / "d" / "train")) == 6


def test_unusable_items_are_refused(tmp_path: Path) -> None:
    def refused(message: str, splits: dict[str, Sequence[WorkItem]]) -> None:
        with pytest.raises(DataError, match=message):
            build_splits(arguments(tmp_path / "r"), "demo", splits, {})

    def item_of(sample: Sample) -> WorkItem:
        return WorkItem("a", "a", lambda: [sample])

    refused("holds nothing", {"train": []})
    refused("group 'patient-0' would be in two splits, train and test", {"train": items(1), "test": items(1)})
    refused("two files have the key 'v0'", {"train": [*items(1), *items(1)]})
    refused("yields no samples", {"train": items(2, samples=0)})
    refused("without dots", {"train": [item_of(Sample.of_arrays("a.b", {"x": np.ones((2, 2))}))]})
    refused(
        "sample a: x.npy: row 0, column 0 is NaN",
        {"train": [item_of(Sample.of_arrays("a", {"x": np.full((2, 2), np.nan)}))]},
    )
    (tmp_path / "r2").write_text("")
    with pytest.raises(MachineError, match="cannot write shards"):
        build_splits(arguments(tmp_path / "r2"), "demo", {"train": items(1)}, {})


def test_a_build_killed_between_two_shards_is_resumed_with_the_same_bytes(tmp_path: Path) -> None:
    """A real SIGKILL; the second start ends like an uninterrupted one."""
    counts = ["--train", "24", "--val", "0", "--test", "0", "--size", "64"]
    words = ["phantom", *counts, "--shard-mb", "0.5", "--workers", "1", "--output"]
    assert build.main([*words, str(tmp_path / "uninterrupted")]) == 0
    command = [sys.executable, "-c", KILLED_AFTER_THE_SECOND_SHARD, *words, str(tmp_path / "resumed")]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "resumed" / "train").exists()
    notes = (tmp_path / "resumed" / "train.partial" / "journal.jsonl").read_text().splitlines()
    assert json.loads(notes[1])["shard"] == "phantom-000000.tar"
    assert build.main([*words, str(tmp_path / "resumed")]) == 0
    assert tree(tmp_path / "resumed") == tree(tmp_path / "uninterrupted")


def test_the_output_must_be_writable(tmp_path: Path) -> None:
    if os.geteuid() == 0:  # root may write anywhere, but not to a folder that is a file
        (tmp_path / "o").write_text("")
    else:
        (tmp_path / "o").mkdir(mode=0o500)
    with pytest.raises(MachineError):
        build_splits(arguments(tmp_path / "o"), "demo", {"train": items(1)}, {})


def test_a_damaged_index_of_a_finished_split_is_refused_by_name(tmp_path: Path) -> None:
    arguments = [
        "phantom",
        "--output",
        str(tmp_path / "d"),
        "--train",
        "1",
        "--val",
        "1",
        "--test",
        "1",
        "--size",
        "32",
    ]
    assert build.main(arguments) == 0
    header = tmp_path / "d" / "train" / "index.json"
    changed = header.read_bytes().replace(b'"samples": 1', b'"samples": 2')
    for content in (b"[" * 100_000, b"\xff\xfe", b"null", changed):
        header.write_bytes(content)
        with pytest.raises(DataError, match="train/index.json: .*remove the folder, or run python -m shards.verify"):
            build.build(arguments)
