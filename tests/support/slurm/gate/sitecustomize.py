"""Lets a test hold a training run between two steps; Python reads this first where its folder is on PYTHONPATH.

A run waits once it has done as many steps as the file `held` in its run folder says, for as long as that file is there.
"""

import importlib.util
import sys
import time
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


def held(step: int) -> bool:
    """Whether the run of this process is to wait before it takes the step."""
    try:
        return step >= int(Path(sys.argv[sys.argv.index("--run-dir") + 1], "held").read_text())
    except FileNotFoundError:
        return False


class Finder(MetaPathFinder):
    """Puts the wait before every step when `launch.loop` is imported."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """The module's own specification, which also replaces its `train_step`; of all others nothing is known."""
        if name != "launch.training.loop":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec and spec.loader
        load = spec.loader.exec_module

        def with_the_wait(module: ModuleType) -> None:
            load(module)
            take = module.train_step

            def step_when_let_go(phases: Any, pipeline: Any, step: int, *others: Any) -> Any:
                while held(step):
                    time.sleep(0.02)
                return take(phases, pipeline, step, *others)

            module.train_step = step_when_let_go  # type: ignore[attr-defined]

        spec.loader.exec_module = with_the_wait  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Finder())
