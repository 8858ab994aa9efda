"""Python inside a site's container: the words before it, the options of srun, and the folders it has to see."""

import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from quell.configs import loader
from quell.configs.errors import ConfigError
from quell.configs.support.paths import ROOT, base
from quell.slurm.stages.plan import PlannedStage
from quell.slurm.stages.site import Container


def prefix(container: Container, stage: PlannedStage, root: Path) -> list[str]:
    """The words that start Python in the container; none with pyxis, where srun does that."""
    if container.command is not None:
        return shlex.split(container.command)
    if container.runtime == "pyxis":
        return []
    gpus = ["--nv"] if stage.settings.resources.gpus_per_node else []
    mounts = [word for mount in _mounts(container, stage, root) for word in ("--bind", mount)]
    return [str(container.runtime), "exec", *gpus, *mounts, *container.options, str(container.image)]


def srun_options(container: Container, stage: PlannedStage, root: Path) -> list[str]:
    """The options by which pyxis starts a container; none for every other runtime."""
    if container.runtime != "pyxis":
        return []
    mounts = ",".join(mount if ":" in mount else f"{mount}:{mount}" for mount in _mounts(container, stage, root))
    return [f"--container-image={container.image}", f"--container-mounts={mounts}", *container.options]


def _mounts(container: Container, stage: PlannedStage, root: Path) -> list[str]:
    """The site's own mounts, and the folders without which no stage works unless one of those has them."""
    listed = [Path(mount.split(":")[0]) for mount in container.mounts]
    needed = [root, ROOT, base(), *(folder for text in stage.configs.values() if (folder := _data_folder(text)))]
    missing = [str(folder) for folder in _outermost(needed) if not any(map(folder.is_relative_to, listed))]
    for mount in missing:
        if re.search(r"[:,]", mount):
            raise ConfigError(
                f"'{mount}' contains a colon or a comma, which separate the mounts of a container: choose another "
                "folder, or mount one above it (site.container.mounts)"
            )
    return [*container.mounts, *missing]


def _data_folder(config: str) -> Path | None:
    """The folder of a configuration's shards, or the nearest one above it that exists by now; None for a URL."""
    location = str(loader.parse(config)["data"]["root"])
    if "://" in location:
        return None
    folder = next(path for path in (Path(location), *Path(location).parents) if path.exists())
    return folder if folder != Path(os.sep) else None


def _outermost(folders: Iterable[Path]) -> list[Path]:
    """The folders without those that lie below another one."""
    different = list(dict.fromkeys(folders))
    return [folder for folder in different if not any(other in folder.parents for other in different)]
