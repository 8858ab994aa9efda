"""Dividing groups into train, val and test, at random or from a file."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from quell.configs.errors import ConfigError, DataError
from quell.shards.building import splits


def arguments(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"split": "80,10,10", "split_file": None, "seed": 1, **more})


def test_random_splits_depend_on_names_and_seed_and_have_the_sizes_asked_for() -> None:
    names = [f"p{i}" for i in range(100)]
    split_of = splits.assign(names * 3, arguments())
    assert {split: list(split_of.values()).count(split) for split in splits.NAMES} == {
        "train": 80,
        "val": 10,
        "test": 10,
    }
    assert split_of == splits.assign(reversed(names), arguments()) != splits.assign(names, arguments(seed=2))
    assert sorted(splits.assign(names[:3], arguments()).values()) == ["test", "train", "val"]
    assert set(splits.assign(names, arguments(split="0,0,1")).values()) == {"test"}
    exact = splits.assign([f"i{i}" for i in range(890)], arguments(split="760,40,90"))
    assert list(exact.values()).count("test") == 90 and list(exact.values()).count("val") == 40


def test_split_files_are_read_and_their_mistakes_named(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text("group,split\na,train\nb, test\n")
    assert splits.assign(["a", "b"], arguments(split_file=str(file))) == {"a": "train", "b": "test"}
    for text, message in (
        ("a,train\n", "1 of 2 groups have no line, e.g. b"),
        ("a,trai\nb,test", "line 1"),
        ("a,train\na,test\nb,test", "group 'a' is in two splits, train and test"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=message):
            splits.assign(["a", "b"], arguments(split_file=str(file)))
    with pytest.raises(DataError, match="cannot be read"):
        splits.assign(["a"], arguments(split_file=str(tmp_path / "none.csv")))
    for parts in ("1,2", "a,b,c", "-1,1,1", "0,0,0"):
        with pytest.raises(ConfigError, match="expected three numbers"):
            splits.assign(["a"], arguments(split=parts))
