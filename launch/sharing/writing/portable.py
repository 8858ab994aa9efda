"""Values without the folders of the machine that they come from."""

from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from quell.configs.loader import structure
from quell.configs.schema import RunConfig


def portable(config: RunConfig) -> RunConfig:
    """A configuration without absolute paths: of each, the last part is left."""
    return structure(without_folders(config.model_dump(mode="json")))


def without_folders(value: Any) -> Any:
    """A plain value in which every text that is an absolute path, of whatever system, is its last part."""
    if isinstance(value, dict):
        return {key: without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_folders(entry) for entry in value]
    if isinstance(value, str) and (PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()):
        return PureWindowsPath(value).name
    return value
