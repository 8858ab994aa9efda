"""The common writer: parallel, in order, taken up again after a kill with the same bytes."""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.errors import DataError, MachineError
from configs.support.paths import ROOT
from shards import build
from shards.building import assemble, splits
from shards.building.assemble import Item
from shards.reading.shard_set import ShardSet

KILLED_AFTER_THE_SECOND_SHARD = """
import os, signal, sys
from shards import build
from shards.building import assemble
done = assemble._Build._done
def killed(self, shard):
    done(self, shard)
    if shard.name.endswith("-000001.tar"):
        os.kill(os.getpid(), signal.SIGKILL)
assemble._Build._done = killed
sys.exit(build.main(sys.argv[1:]))
"""


def arguments(output: Path, **more: Any) -> argparse.Namespace:
    settings = {"output": str(output), "seed": 1, "shard_mb": 0.01, "workers": 3, "limit": None, "dry_run": False}
    return argparse.Namespace(**{**settings, **more})


def items(count: int = 9, samples: int = 3, fail_at: int | None = None) -> Sequence[Item]:
    def load(number: int) -> list[dict[str, Any]]:
        if number == fail_at:
            raise OSError("the disk is gone")
        return [
            {
                "__key__": f"v{number}-{part}",
                "x.npy": np.full((20, 20), number * 10 + part, np.float32),
                "json": {"part": part},
            }
            for part in range(samples)
        ]

    return [
        Item(f"v{number}", f"patient-{number}", lambda number=number: load(number))  # type: ignore[misc]
        for number in range(count)
    ]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_order_groups_card_and_preview(tmp_path: Path) -> None:
    assemble.write(arguments(tmp_path), "demo", {"train": items(), "test": []}, {"data_range": 1.0, "licence": "MIT"})
    shards = ShardSet.open(tmp_path / "train")
    assert [shards.key(i) for i in range(27)] == [f"v{i}-{part}" for i in range(9) for part in range(3)]
    assert shards.json(4) == {"group": "patient-1", "part": 1} and (shards.read(13, "x") == 41).all()
    card = (tmp_path / "dataset.md").read_text()
    assert "Licence: MIT" in card and "| train | 27 |" in card and (tmp_path / "preview.png").stat().st_size > 100
    assert not list(tmp_path.glob("*.partial")) and not (tmp_path / "test").exists()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("quell")] == []


@pytest.mark.parametrize("fail_at", [0, 4, 8])
def test_a_build_that_broke_goes_on_to_the_same_bytes(tmp_path: Path, fail_at: int) -> None:
    meta = {"data_range": 1.0}
    assemble.write(arguments(tmp_path / "whole"), "demo", {"train": items()}, meta)
    for _ in range(2):
        with pytest.raises(DataError, match=f"v{fail_at}: cannot be read .the disk is gone"):
            assemble.write(arguments(tmp_path / "cut"), "demo", {"train": items(fail_at=fail_at)}, meta)
        assert not (tmp_path / "cut" / "train").exists()
    kept = sorted((tmp_path / "cut" / "train.partial").glob("*.tar"))
    times = {path.name: path.stat().st_mtime_ns for path in kept[: fail_at // 3]}
    journal = tmp_path / "cut" / "train.partial" / "journal.jsonl"
    journal.write_text(journal.read_text() + '{"shard": "demo-0000')  # a kill may leave half a line
    assemble.write(arguments(tmp_path / "cut", workers=1), "demo", {"train": items()}, meta)
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")
    assert all((tmp_path / "cut" / "train" / name).stat().st_mtime_ns == time for name, time in times.items())


def test_finished_is_left_alone_and_other_input_refused(tmp_path: Path) -> None:
    assemble.write(arguments(tmp_path), "demo", {"train": items()}, {})
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "train").iterdir()}
    assemble.write(arguments(tmp_path, workers=1), "demo", {"train": items()}, {})
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "train").iterdir()}
    with pytest.raises(DataError, match="made from other input"):
        assemble.write(arguments(tmp_path, seed=2), "demo", {"train": items()}, {})
    with pytest.raises(DataError, match="made from other input"):
        assemble.write(arguments(tmp_path), "demo", {"train": items(8)}, {})


def test_dry_run_writes_nothing_and_limit_shortens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assemble.write(arguments(tmp_path / "d", dry_run=True), "demo", {"train": items()}, {})
    assert "train: 9 files or volumes of 9 groups, v0 ... v8" in capsys.readouterr().out
    assert not (tmp_path / "d").exists()
    assemble.write(arguments(tmp_path / "d", limit=2), "demo", {"train": items()}, {})
    assert len(ShardSet.open(tmp_path / "d" / "train")) == 6


def test_refusals(tmp_path: Path) -> None:
    def refused(says: str, chosen: dict[str, Sequence[Item]], error: type[Exception] = DataError) -> None:
        with pytest.raises(error, match=says):
            assemble.write(arguments(tmp_path / "r"), "demo", chosen, {})

    refused("holds nothing", {"train": []})
    refused("group patient-0 would be in train and in test", {"train": items(1), "test": items(1)})
    refused("two files give the key v0", {"train": [*items(1), *items(1)]})
    refused("no samples to write", {"train": items(2, samples=0)})
    refused("without dots", {"train": [Item("a", "a", lambda: assemble.one("a.b", {"x": np.ones((2, 2))}))]})
    refused(
        "sample a: x.npy holds NaN",
        {"train": [Item("a", "a", lambda: assemble.one("a", {"x": np.full((2, 2), np.nan)}))]},
    )
    (tmp_path / "r2").write_text("")
    with pytest.raises(MachineError, match="cannot write shards"):
        assemble.write(arguments(tmp_path / "r2"), "demo", {"train": items(1)}, {})


def test_killed_while_writing(tmp_path: Path) -> None:
    """A real kill -9 between two shards; the second start ends like an undisturbed one."""
    words = [
        "phantom",
        "--train",
        "24",
        "--val",
        "0",
        "--test",
        "0",
        "--size",
        "64",
        "--shard-mb",
        "0.5",
        "--workers",
        "1",
        "--output",
    ]
    assert build.main([*words, str(tmp_path / "whole")]) == 0
    command = [sys.executable, "-c", KILLED_AFTER_THE_SECOND_SHARD, *words, str(tmp_path / "cut")]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "cut" / "train").exists()
    notes = (tmp_path / "cut" / "train.partial" / "journal.jsonl").read_text().splitlines()
    assert json.loads(notes[1])["shard"] == "phantom-000000.tar"
    assert build.main([*words, str(tmp_path / "cut")]) == 0
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def split_args(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"split": "80,10,10", "split_file": None, "seed": 1, **more})


def test_splits_by_group_are_seeded_and_sized() -> None:
    names = [f"p{i}" for i in range(100)]
    home = splits.assign(names * 3, split_args())
    assert {split: list(home.values()).count(split) for split in splits.NAMES} == {"train": 80, "val": 10, "test": 10}
    assert home == splits.assign(reversed(names), split_args()) != splits.assign(names, split_args(seed=2))
    assert sorted(splits.assign(names[:3], split_args()).values()) == ["test", "train", "val"]
    assert set(splits.assign(names, split_args(split="0,0,1")).values()) == {"test"}
    exact = splits.assign([f"i{i}" for i in range(890)], split_args(split="760,40,90"))
    assert list(exact.values()).count("test") == 90 and list(exact.values()).count("val") == 40


def test_split_files(tmp_path: Path) -> None:
    from configs.errors import ConfigError

    file = tmp_path / "s.csv"
    file.write_text("group,split\na,train\nb, test\n")
    assert splits.assign(["a", "b"], split_args(split_file=str(file))) == {"a": "train", "b": "test"}
    for text, says in (
        ("a,train\n", "1 of 2 groups have no line, e.g. b"),
        ("a,trai\nb,test", "line 1"),
        ("a,train\na,test\nb,test", "a is in train and in test"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=says):
            splits.assign(["a", "b"], split_args(split_file=str(file)))
    with pytest.raises(DataError, match="cannot be read"):
        splits.assign(["a"], split_args(split_file=str(tmp_path / "none.csv")))
    for parts in ("1,2", "a,b,c", "-1,1,1", "0,0,0"):
        with pytest.raises(ConfigError, match="expected three numbers"):
            splits.assign(["a"], split_args(split=parts))


def test_the_output_must_be_writable(tmp_path: Path) -> None:
    if os.geteuid() == 0:  # root may write anywhere; a file in the way refuses everybody
        (tmp_path / "o").write_text("")
    else:
        (tmp_path / "o").mkdir(mode=0o500)
    with pytest.raises(MachineError):
        assemble.write(arguments(tmp_path / "o"), "demo", {"train": items(1)}, {})
