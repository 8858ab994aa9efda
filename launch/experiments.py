"""Train several configurations one after the other, measure each on the test split, and compare them in one table.

`launch/experiments.py --cross-domain --epochs 10` runs the five skip strategies, each in a run folder of its own;
started again it goes on where it stopped. `--study guided` runs the list in configs/studies/guided.yaml, `--only NAME`
rows of it. The results are in OUTPUT/results.md, .csv and .png.
"""

import argparse
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

if not __package__:  # started as a script: the folder on the path must be the project's, not launch/
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from configs import loader, studies
from configs.baseline_names import COMPARED
from configs.errors import EXIT_REQUEUE, ConfigError, MachineError
from configs.schema import RunConfig
from configs.support import paths
from configs.support.arguments import whole
from configs.support.child_process import Child
from launch import cli
from launch.runs.folder import RunFolder
from launch.studies import results, table

CROSS_DOMAIN = ("cross_no_skip", "cross_target_skip", "cross_baseline", "cross_zero_skip", "cross_mixed_skip")
LOSS_ABLATION = (
    "ablation_all_losses",
    "ablation_no_content",
    "ablation_no_recon",
    "ablation_no_cross",
    "ablation_only_cross",
    "ablation_content_recon",
    "ablation_strong_edge",
)
RECIPES = (
    "original_flat_cross",
    "pure_noise2noise",
    "extreme_denoising",
    "progressive_training",
    "progressive_training_stage2",
    "no_skip_everywhere",
)


class Entry(NamedTuple):
    """What is asked for: a file with overrides, run once per seed."""

    file: Path
    overrides: tuple[str, ...] = ()
    seeds: tuple[int | None, ...] = (None,)
    baselines: tuple[str, ...] = COMPARED


@dataclass(frozen=True)
class Experiment:
    """One run of the list."""

    file: Path
    folder: Path
    overrides: tuple[str, ...]
    config: RunConfig
    baselines: tuple[str, ...] = COMPARED

    def commands(self, processes: int) -> dict[str, list[str]]:
        """To train, then to measure: what a person would type."""
        launcher = [sys.executable]
        if processes > 1:
            launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        train = [
            *launcher,
            str(paths.ROOT / "launch" / "train.py"),
            "--config",
            str(self.file),
            *self.overrides,
            "--run-dir",
            str(self.folder),
            "--resume",
            "auto",
        ]
        rivals = [word for name in self.baselines for word in ("--baseline", name)]
        evaluate = [
            sys.executable,
            str(paths.ROOT / "launch" / "evaluate.py"),
            "--run",
            str(self.folder),
            *rivals,
            "--output",
            str(self.folder / results.REPORT),
        ]
        return {"train.py": train, "evaluate.py": evaluate}

    def trained(self) -> bool:
        """Whether this very run is finished."""
        folder = RunFolder(self.folder)
        return folder.summary().get("status") == "finished" and folder.config() == self.config

    def measured(self) -> bool:
        """Whether its report is at least as new as its end."""
        report = self.folder / results.REPORT
        return report.is_file() and report.stat().st_mtime >= RunFolder(self.folder).summary_file.stat().st_mtime


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, run the list, write the table; the exit code, of the first failure if there was one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--cross-domain", action="store_true", help="the five skip strategies")
    parser.add_argument("--loss-ablation", action="store_true", help="the seven combinations of losses")
    parser.add_argument("--all", action="store_true", help="both of these: twelve runs")
    parser.add_argument("--recipes", action="store_true", help="the recommended recipes and the original broken start")
    parser.add_argument(
        "--configs", "--config", nargs="+", default=[], metavar="YAML", help="files, or names in configs/"
    )
    parser.add_argument("--study", metavar="NAME", help="a list of runs: a file in configs/studies/, or its path")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these rows of the study alone")
    parser.add_argument("--epochs", type=float, metavar="N", help="the same as loop.epochs=N, for every run")
    parser.add_argument("--seeds", type=whole(0), nargs="+", metavar="S", help="run each configuration once per seed")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder of the run folders; default runs/experiments, or runs/studies/NAME of a study",
    )
    parser.add_argument("--processes", type=whole(1), default=1, metavar="N", help="processes (GPUs) of each run")
    parser.add_argument("--continue-on-error", action="store_true", help="go on with the next run after a failure")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and stop")
    parser.add_argument("--summary", action="store_true", help="only compare what is in the output folder")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="changes to single keys of every run")
    options = cli.parse(parser, arguments)
    return cli.run(lambda: experiments(options))


def experiments(options: argparse.Namespace) -> int:
    """Run and compare; the exit code. Every configuration is checked before the first run starts."""
    study = f"runs/studies/{Path(options.study).stem}" if options.study else None
    output = paths.resolve(options.output or study or "runs/experiments")
    chosen = plan(options, output)
    if options.dry_run:
        for one in chosen:
            print("\n".join(shlex.join(command) for command in one.commands(options.processes).values()))
        return 0
    if options.summary:
        folders = [one.folder for one in chosen] or sorted(file.parent for file in output.glob("*/config.yaml"))
        if not compare(folders, output):
            raise MachineError(f"no run in {output} has begun: start the experiments without --summary first")
        return 0
    if not chosen:
        raise ConfigError(
            "nothing to run: give --cross-domain, --loss-ablation, --all, --recipes, --study NAME or --configs FILE"
        )
    code = run_all(chosen, options)
    if code != EXIT_REQUEUE:
        compare([one.folder for one in chosen], output)
    return code


def entries(options: argparse.Namespace) -> list[Entry]:
    """What was asked for, in order: files of the lists and of --configs, then the rows of the study."""
    found = [Entry(file) for file in files(options)]
    if options.study:
        study = studies.load(options.study)
        found += [
            Entry(as_file(run.config), (*study.set, *run.set, f"name={name}"), run.seeds, study.baselines)
            for name, run in studies.chosen(study, options.only).items()
        ]
    elif options.only:
        raise ConfigError("--only names rows of a study: give --study NAME with it")
    return found


def files(options: argparse.Namespace) -> list[Path]:
    """The YAML files asked for, each once."""
    names = [
        *(CROSS_DOMAIN if options.cross_domain or options.all else ()),
        *(LOSS_ABLATION if options.loss_ablation or options.all else ()),
        *(RECIPES if options.recipes else ()),
        *(name for name in options.configs if "=" not in name),
    ]
    return list(dict.fromkeys(map(as_file, names)))


def as_file(name: str) -> Path:
    """The file of a configuration that is given by its name in configs/ or by its path."""
    known = Path(name).suffix in (".yaml", ".yml", ".json")
    file = Path(name) if known else paths.ROOT / "configs" / f"{name}.yaml"
    return file if file.is_absolute() or file.is_file() else paths.resolve(file)


def plan(options: argparse.Namespace, output: Path) -> list[Experiment]:
    """The runs in order, each with its folder; a stage that starts from another run of the list follows it.

    Raises one ConfigError with every mistake in every file.
    """
    common = [*(word for word in options.configs if "=" in word), *cli.overrides(options)]
    found, problems = [], []
    for entry in entries(options):
        for seed in options.seeds or entry.seeds:
            overrides = [*entry.overrides, *common, *([f"seed={seed}"] if seed is not None else [])]
            try:
                config = loader.load(entry.file, overrides)
            except ConfigError as error:
                problems.append(str(error))
                continue
            folder = output / (config.name if seed is None else f"{config.name}-seed{seed}")
            found.append(Experiment(entry.file, folder, tuple(overrides), config, entry.baselines))
    twice = {one.folder for one in found if [other.folder for other in found].count(one.folder) > 1}
    problems += [f"two configurations would be run in {folder}: give them different names" for folder in sorted(twice)]
    if problems:
        raise ConfigError(problems)
    linked = [_from_list(one, found) for one in found]
    return sorted(linked, key=lambda one: one.config.init_from is not None)


def run_all(chosen: list[Experiment], options: argparse.Namespace) -> int:
    """Run each that is not finished; the exit code of the first failure."""
    first = 0
    for number, one in enumerate(chosen, 1):
        todo = [] if one.trained() else ["train.py"]
        todo += ["evaluate.py"] if todo or not one.measured() else []
        print(f"\n[{number}/{len(chosen)}] {one.folder.name}: {'running' if todo else 'finished before'}", flush=True)
        for script in todo:
            code = Child(one.commands(options.processes)[script]).run()
            if not code:
                continue
            print(f"{one.folder.name}: {script} ended with exit code {code}", file=sys.stderr, flush=True)
            if code == EXIT_REQUEUE:
                return code
            first = first or code
            if not options.continue_on_error:
                return first
            break
    return first


def compare(folders: list[Path], output: Path) -> bool:
    """Write and print the table of the runs in these folders; False when none of them has begun."""
    runs = [run for run in map(results.measure, folders) if run is not None]
    if runs:
        print(f"\n{table.write(runs, output)}\n{output / 'results.md'}", flush=True)
    return bool(runs)


def _from_list(one: Experiment, found: list[Experiment]) -> Experiment:
    """The experiment, starting from the run folder of the list where its own starting point is a run of the list."""
    init = one.config.init_from
    before = [
        other
        for other in found
        if init is not None and other.config.name == Path(init.run).name and other.config.seed == one.config.seed
    ]
    if not before:
        return one
    overrides = (*one.overrides, f"init_from.run={before[0].folder}")
    return replace(one, overrides=overrides, config=loader.load(one.file, list(overrides)))


if __name__ == "__main__":
    sys.exit(main())
