"""The shipped configurations made small (launch/proof/small_configs.py), as tests use them."""

from pathlib import Path

from configs import loader
from configs.schema import RunConfig
from launch.proof.small_configs import CONFIGS, on_first_kind, small_settings


def small(path: Path, roots: dict[str, Path], runs: Path) -> RunConfig:
    """Two steps of a shipped file, on the tiny shards of the first kind that its method accepts."""
    return on_first_kind(small_settings(path, runs), roots, path.name)


def names_in_order() -> list[str]:
    """The names of all files, each after the file whose run it is warm-started from."""
    ordered: list[str] = []

    def add(name: str) -> None:
        start = loader.load(CONFIGS[name]).init_from
        if start is not None:
            assert Path(start.run).name in CONFIGS, f"{name}: init_from.run is not the run of a shipped file"
            add(Path(start.run).name)
        if name not in ordered:
            ordered.append(name)

    for name in CONFIGS:
        add(name)
    return ordered
