"""Commands end with a one-line message and the right exit code: wrong input, full disks, Ctrl-C."""

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from quell.configs.errors import DataError, run_command
from quell.configs.support import logs
from quell.configs.support.atomic_files import write_atomically
from quell.shards import build, inspect, verify
from quell.slurm import submit


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


@pytest.mark.parametrize(
    "name",
    [
        "ENOSPC",
        "EFBIG",
        "EPIPE",
        "ESTALE",
        "ETIMEDOUT",
        "ENOTCONN",
        "ECONNRESET",
        "EDQUOT",
        "EROFS",
        "ENOMEM",
        "EIO",
        "EISDIR",
        "ENOTDIR",
    ],
)
def test_every_error_of_the_machine_is_one_sentence_with_its_file(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    number = getattr(errno, name)
    assert run_command(failing(OSError(number, os.strerror(number), "runs/x/metrics.jsonl")), "rank 3: ") == 6
    message = capsys.readouterr().err
    assert message.startswith(f"rank 3: error: runs/x/metrics.jsonl: {os.strerror(number)}: ")
    assert message.count("\n") == 1 and message.rstrip()[-1] != ":"


def test_an_output_that_nobody_reads_ends_a_command_without_a_traceback(root: Path) -> None:
    code = (
        "import sys; from quell.configs.errors import run_command; "
        "sys.exit(run_command(lambda: print('x' * 10**6) or 0))"
    )
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run([sys.executable, "-c", code], cwd=root, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert process.returncode == 6
    assert process.stderr == "error: the output: Broken pipe: the program that read this output has ended\n"


def test_a_console_that_is_gone_does_not_end_what_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr(sys, "stderr", Closed())
    logs.get_logger("test").info("step 1")
    logs.get_logger("test").warning("slow")


def test_files_replaced_as_a_whole_name_themselves_when_they_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text("old")
    monkeypatch.setattr(Path, "write_text", failing(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "a.json", "new")
    assert caught.value.filename == str(tmp_path / "a.json")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
