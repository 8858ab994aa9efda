"""Listing a folder: which files are read, and what the account of the others says."""

import os
from pathlib import Path

import numpy as np
import pytest

from quell.configs.errors import DataError
from quell.shards.listing.finite import check_finite
from quell.shards.listing.folders import list_files
from quell.shards.listing.left_out import HARMLESS, LeftOut, collect, counts, leave_out, noted, plural, sentences


def fill(folder: Path) -> None:
    """A folder as people have it."""
    for name in ("b.png", "a.PNG", ".c.png", "._a.png", ".DS_Store", "Thumbs.db", "DICOMDIR", "notes.txt", "x.docx"):
        (folder / name).write_bytes(b"x")
    (folder / "sub" / "deeper").mkdir(parents=True)
    (folder / "sub" / "deeper" / "d.png").write_bytes(b"x")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "e.png").write_bytes(b"x")
    os.symlink(folder / "gone.png", folder / "broken.png")
    os.symlink(folder / "b.png", folder / "link.png")
    os.symlink(folder, folder / "sub" / "loop")


def test_everything_that_is_not_read_is_noted_by_kind(tmp_path: Path) -> None:
    fill(tmp_path)
    with collect() as entries:
        files = list_files(tmp_path, (".png",))
    assert [path.name for path in files] == ["a.PNG", "b.png", "link.png"]
    by_kind = {kind: sorted(Path(e.what).name for e in entries if e.kind == kind) for kind in counts(entries)}
    assert by_kind == {
        "junk file": [".DS_Store", "._a.png", "DICOMDIR", "Thumbs.db", "__MACOSX"],
        "broken link": ["broken.png"],
        "hidden file": [".c.png"],
        "sub-folder": ["sub"],
        "text file": ["notes.txt"],
        "file of another type": ["x.docx"],
    }
    assert set(by_kind) & set(HARMLESS) == {"junk file", "text file"}


def test_sub_folders_are_searched_once_and_links_do_not_loop(tmp_path: Path) -> None:
    fill(tmp_path)
    with collect() as entries:
        files = list_files(tmp_path, (".png",), recursive=True)
    assert [path.name for path in files] == ["a.PNG", "b.png", "link.png", "d.png"]
    assert [Path(e.what).name for e in entries if e.kind == "folder that is reached twice"] == ["loop"]


def test_a_pattern_selects_and_notes_only_what_it_matches(tmp_path: Path) -> None:
    fill(tmp_path)
    with collect() as entries:
        files = list_files(tmp_path, (".png",), pattern="b*")
    assert [path.name for path in files] == ["b.png"]
    assert {e.kind for e in entries} - set(HARMLESS) == {"broken link"}


def test_names_without_a_suffix_and_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "IM0001").write_bytes(b"x")
    assert [path.name for path in list_files(tmp_path, (".dcm", ""))] == ["IM0001"]
    with pytest.raises(DataError, match=r"no images match \*.q .supported: .png"):
        list_files(tmp_path, (".png",), pattern="*.q", what="images")
    with pytest.raises(DataError, match="no such folder"):
        list_files(tmp_path / "none", (".png",))


def test_the_account_counts_names_and_does_nothing_where_nobody_collects() -> None:
    leave_out("dark slice", "a-000")
    assert noted() == []
    with collect() as entries:
        for number in range(12):
            leave_out("dark slice", f"a-{number:03d}")
        leave_out("broken link", "b.png", "to c.png")
        leave_out("broken link", "b.png", "to c.png")
        assert len(noted()) == 13
    dark, broken = sentences(entries)
    assert dark.startswith("12 dark slices: a-000, a-001") and dark.endswith("a-009 and 2 more")
    assert broken == "1 broken link: b.png (to c.png)"
    assert counts([LeftOut("x", "1"), LeftOut("y", "1"), LeftOut("y", "2")]) == {"y": 2, "x": 1}
    assert plural("file without partner") == "files without partner" and plural("sub-folder") == "sub-folders"


@pytest.mark.parametrize("value", [1e300, -1e300, 1e-300, 1e300j])
def test_numbers_that_single_precision_cannot_hold_are_refused(value: complex) -> None:
    image = np.zeros((3, 4), np.asarray(value).dtype)
    image[1, 2] = value
    with pytest.raises(DataError, match=r"a\.npy: its largest number is 1e[+-]300"):
        check_finite(image, "a.npy")
    check_finite(image / abs(value) * 1e30, "a.npy")
    check_finite(np.full((3, 4), 6e4, np.float16), "a.npy")
