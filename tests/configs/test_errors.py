"""What ends a command is one sentence and the exit code of the table: mistakes, full disks, the keyboard."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.errors import DataError, run_command
from shards import build, inspect, verify
from slurm import submit


def fails(error: BaseException) -> Callable[..., int]:
    def work(*_: object, **__: object) -> int:
        raise error

    return work


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/one/metrics.jsonl")


def test_each_end_has_its_sentence_and_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: 7) == 7
    assert run_command(fails(DataError("x.tar: cut off")), "rank 2: ") == 4
    assert capsys.readouterr().err == "rank 2: error: x.tar: cut off\n"
    assert run_command(fails(no_space())) == 6
    assert capsys.readouterr().err.startswith("error: runs/one/metrics.jsonl: No space left on device: free space")
    assert run_command(fails(KeyboardInterrupt())) == 130


def test_a_fault_of_the_program_is_not_taken_for_the_machines() -> None:
    with pytest.raises(FileNotFoundError):
        run_command(fails(FileNotFoundError(errno.ENOENT, "no such file", "x")))


@pytest.mark.parametrize("error, code", [(no_space(), 6), (KeyboardInterrupt(), 130)])
def test_every_tool_ends_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    monkeypatch.setattr(build, "build", fails(error))
    monkeypatch.setattr(inspect.index, "tars", fails(error))
    monkeypatch.setattr(submit, "submit", fails(error))
    for main, words in (
        (build.main, ["phantom", "--output", "x"]),
        (inspect.main, ["nowhere"]),
        (verify.main, ["nowhere"]),
        (submit.main, ["--stages", "x.yaml"]),
    ):
        assert main(words) == code
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and ("No space left on device" in said or said == "interrupted\n")


def test_a_report_that_cannot_be_written_is_refused_by_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        verify, "verify", lambda *_, **__: {"folder": "x", "findings": [], "splits": {}, "errors": 0, "warnings": 0}
    )
    (tmp_path / "file").touch()
    assert verify.main(["x", "--report", str(tmp_path / "file" / "r.json")]) == 6
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'file' / 'r.json'}: cannot write the report (")


def test_a_split_that_may_not_be_listed_is_not_passed_over(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "val").mkdir()
    monkeypatch.setattr(verify.os, "listdir", fails(PermissionError(errno.EACCES, "Permission denied", "data/val")))
    assert verify.main([str(tmp_path)]) == 6
    assert capsys.readouterr().err.startswith("error: data/val: Permission denied: ")
