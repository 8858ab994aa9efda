"""Site settings from a file of its own, by path or by the name of one in configs/sites/."""

import os
from pathlib import Path

from quell.configs import loader
from quell.configs.errors import ConfigError
from quell.configs.support.mappings import Settings
from quell.configs.support.paths import ROOT, from_here
from quell.configs.support.suggestions import did_you_mean

SITE_VARIABLE = "QUELL_SITE"
FOLDER = ROOT / "configs" / "sites"
_SUFFIXES = (".yaml", ".yml", ".json")


def find(site: str | Path | None) -> Path | None:
    """The file that `--site` or, without it, $QUELL_SITE means; None where neither is given.

    A text that contains a slash or ends like a YAML file is a path; anything else names a file in configs/sites/.

    Raises:
        ConfigError: There is no site of that name.
    """
    text = str(site or os.environ.get(SITE_VARIABLE) or "")
    if not text:
        return None
    if "/" in text or text.endswith(_SUFFIXES):
        return from_here(text)
    file = FOLDER / f"{text}.yaml"
    if not file.is_file():
        names = sorted(shipped.stem for shipped in FOLDER.glob("*.yaml"))
        raise ConfigError(
            f"no site '{text}' in {FOLDER}; {did_you_mean(text, names)} A file elsewhere is given by its path, ./{text}"
        )
    return file


def read(file: Path | None) -> Settings:
    """The settings in a site file, not checked yet; none without a file."""
    return loader.read(file) if file else {}


def merged(of_file: Settings, of_stages: Settings) -> Settings:
    """The settings of both; those of the stage file win, key by key within `environment` and the like."""
    both = {**of_file, **of_stages}
    for key in of_file.keys() & of_stages.keys():
        if isinstance(of_file[key], dict) and isinstance(of_stages[key], dict) and key != "container":
            both[key] = {**of_file[key], **of_stages[key]}
    return both
