"""Values without the folders, servers and accounts of whoever they come from."""

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from quell.configs.loader import structure
from quell.configs.schema import RunConfig
from quell.configs.support.secrets import mask
from quell.configs.tracking import TrackingConfig

_PRIVATE = re.compile(
    r"""(?<![\w.~/\\:-])                 # not inside a word or another path
        (?: [A-Za-z][A-Za-z0-9+.-]+:/{1,3}   # an address
          | ~\w*/ | (?:[\w.-]+/)*\.\./ | /(?!\s)  # of a home folder, outside of the working folder, absolute
          | [A-Za-z]:[\\/] | \\\\ )           # the same on Windows
        [^\s'"<>`|;,()]*""",
    re.VERBOSE,
)


def portable(config: RunConfig) -> RunConfig:
    """A configuration without trackers, and without paths outside of the working folder and addresses.

    Of each path and address the last part is left.
    """
    plain = config.model_dump(mode="json") | {"tracking": TrackingConfig().model_dump(mode="json")}
    return structure(without_folders(plain))


def without_folders(value: Any) -> Any:
    """A plain value in whose texts every path that leaves the working folder, and every address, is its last part."""
    if isinstance(value, dict):
        return {key: without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(entry) for entry in value]
    if not isinstance(value, str):
        return value
    if PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute():  # may hold blanks
        return _last_part(value)
    return _PRIVATE.sub(lambda found: _last_part(found[0]), mask(value))


def _last_part(location: str) -> str:
    return PureWindowsPath(mask(location).split("?")[0].split("#")[0].rstrip("/\\.:")).name
