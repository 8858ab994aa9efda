"""Lets a test hold a training run between two steps; Python imports this first where its folder is on PYTHONPATH.

A run waits once it has done as many steps as the file `held` in its run folder says, for as long as that file exists,
and rests before every step for as many seconds as the file `pace` says.
"""

import importlib.util
import sys
import time
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


def is_held(step: int) -> bool:
    """Whether this process's run has to wait before it takes the step."""
    try:
        return step >= int(Path(sys.argv[sys.argv.index("--run-dir") + 1], "held").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False


def pause_s() -> float:
    """How long this process's run has to rest before every step."""
    try:
        return float(Path(sys.argv[sys.argv.index("--run-dir") + 1], "pace").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return 0.0


class Finder(MetaPathFinder):
    """Puts the wait before every step when `launch.training.loop` is imported."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """The loop's own specification, changed to replace its `train_step`; None for all other modules."""
        if name != "quell.launch.training.loop":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec and spec.loader
        execute = spec.loader.exec_module

        def execute_and_patch(module: ModuleType) -> None:
            execute(module)
            train_step = module.train_step

            def wait_and_train_step(phases: Any, pipeline: Any, step: int, *others: Any) -> Any:
                while is_held(step):
                    time.sleep(0.02)
                time.sleep(pause_s())
                return train_step(phases, pipeline, step, *others)

            module.train_step = wait_and_train_step  # type: ignore[attr-defined]

        spec.loader.exec_module = execute_and_patch  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Finder())
