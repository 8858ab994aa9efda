"""A run of a comparison: the commands that train and evaluate it, and whether they are still needed."""

import sys
from dataclasses import dataclass
from pathlib import Path

from quell.configs.baseline_names import DEFAULT_BASELINES
from quell.configs.errors import QuellError
from quell.configs.schema import RunConfig
from quell.configs.support import paths
from quell.launch.runs.folder import RunFolder
from quell.launch.studies.results import REPORT_FILE

TRAIN, EVALUATE = "train.py", "evaluate.py"
"""The scripts in launch/ that a run takes, in order."""


@dataclass(frozen=True)
class Experiment:
    """One run: a configuration with overrides, and the run folder it is trained in."""

    config_file: Path
    folder: Path
    overrides: tuple[str, ...]
    config: RunConfig
    """The configuration with the overrides applied."""
    baselines: tuple[str, ...] = DEFAULT_BASELINES
    """What it is compared with on the test split."""

    def commands(self, processes: int) -> dict[str, list[str]]:
        """The command line for each script, as a person would type it; `processes` train the run together."""
        launcher = [sys.executable]
        if processes > 1:
            launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        train = [
            *launcher,
            str(paths.ROOT / "launch" / TRAIN),
            "--config",
            str(self.config_file),
            *self.overrides,
            "--run-dir",
            str(self.folder),
            "--resume",
            "auto",
        ]
        evaluate = [
            sys.executable,
            str(paths.ROOT / "launch" / EVALUATE),
            "--run",
            str(self.folder),
            *(word for name in self.baselines for word in ("--baseline", name)),
            "--output",
            str(self.folder / REPORT_FILE),
        ]
        return {TRAIN: train, EVALUATE: evaluate}

    def is_trained(self) -> bool:
        """Whether the folder holds this very run, finished."""
        folder = RunFolder(self.folder)
        try:
            return folder.summary().get("status") == "finished" and folder.config() == self.config
        except QuellError:  # config.yaml is damaged: training writes it again
            return False

    def is_evaluated(self) -> bool:
        """Whether the report is at least as new as the end of training."""
        report = self.folder / REPORT_FILE
        return report.is_file() and report.stat().st_mtime >= RunFolder(self.folder).summary_file.stat().st_mtime

    def scripts_to_run(self) -> list[str]:
        """The scripts that are still needed; a run that is trained again is also evaluated again."""
        if not self.is_trained():
            return [TRAIN, EVALUATE]
        return [] if self.is_evaluated() else [EVALUATE]
