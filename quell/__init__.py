"""Train, evaluate and use image-restoration networks: the public package.

The rooms `configs/`, `launch/`, `losses/`, `models/`, `pipelines/`, `shards/` and `slurm/` are its subpackages
`quell.configs`, `quell.launch`, and so on. An installed package has them inside this folder. In a checkout they lie
beside it, where they can also be started as scripts (`launch/train.py`); the links of their names in this folder serve
editors and mypy only.
"""

from pathlib import Path

_FOLDER = Path(__file__).resolve().parent
_ROOMS = ("configs", "launch", "losses", "models", "pipelines", "shards", "slurm")

if all((_FOLDER.parent / room / "__init__.py").is_file() for room in _ROOMS):  # a checkout
    __path__.insert(0, str(_FOLDER.parent))
