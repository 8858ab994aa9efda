"""Makes Python behave towards this project's code as it does on Windows, as far as Linux can; for a child process.

Hidden from the project's files, while other packages see what is there: modules and names that only POSIX has. For
everybody: no file is removed, replaced or moved while it is open, no folder with an open file is moved, `os.rename`
replaces nothing, there are no symbolic links, no folder is opened, and names with the characters of Windows paths are
refused. Text is not UTF-8 unless somebody says so: the parent sets LC_ALL=C and PYTHONIOENCODING=cp1252.
"""

import builtins
import errno
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any

import psutil

from tests.support.windows.posix_names import is_posix_only, posix_only

ROOT = str(Path(__file__).resolve().parents[3]) + os.sep
ROOMS = tuple(
    ROOT + room for room in ("configs", "launch", "losses", "models", "pipelines", "quell", "shards", "slurm")
)
HIDDEN = {"os": posix_only("os"), "signal": posix_only("signal")}
MODULES = frozenset(name for name in sys.stdlib_module_names if is_posix_only(name)) | {
    "fcntl",
    "resource",
    "pwd",
    "grp",
}
ANSWERS = {("os", "name"): "nt", ("sys", "platform"): "win32"}
FORBIDDEN = frozenset('<>:"|?*')
_frame, _rename, _fsync, _kill, _import = sys._getframe, os.rename, os.fsync, os.kill, builtins.__import__


def is_ours(frame: FrameType | None) -> bool:
    """Whether code of this project runs in a frame."""
    return frame is not None and frame.f_code.co_filename.startswith(ROOMS)


class Disguised(ModuleType):
    """A module that shows the project what Windows has."""

    def __getattribute__(self, name: str) -> Any:
        module = super().__getattribute__("__name__")
        if is_ours(_frame(1)):
            if (module, name) in ANSWERS:
                return ANSWERS[module, name]
            if name in HIDDEN.get(module, ()):
                raise AttributeError(f"module '{module}' has no attribute '{name}' on Windows")
        return super().__getattribute__(name)


def imported(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> ModuleType:
    """`__import__`, which finds no module of POSIX alone."""
    if level == 0 and name.partition(".")[0] in MODULES and is_ours(_frame(1)):
        raise ModuleNotFoundError(f"No module named '{name}' on Windows", name=name)
    return _import(name, globals, locals, fromlist, level)


def open_files() -> set[str]:
    """The files that this process has open."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if os.path.isfile(path):
            found.add(path)
    return found


def mapped_files() -> set[str]:
    """The files that this process has mapped into memory."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        return {line.split(None, 5)[5].strip() for line in maps if line.count(" ") > 4 and "/" in line}


def resolved(path: Any, folder: int) -> str:
    """The absolute path of a file that is named from the working directory, or from an open folder."""
    start = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else os.getcwd()
    return os.path.realpath(os.path.join(start, os.fsdecode(path)))


def refuse_in_use(path: str, *, mapped: bool) -> None:
    """PermissionError where a file, or one in a folder, is open, or (for what is removed) mapped."""
    used = open_files() | (mapped_files() if mapped else set())
    for file in used:
        if file == path or file.startswith(path + os.sep):
            raise PermissionError(errno.EACCES, "used by this process, as Windows would say", file)


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what Windows refuses; an audit hook, which is called before anything happens."""
    if event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.symlink"):
        return
    caller = _frame().f_back
    if caller is not None and caller.f_code.co_filename.endswith("tempfile.py"):
        return  # it removes what it has open, and does so in another way on Windows
    if event == "os.symlink":
        raise OSError(errno.EPERM, "A required privilege is not held by the client")
    if event == "os.remove":
        refuse_in_use(resolved(*arguments), mapped=True)
    elif event == "os.rename":
        source, target, source_folder, target_folder = arguments
        refuse_in_use(resolved(source, source_folder), mapped=False)
        refuse_in_use(resolved(target, target_folder), mapped=True)
        refuse_name(target)
    elif event == "os.mkdir":
        refuse_name(arguments[0])
    elif isinstance(arguments[0], str | bytes):
        path, flags = arguments[0], arguments[-1]
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse_name(path)
        elif is_ours(caller) and os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)


def refuse_name(path: Any) -> None:
    """OSError for a name that Windows does not allow."""
    name = os.path.basename(os.fsdecode(path).rstrip(os.sep))
    if FORBIDDEN.intersection(name) or name != name.rstrip(" ."):
        raise OSError(errno.EINVAL, "The filename, directory name, or volume label syntax is incorrect", path)


def rename(source: Any, target: Any, **folders: Any) -> None:
    """`os.rename`, which replaces nothing."""
    if os.path.exists(target):
        raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", target)
    _rename(source, target, **folders)


def fsync(descriptor: int) -> None:
    """`os.fsync`, which wants a file that may be written."""
    import fcntl

    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    _fsync(descriptor)


def kill(process: int, number: int) -> None:
    """`os.kill`, which ends a process whatever the signal."""
    if is_ours(_frame(1)):
        raise AssertionError(f"os.kill({process}, {number}) would end the process on Windows")
    _kill(process, number)


def memory_info(process: psutil.Process) -> SimpleNamespace:
    """`psutil.Process.memory_info`, which knows the peak."""
    now = _memory_info(process)
    return SimpleNamespace(**now._asdict(), peak_wset=now.rss)


_memory_info, psutil.Process.memory_info = psutil.Process.memory_info, memory_info
for function in (rename, fsync, kill):
    setattr(os, function.__name__, function)
builtins.__import__ = imported
for module in (os, signal, sys):
    module.__class__ = Disguised
multiprocessing.set_start_method("spawn")
sys.addaudithook(watch)
