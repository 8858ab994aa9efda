"""Train, evaluate and use image-restoration networks: the public package.

The rooms `configs/`, `launch/`, `losses/`, `models/`, `pipelines/`, `shards/` and `slurm/` are its subpackages
`quell.configs`, `quell.launch`, and so on. An installed package has them inside this folder. In a checkout they lie
beside it, where they can also be started as scripts (`launch/train.py`); the links of their names in this folder serve
editors and mypy only.
"""

from configparser import ConfigParser
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

_FOLDER = Path(__file__).resolve().parent
_ROOMS = ("configs", "launch", "losses", "models", "pipelines", "shards", "slurm")

if all((_FOLDER.parent / room / "__init__.py").is_file() for room in _ROOMS):  # a checkout
    __path__.insert(0, str(_FOLDER.parent))

if TYPE_CHECKING:
    from quell.api.evaluations import Evaluation, evaluate
    from quell.api.models import Model, load
    from quell.api.runs import Run, open_run, train
    from quell.api.shards import Shards, open_shards
    from quell.configs.errors import QuellError

__all__ = [
    "Evaluation",
    "Model",
    "QuellError",
    "Run",
    "Shards",
    "evaluate",
    "load",
    "open_run",
    "open_shards",
    "train",
]

_MODULES = {
    "quell.api.evaluations": ("Evaluation", "evaluate"),
    "quell.api.models": ("Model", "load"),
    "quell.api.runs": ("Run", "open_run", "train"),
    "quell.api.shards": ("Shards", "open_shards"),
    "quell.configs.errors": ("QuellError",),
}
"""Module -> what of it is offered here. It is imported at first use: torch takes seconds."""


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'quell' has no attribute '{name}'")


def _version() -> str:
    """The version of this code: of a checkout its own, whatever else is installed."""
    settings = ConfigParser()
    if __path__[0] == str(_FOLDER.parent) and settings.read(_FOLDER.parent / "setup.cfg", encoding="utf-8"):
        return settings["metadata"]["version"]
    return version("quell")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
