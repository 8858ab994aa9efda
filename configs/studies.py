"""Lists of runs that are compared in one table: studies, and the documented series of the dual-domain method.

A study is a file in configs/studies/:

    set: [loop.max_steps=300]              # overrides for every run
    baselines: [noisy, nlm]                # evaluated alongside every run
    runs:
      recommended: {config: cross_guided, seeds: [1, 2, 3]}
      alone: {config: cross_guided_alone, set: [loop.max_steps=150]}
"""

from pathlib import Path

from pydantic import Field, ValidationError

from quell.configs import loader
from quell.configs.baseline_names import DEFAULT_BASELINES
from quell.configs.errors import ConfigError
from quell.configs.locations import name_problem
from quell.configs.schema import Count, Section
from quell.configs.support.paths import ROOT
from quell.configs.support.suggestions import did_you_mean

FOLDER = ROOT / "configs" / "studies"

CROSS_DOMAIN = ("cross_no_skip", "cross_target_skip", "cross_baseline", "cross_zero_skip", "cross_mixed_skip")
"""Configurations that differ in the skip connections of the cross path."""

LOSS_ABLATION = (
    "ablation_all_losses",
    "ablation_no_content",
    "ablation_no_recon",
    "ablation_no_cross",
    "ablation_only_cross",
    "ablation_content_recon",
    "ablation_strong_edge",
)
"""Configurations that differ in the loss terms."""

RECIPES = (
    "original_flat_cross",
    "pure_noise2noise",
    "extreme_denoising",
    "progressive_training",
    "progressive_training_stage2",
    "no_skip_everywhere",
)
"""The recipes that the dual-domain documents recommend, after the original setup that does not learn."""


class StudyRun(Section):
    """One row of a study's table."""

    config: str
    """Name of a file in configs/, or its path."""
    set: tuple[str, ...] = ()
    """Overrides of single settings, `a.b=c`; they win over the study's."""
    seeds: tuple[Count, ...] = Field(default=(1,), min_length=1)
    """The run is trained once with each seed."""


class Study(Section):
    """A list of runs that are compared in one table."""

    set: tuple[str, ...] = ()
    """Overrides of single settings in every run."""
    baselines: tuple[str, ...] = DEFAULT_BASELINES
    """What launch/evaluate.py compares every run with."""
    runs: dict[str, StudyRun] = Field(min_length=1)
    """Row name -> run; it also names the run and its folder."""


def load(name: str) -> Study:
    """Load a study.

    Args:
        name: Name of a file in configs/studies/, or a path.

    Raises:
        ConfigError: There is no such file, or it has errors; all of them are reported together.
    """
    path = Path(name) if Path(name).suffix in (".yaml", ".yml") else FOLDER / f"{name}.yaml"
    if path.parent == FOLDER and not path.is_file():
        names = sorted(file.stem for file in FOLDER.glob("*.yaml"))
        raise ConfigError(f"no study '{name}'; {did_you_mean(name, names)}")
    data = loader.read(path)
    try:
        study = Study.model_validate(data)
        problems = [problem for row in study.runs if (problem := name_problem(row))]
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise ConfigError(lines, source=str(path)) from error
    if problems:
        raise ConfigError([f"runs: {problem}" for problem in problems], source=str(path))
    return study


def select(study: Study, only: list[str]) -> dict[str, StudyRun]:
    """The runs of a study with these names, or all of them if there are none, in the order of the file.

    Raises:
        ConfigError: The study has no run of some name.
    """
    unknown = [
        f"the study has no run '{name}'; {did_you_mean(name, list(study.runs))}"
        for name in only
        if name not in study.runs
    ]
    if unknown:
        raise ConfigError(unknown)
    return {name: run for name, run in study.runs.items() if not only or name in only}
