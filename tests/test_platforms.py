"""What Linux can show of other platforms: names that only POSIX has, and a run in a Python that behaves as on Windows.

Nothing here replaces a test on such a machine; docs/platforms.md says what has been tested where.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from quell.configs.errors import MachineError
from quell.configs.support.paths import ROOT
from quell.slurm import submit
from tests.support.commands import Command
from tests.support.windows.posix_names import is_posix_only, posix_only

ROOMS = ("configs", "launch", "losses", "models", "pipelines", "quell", "shards", "slurm")
SLURM_ONLY = ("slurm",)
"""Rooms whose commands refuse to start on Windows."""

SYSTEM = re.compile(
    r"^\s*(?:import|from) (?:fcntl|grp|mmap|os|pwd|resource|select|shutil|signal|socket|subprocess|sys|termios|time)\b",
    re.MULTILINE,
)
"""Imports of modules that are not the same on all platforms."""
WINDOWS = ROOT / "tests" / "support" / "windows"
AS_ON_WINDOWS = {
    "PYTHONPATH": f"{WINDOWS}:{ROOT}",  # the first has a sitecustomize.py
    "LC_ALL": "C",  # text that names no encoding is ASCII
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "cp1252",  # as output that is redirected on Windows
}


def missing_names(platform: str, files: list[Path]) -> list[str]:
    """What mypy says about names of system modules that a platform lacks and that no `hasattr` guards."""
    options = ["--config-file=", "--platform", platform, "--follow-imports=skip", "--ignore-missing-imports"]
    options += ["--explicit-package-bases", "--no-incremental", "--check-untyped-defs"]
    command = [sys.executable, "-m", "mypy", *options, *map(str, files)]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert "checked" in output or "no issues" in output, output
    return [line for line in output.splitlines() if "Module has no attribute" in line]


@pytest.mark.parametrize(("platform", "exempt"), [("win32", SLURM_ONLY), ("darwin", ())])
def test_no_name_is_used_that_a_platform_lacks(platform: str, exempt: tuple[str, ...]) -> None:
    files = [file for room in ROOMS if room not in exempt for file in sorted((ROOT / room).rglob("*.py"))]
    files = [file for file in files if not file.parent.is_symlink() and SYSTEM.search(file.read_text(encoding="utf-8"))]
    assert len(files) > 80
    assert not missing_names(platform, files)


def test_names_that_a_platform_lacks_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "posix.py"
    file.write_text(
        "import fcntl, os, signal\nfcntl.flock\nsignal.SIGUSR1\nos.fork() if hasattr(os, 'fork') else None\nos.pread\n",
        encoding="utf-8",
    )
    assert [int(line.split(":")[1]) for line in missing_names("win32", [file])] == [2, 3, 5]


def test_the_names_that_windows_lacks_are_known() -> None:
    assert {"fork", "getuid", "pread", "preadv", "sched_getaffinity", "O_CLOEXEC"} <= posix_only("os")
    assert {"SIGUSR1", "SIGKILL", "pthread_sigmask"} <= posix_only("signal")
    assert not {"replace", "cpu_count", "fsync"} & posix_only("os")
    assert all(map(is_posix_only, ("fcntl", "resource", "pwd", "termios"))) and not is_posix_only("os")


def test_a_run_from_images_to_restored_files_needs_nothing_that_windows_lacks(command: Command, tmp_path: Path) -> None:
    """Build, inspect, audit, verify, train, resume, evaluate, diagnose and denoise, with files that are in use."""
    result = command([sys.executable, WINDOWS / "flow.py", tmp_path], env=AS_ON_WINDOWS)
    assert "peak" in result.output
    assert (tmp_path / "run" / "checkpoints" / "step-00000004" / "meta.json").is_file()
    assert (tmp_path / "run" / "report.png").is_file() and (tmp_path / "restored" / "pd_pd.npy").is_file()
    assert list((tmp_path / "run" / "tensorboard").glob("events.*")), "a file was renamed while it was open"
    for name in ("config.yaml", "report.md", "summary.json"):
        assert b"\r" not in (tmp_path / "run" / name).read_bytes()


REFUSED = {
    "import fcntl": "No module named 'fcntl' on Windows",
    "import os; os.pread": "no attribute 'pread' on Windows",
    "from os import fork": "cannot import name 'fork'",
    "import signal; signal.SIGUSR1": "no attribute 'SIGUSR1' on Windows",
    "import os; os.kill(0, 0)": "would end the process on Windows",
    "import os; f = open('a', 'w'); os.replace('a', 'b')": "used by this process",
    "import os; f = open('d/a', 'w'); os.rename('d', 'e')": "used by this process",
    "import os; f = open('a', 'w'); os.remove('a')": "used by this process",
    "import os, shutil; f = open('d/a', 'w'); shutil.rmtree('d')": "used by this process",
    "import mmap, os; f = open('c'); m = mmap.mmap(f.fileno(), 0, prot=1); del f; os.remove('c')": "by this process",
    "import os; open('a', 'w'); open('b', 'w'); os.rename('a', 'b')": "when that file already exists",
    "import os; os.open('d', os.O_RDONLY)": "Permission denied",
    "import os; os.fsync(os.open('c', os.O_RDONLY))": "Bad file descriptor",
    "import os; os.symlink('a', 'b')": "privilege",
    "open('12:30', 'w')": "syntax is incorrect",
    "open('a', 'w').write(chr(0xb5))": "'ascii' codec can't encode",
    "print(chr(0x2192))": "can't encode",
}
"""What Windows refuses, and words of the error."""

TRY_EACH = """
import json, os, sys, tempfile
for code in json.load(sys.stdin):
    os.chdir(tempfile.mkdtemp(dir=sys.argv[1]))
    os.mkdir("d")
    with open("c", "w") as file:
        file.write("content")
    try:
        exec(compile(code, sys.argv[2], "exec"), {})
        print("nothing refused")
    except Exception as error:
        print(ascii(str(error)))
"""


def test_what_windows_refuses_is_refused(tmp_path: Path) -> None:
    """What the run above proves depends on it. The lines count as the project's, by the name of their file."""
    ours = ROOT / "quell" / "example.py"
    ended = subprocess.run(
        [sys.executable, "-c", TRY_EACH, str(tmp_path), str(ours)],
        input=json.dumps(list(REFUSED)), env=os.environ | AS_ON_WINDOWS, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for (code, message), said in zip(REFUSED.items(), ended.stdout.splitlines(), strict=True):
        assert message in said.replace("\\'", "'"), code


def test_a_checkout_works_where_its_links_are_text_files(tmp_path: Path) -> None:
    """Git writes them so on Windows, where links need a privilege."""
    for room in ("configs", "launch", "losses", "models", "pipelines", "shards", "slurm"):
        (tmp_path / room).symlink_to(ROOT / room)
    (tmp_path / "quell").mkdir()
    (tmp_path / "quell" / "__init__.py").write_bytes((ROOT / "quell" / "__init__.py").read_bytes())
    (tmp_path / "quell" / "configs").write_text("../configs", encoding="utf-8")
    code = "import quell.configs.errors as m, quell; print(m.__file__, quell.__file__)"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; {code}"],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == [str(tmp_path / "configs" / "errors.py"), str(tmp_path / "quell" / "__init__.py")]


def test_stages_are_refused_on_windows_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submit, "os", SimpleNamespace(name="nt"))
    assert submit.main(["status", "runs/anything"]) == MachineError.exit_code
    assert capsys.readouterr().err.startswith("error: SLURM does not run on Windows")
