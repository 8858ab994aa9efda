"""Written splits: readable by webdataset itself, the same bytes every time, and refused where they would be invalid."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from quell.configs.errors import DataError, MachineError
from quell.shards.building.writer import write_split
from quell.shards.reading.shard_set import ShardSet
from tests.support.tars import encoded


def samples(count: int = 7) -> list[dict[str, Any]]:
    return [
        {
            "__key__": f"k{i}",
            "json": {"i": i},
            "pd.npy": np.full((4, 5), i, np.complex64),
            "mask.npy": np.full((4, 5), i, np.uint16),
            "png": encoded(np.full((4, 5, 3), i, np.uint8), "png"),
        }
        for i in range(count)
    ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset does not close its files
def test_webdataset_reads_written_splits(tmp_path: Path) -> None:
    write_split(tmp_path / "train", samples(), name="demo", meta={}, max_size_mb=0.002)
    tars = sorted(str(tar) for tar in (tmp_path / "train").glob("*.tar"))
    assert len(tars) > 1 and tars[0].endswith("demo-000000.tar")
    stock = webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8")
    for i, sample in enumerate(stock):
        assert sample["__key__"] == f"k{i}" and sample["json"] == {"i": i}
        assert sample["pd.npy"].dtype == np.complex64 and (sample["pd.npy"] == i).all()
        assert sample["mask.npy"].dtype == np.uint16 and (sample["png"] == i).all()
    assert i == 6
    del stock
    gc.collect()


def test_shards_written_by_webdataset_are_read(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    with webdataset.ShardWriter(str(tmp_path / "val" / "x-%03d.tar"), maxcount=3, verbose=0) as sink:
        for i in range(7):
            sink.write(
                {
                    "__key__": f"folder.v1/case-{i}",
                    "pd.npy": np.full((4, 5), i, np.float32),
                    "json": {"i": i},
                    "txt": "a caption",
                    "jpg": np.full((16, 16, 3), 40 * i, np.uint8),
                }
            )
    shards = ShardSet.open(tmp_path / "val")
    assert len(shards) == 7 and set(shards.fields) == {"pd", "jpg"}
    for i in range(7):
        assert shards.key(i) == f"folder.v1/case-{i}" and shards.json(i) == {"i": i}
        assert (shards.read(i, "pd") == i).all() and shards.read(i, "jpg").shape == (16, 16, 3)
        assert abs(int(shards.read(i, "jpg")[3, 3, 0]) - 40 * i) < 4


def test_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_split(tmp_path / name, samples(), name="demo", meta={"sigma": 1}, max_size_mb=0.002)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir()) and len(files) > 3
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ([{"__key__": "a.b", "pd.npy": np.zeros((2, 2))}], "without dots"),
        ([{"pd.npy": np.zeros((2, 2))}], "sample key None"),
        ([{"__key__": "a", "pd.npy": np.zeros((2, 2))}] * 2, "'a' appears twice"),
        ([], "no samples"),
        ([{"__key__": "a", "pd.npy": [1, 2]}], "list cannot be stored"),
        ([{"__key__": "a", "pd.npy": np.zeros(3, np.float32)}], "shape \\(3,\\) is not an image"),
    ],
)
def test_unusable_samples_are_refused(tmp_path: Path, broken: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_split(tmp_path / "train", broken, name="demo", meta={})
    assert not (tmp_path / "train").exists()


def test_existing_files_are_never_overwritten(tmp_path: Path) -> None:
    write_split(tmp_path / "train", samples(2), name="demo", meta={})
    with pytest.raises(DataError, match="already holds files"):
        write_split(tmp_path / "train", samples(2), name="demo", meta={})
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot write shards"):
        write_split(tmp_path / "file" / "train", samples(2), name="demo", meta={})
