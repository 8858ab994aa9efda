"""The memory of one process: a share of what is free, and never more than a container allows."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from quell.launch.batch_size import memory

GIB = 2**30


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 64 GiB free whose control groups lie in a folder."""
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=64 * GIB))
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    return tmp_path


def group(folder: Path, *, limit: str, used: int, cached: int = 0, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, text in zip(names, (limit, str(used)), strict=True):
        (folder / name).write_text(text + "\n")
    prefix = "" if version == 2 else "total_"
    (folder / "memory.stat").write_text(f"anon 5\n{prefix}inactive_file {cached}\n")


def test_processes_on_cpu_share_what_is_free(groups: Path) -> None:
    assert memory.of_one_process(torch.device("cpu"), 1) == 64 * GIB
    assert memory.of_one_process(torch.device("cpu"), 4) == 16 * GIB


def test_a_process_on_a_gpu_has_all_of_it(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.devices, "total_bytes", lambda _: 80 * GIB)
    assert memory.of_one_process(torch.device("cuda", 0), 4) == 80 * GIB


def test_a_limit_of_any_group_above_counts_and_files_that_can_be_dropped_do_not(groups: Path) -> None:
    (groups / "own").write_text("0::/slurm/job/step\n")
    group(groups / "groups" / "slurm" / "job" / "step", limit="max", used=GIB)
    group(groups / "groups" / "slurm" / "job", limit=str(8 * GIB), used=5 * GIB, cached=3 * GIB)
    assert memory.available_bytes() == 6 * GIB
    group(groups / "groups" / "slurm" / "job", limit=str(8 * GIB), used=9 * GIB)
    assert memory.available_bytes() == 0


def test_a_container_that_sees_only_its_own_group(groups: Path) -> None:
    (groups / "own").write_text("12:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n")
    group(groups / "groups" / "memory", limit=str(4 * GIB), used=GIB, version=1)
    assert memory.available_bytes() == 3 * GIB
    group(groups / "groups" / "memory", limit=str(2**63 - 4096), used=GIB, version=1)
    assert memory.available_bytes() == 64 * GIB, "no limit"
