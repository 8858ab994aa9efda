"""Studies: named lists of runs, each a configuration with overrides and seeds, so that a table is one command.

A file in configs/studies/:

    set: [loop.max_steps=300]              # overrides of every run
    baselines: [noisy, nlm]                # measured beside every run
    runs:
      recommended: {config: cross_guided, seeds: [1, 2, 3]}
      alone: {config: cross_guided_alone, set: [loop.max_steps=150]}
"""

from pathlib import Path

from pydantic import Field, ValidationError

from configs import loader
from configs.baseline_names import COMPARED
from configs.errors import ConfigError
from configs.schema import Count, Section
from configs.support.paths import ROOT
from configs.support.suggestions import did_you_mean

FOLDER = ROOT / "configs" / "studies"


class StudyRun(Section):
    """One row of a study's table."""

    config: str
    """Name of a file in configs/, or its path."""
    set: tuple[str, ...] = ()
    """Changes to single keys, `a.b=c`; they follow the study's own and win over them."""
    seeds: tuple[Count, ...] = Field(default=(1,), min_length=1)
    """The run is trained once with each."""


class Study(Section):
    """A list of runs that are compared in one table."""

    set: tuple[str, ...] = ()
    """Changes to single keys of every run."""
    baselines: tuple[str, ...] = COMPARED
    """What launch/evaluate.py measures beside every run."""
    runs: dict[str, StudyRun] = Field(min_length=1)
    """Row name -> run; the name is the run's, and its folder's."""


def load(name: str) -> Study:
    """The study of a name in configs/studies/ or of a path; ConfigError with every mistake in it."""
    path = Path(name) if Path(name).suffix in (".yaml", ".yml") else FOLDER / f"{name}.yaml"
    if path.parent == FOLDER and not path.is_file():
        known = sorted(file.stem for file in FOLDER.glob("*.yaml"))
        raise ConfigError(f"no study '{name}'; {did_you_mean(name, known)}")
    data = loader.read(path)
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise ConfigError(lines, source=str(path)) from error


def chosen(study: Study, only: list[str]) -> dict[str, StudyRun]:
    """The runs of these names, or all; ConfigError for a name the study has not."""
    unknown = [
        f"the study has no run '{name}'; {did_you_mean(name, list(study.runs))}"
        for name in only
        if name not in study.runs
    ]
    if unknown:
        raise ConfigError(unknown)
    return {name: run for name, run in study.runs.items() if not only or name in only}
