"""Commands end with a one-line message and the right exit code: wrong input, full disks, Ctrl-C."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.errors import DataError, run_command
from shards import build, inspect, verify
from slurm import submit


def failing(error: BaseException) -> Callable[..., int]:
    def work(*_: object, **__: object) -> int:
        raise error

    return work


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/first/metrics.jsonl")


def test_each_kind_of_error_has_its_message_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: 7) == 7
    assert run_command(failing(DataError("x.tar: truncated")), "rank 2: ") == 4
    assert capsys.readouterr().err == "rank 2: error: x.tar: truncated\n"
    assert run_command(failing(no_space())) == 6
    assert capsys.readouterr().err.startswith("error: runs/first/metrics.jsonl: No space left on device: free space")
    assert run_command(failing(KeyboardInterrupt())) == 130


def test_bugs_are_not_reported_as_machine_errors() -> None:
    with pytest.raises(FileNotFoundError):
        run_command(failing(FileNotFoundError(errno.ENOENT, "no such file", "x")))


@pytest.mark.parametrize("error, code", [(no_space(), 6), (KeyboardInterrupt(), 130)])
def test_every_command_reports_errors_this_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    monkeypatch.setattr(build, "build", failing(error))
    monkeypatch.setattr(inspect.index, "tars", failing(error))
    monkeypatch.setattr(submit, "submit", failing(error))
    for main, arguments in (
        (build.main, ["phantom", "--output", "x"]),
        (inspect.main, ["nowhere"]),
        (verify.main, ["nowhere"]),
        (submit.main, ["--stages", "x.yaml"]),
    ):
        assert main(arguments) == code
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and ("No space left on device" in message or message == "interrupted\n")


def test_a_report_that_cannot_be_written_is_an_error_that_names_it(
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


def test_a_folder_without_read_permission_is_an_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "val").mkdir()
    monkeypatch.setattr(verify.os, "listdir", failing(PermissionError(errno.EACCES, "Permission denied", "data/val")))
    assert verify.main([str(tmp_path)]) == 6
    assert capsys.readouterr().err.startswith("error: data/val: Permission denied: ")
