"""The runs of a comparison: from names of configurations and studies to experiments, each checked and with a folder."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from quell.configs import loader, studies
from quell.configs.baseline_names import DEFAULT_BASELINES
from quell.configs.errors import ConfigError
from quell.configs.support import paths
from quell.launch.studies.experiment import Experiment


@dataclass(frozen=True)
class Selection:
    """What a command line asks for."""

    configs: tuple[str, ...] = ()
    """Names of files in configs/, or paths."""
    study: str | None = None
    """Name of a file in configs/studies/, or its path."""
    only: tuple[str, ...] = ()
    """The rows of the study to run; all if empty."""
    overrides: tuple[str, ...] = ()
    """Overrides of single settings in every run; they win over a study's."""
    seeds: tuple[int, ...] = ()
    """Run each configuration with each of these, instead of with its own seed or the study's seeds."""


class _Row(NamedTuple):
    """A configuration with overrides, to be run with each seed; None is the configuration's own."""

    config_file: Path
    overrides: tuple[str, ...] = ()
    seeds: tuple[int | None, ...] = (None,)
    baselines: tuple[str, ...] = DEFAULT_BASELINES


def plan(selection: Selection, output: Path) -> list[Experiment]:
    """The experiments in the order in which they run, each in a folder of its own below `output`.

    A run that starts from another run of the list comes after it, and starts from that run's folder.

    Raises:
        ConfigError: Some configuration is wrong (all errors of all of them are reported together), or two
            configurations have the same name.
    """
    experiments: list[Experiment] = []
    problems: list[str] = []
    for row in _rows(selection):
        for seed in selection.seeds or row.seeds:
            seed_override = () if seed is None else (f"seed={seed}",)
            overrides = (*row.overrides, *selection.overrides, *seed_override)
            try:
                config = loader.load(row.config_file, list(overrides))
            except ConfigError as error:
                problems.append(str(error))
                continue
            folder = output / (config.name if seed is None else f"{config.name}-seed{seed}")
            experiments.append(Experiment(row.config_file, folder, overrides, config, row.baselines))
    problems += _folder_conflicts(experiments)
    if problems:
        raise ConfigError(problems)
    linked = [_linked(experiment, experiments) for experiment in experiments]
    return sorted(linked, key=lambda experiment: experiment.config.init_from is not None)


def _rows(selection: Selection) -> list[_Row]:
    """The configurations, each once, followed by the rows of the study."""
    rows = [_Row(file) for file in dict.fromkeys(map(_config_file, selection.configs))]
    if selection.study:
        study = studies.load(selection.study)
        rows += [
            _Row(_config_file(run.config), (*study.set, *run.set, f"name={name}"), run.seeds, study.baselines)
            for name, run in studies.select(study, list(selection.only)).items()
        ]
    elif selection.only:
        raise ConfigError("--only selects rows of a study: also give --study NAME")
    return rows


def _config_file(name: str) -> Path:
    """The file of a configuration given by its name in configs/ or by its path."""
    is_path = Path(name).suffix in (".yaml", ".yml", ".json")
    return loader.find_file(name) if is_path else paths.ROOT / "configs" / f"{name}.yaml"


def _folder_conflicts(experiments: list[Experiment]) -> list[str]:
    folders = [experiment.folder for experiment in experiments]
    shared = sorted({folder for folder in folders if folders.count(folder) > 1})
    return [f"two configurations would run in {folder}: give them different names" for folder in shared]


def _linked(experiment: Experiment, experiments: list[Experiment]) -> Experiment:
    """The experiment, starting from the folder of the run of this list that its `init_from` names, if there is one."""
    init = experiment.config.init_from
    if init is None:
        return experiment
    predecessor = next(
        (
            candidate
            for candidate in experiments
            if candidate.config.name == Path(init.run).name and candidate.config.seed == experiment.config.seed
        ),
        None,
    )
    if predecessor is None:
        return experiment
    overrides = (*experiment.overrides, f"init_from.run={predecessor.folder}")
    return replace(experiment, overrides=overrides, config=loader.load(experiment.config_file, list(overrides)))
