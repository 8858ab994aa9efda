"""The journal of a build: what is read back after any interruption."""

import json
from pathlib import Path

import pytest

from quell.shards.building.journal import JOURNAL, Journal, Position
from quell.shards.listing.left_out import LeftOut

DARK = LeftOut("dark slice", "v0-1", "too dark")


def started(folder: Path, shards: int) -> Journal:
    """A journal with so many finished shards."""
    journal = Journal(folder, "plan")
    assert journal.resume() == Position(0, 0)
    for number in range(shards):
        add(journal, number)
    return journal


def add(journal: Journal, number: int) -> None:
    shard = journal.folder / f"demo-{number:06d}.tar"
    shard.write_bytes(b"x" * (100 + number))
    journal.add(shard, Position(number + 1, 2), [DARK] if number == 0 else [])


def resumed(folder: Path) -> tuple[Journal, Position]:
    journal = Journal(folder, "plan")
    return journal, journal.resume()


def test_a_second_interruption_after_half_a_line_loses_and_renumbers_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "train.partial"
    started(folder, 2)
    with open(folder / JOURNAL, "a", encoding="utf-8") as file:
        file.write('{"shard": "demo-000002.tar", "si')  # SIGKILL
    journal, position = resumed(folder)
    assert (journal.shards, position) == (["demo-000000.tar", "demo-000001.tar"], Position(2, 2))
    add(journal, 2)
    add(journal, 3)  # killed again
    journal, position = resumed(folder)
    assert journal.shards == [f"demo-00000{number}.tar" for number in range(4)] and position == Position(4, 2)
    assert journal.left_out == [DARK]


def test_a_journal_with_a_hole_is_used_up_to_the_hole(tmp_path: Path) -> None:
    """As an earlier version left it, which appended to half a line."""
    folder = tmp_path / "train.partial"
    started(folder, 4)
    lines = (folder / JOURNAL).read_text().splitlines(keepends=True)
    (folder / JOURNAL).write_text("".join([*lines[:2], '{"shard": "demo-000001.tar", "s' + lines[2], *lines[3:]]))
    journal, position = resumed(folder)
    assert (journal.shards, position) == (["demo-000000.tar"], Position(1, 2))
    assert sorted(path.name for path in folder.iterdir()) == ["demo-000000.tar", JOURNAL]
    assert (folder / JOURNAL).read_text().startswith('{"plan": "plan"}\n{"shard": "demo-000000.tar"')


@pytest.mark.parametrize("damage", ["missing", "shorter", "other keys", "back", "no object"])
def test_lines_that_do_not_hold_end_the_journal(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "train.partial"
    started(folder, 3)
    lines = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]
    if damage == "missing":
        (folder / "demo-000001.tar").unlink()
    elif damage == "shorter":
        (folder / "demo-000001.tar").write_bytes(b"")
    else:
        lines[2] = {"other keys": {"shard": 3}, "back": {**lines[2], "item": 0}, "no object": [1]}[damage]
        (folder / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    journal, position = resumed(folder)
    assert position == Position(1, 2) and journal.shards == ["demo-000000.tar"]


@pytest.mark.parametrize("content", [None, "", '{"plan": "pl', '{"plan": "other"}\n'])
def test_without_the_plan_everything_starts_over(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "train.partial"
    started(folder, 1)
    if content is None:
        (folder / JOURNAL).unlink()
    else:
        (folder / JOURNAL).write_text(content)
    assert resumed(folder)[1] == Position(0, 0)
    assert [path.name for path in folder.iterdir()] == [JOURNAL]
