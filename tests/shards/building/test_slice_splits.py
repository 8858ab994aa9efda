"""One subject divided by slices, and split files that select slices: no slice in two splits, none lost unsaid."""

import argparse
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quell.configs.errors import ConfigError, DataError
from quell.shards.building import slice_splits, splits
from quell.shards.building.items import Sample, WorkItem
from quell.shards.listing import left_out


def arguments(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"split": "60,20,20", "split_file": None, "slice_gap": None, "seed": 1, **more})


def subject(name: str, numbers: range = range(10)) -> WorkItem:
    """A volume whose slices have the given numbers."""
    samples = [Sample.of_arrays(f"{name}-{n:03d}", {"pd": np.zeros((4, 4))}, slice=n) for n in numbers]
    return WorkItem(name, name, lambda: samples)


def slices(divided: dict[str, list[WorkItem]]) -> dict[str, list[int]]:
    loaded = {split: [sample for item in items for sample in item.load()] for split, items in divided.items()}
    return {split: [int(sample.key[-3:]) for sample in samples] for split, samples in loaded.items() if samples}


def test_one_subject_is_divided_by_slices_with_a_gap_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), left_out.collect() as entries:
        divided = slices(splits.divide([subject("knee")], arguments(slice_gap=1)))
    assert divided == {"train": [0, 1, 2, 3, 4], "val": [6, 7], "test": [9]} or divided == {
        "train": [0, 1, 2, 3, 4],
        "val": [6],
        "test": [8, 9],
    }
    assert len({number for numbers in divided.values() for number in numbers}) == 8
    assert [entry.kind for entry in entries] == ["slice of a gap"] * 2
    assert "results say nothing about other subjects" in caplog.text


@pytest.mark.parametrize("gap", [0, 1, 2])
@pytest.mark.parametrize("count", [8, 11, 30])
def test_runs_cover_all_slices_but_the_gaps(count: int, gap: int) -> None:
    parts = {"train": 80.0, "val": 10.0, "test": 10.0}
    runs = [slice_splits.run_of_slices(count, split, parts, gap) for split in parts]
    assert runs[0].start == 0 and runs[-1].stop == count
    assert all(len(run) > 0 for run in runs)
    assert all(later.start - earlier.stop == gap for earlier, later in pairwise(runs))


def test_too_few_slices_and_several_subjects_are_refused() -> None:
    with pytest.raises(DataError, match="knee: 5 slices are too few for 3 splits with a gap of 2"):
        slices(splits.divide([subject("knee", range(5))], arguments(slice_gap=2)))
    with pytest.raises(ConfigError, match="there are 2, e.g. a and b"):
        splits.divide([subject("a"), subject("b")], arguments(slice_gap=1))


def test_a_split_file_selects_slices_and_leaves_groups_out(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text("group,split,slices\na,train,0-3;5\na,test,7-8\nb,none\nc,val\n")
    with left_out.collect() as entries:
        divided = splits.divide([subject("a"), subject("b"), subject("c")], arguments(split_file=str(file)))
    assert slices(divided) == {"train": [0, 1, 2, 3, 5], "test": [7, 8], "val": list(range(10))}
    assert [(entry.kind, entry.what) for entry in entries] == [("group without split", "b")]
    groups = {split: {item.group for item in items} for split, items in divided.items()}
    assert not groups["train"] & groups["test"], "the builder refuses a group that is in two splits"


def test_none_leaves_a_group_out_without_slices_too(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text("a,train\nb,none\n")
    with left_out.collect() as entries:
        divided = splits.divide([subject("a"), subject("b")], arguments(split_file=str(file)))
    assert slices(divided) == {"train": list(range(10))}
    assert [entry.what for entry in entries] == ["b"]


def test_slice_numbers_are_those_of_the_volume_not_of_what_was_kept(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text("a,train,3-4\n")
    assert slices(splits.divide([subject("a", range(2, 8))], arguments(split_file=str(file)))) == {"train": [3, 4]}
    file.write_text("a,train,0-4\n")
    with pytest.raises(DataError, match="a: the split file lists slice 0, but the slices that were read are 2 to 7"):
        slices(splits.divide([subject("a", range(2, 8))], arguments(split_file=str(file))))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,train,0-3\na,test,3-5\n", "slice 3 of 'a' is in two lines, 1 and 2"),
        ("a,train,0-3\na,test\n", "lines 1 and 2 are both about 'a'"),
        ("a,train,5-3\n", "line 1: expected slice numbers such as 0-11;13, got '5-3'"),
        ("a,train,x\n", "line 1: expected slice numbers"),
        ("b,train,1\n", "1 groups have no line, e.g. a"),
        ("a,trian,0-3\n", "line 1 is 'a,trian,0-3'; expected `group,split`"),
    ],
)
def test_mistakes_in_a_split_file_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "s.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        splits.divide([subject("a")], arguments(split_file=str(file)))
