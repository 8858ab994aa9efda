"""What the page says of a run: what it was started with, on which machine and data, and how it went."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from quell.configs.errors import QuellError
from quell.configs.loader import structure
from quell.configs.schema import RunConfig
from quell.configs.support.event_log import read_events
from quell.configs.support.json_files import Record, read_json
from quell.configs.support.mappings import flatten
from quell.launch.capsule import files as capsule
from quell.launch.checkpoints.best import read_best
from quell.launch.checkpoints.layout import META, complete, step_of
from quell.launch.comparing.reports import REPORT_FILE, RunReport, read_report
from quell.launch.runs.folder import RunFolder


@dataclass(frozen=True)
class Checkpoint:
    """One that is on disk."""

    name: str
    step: int
    size_mb: float
    metrics: Record
    is_best: bool


class RunFacts:
    """A run folder, read once."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.config: RunConfig = self.folder.config()
        self.summary = self.folder.summary()
        self.events = read_events(self.folder.metrics_file)
        self.starts = capsule.read_starts(path)
        """What the run's capsule recorded at each start; empty for a run without one."""
        self.report_problem = ""
        """Why there is no report."""
        self.report: RunReport | None = None
        try:
            self.report = read_report(path / REPORT_FILE)
        except QuellError as error:
            self.report_problem = str(error)

    @property
    def name(self) -> str:
        """Of the run folder."""
        return self.folder.path.name

    @property
    def start_events(self) -> list[Record]:
        """The log's starts and resumptions."""
        return [event for event in self.events if event["event"] in ("start", "resume")]

    @property
    def first_start(self) -> Record:
        """The first start in the log; empty for a damaged log."""
        return self.start_events[0] if self.start_events else {}

    @cached_property
    def settings(self) -> dict[str, tuple[object, bool]]:
        """Dotted key -> (value, whether it differs from the default)."""
        current = flatten(self.config.model_dump(mode="json"))
        try:
            default = flatten(_defaults(self.config).model_dump(mode="json"))
        except QuellError:
            return {key: (value, False) for key, value in current.items()}
        return {key: (value, key not in default or default[key] != value) for key, value in current.items()}

    def checkpoints(self) -> list[Checkpoint]:
        """The complete checkpoints, the first step first."""
        best = read_best(self.folder.checkpoints)
        found = []
        for path in complete(self.folder.checkpoints):
            meta = read_json(path / META)
            size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
            step = step_of(path) or 0
            metrics = meta.get("metrics") if isinstance(meta.get("metrics"), dict) else {}
            is_best = best is not None and best["step"] == step
            found.append(Checkpoint(path.name, step, size / 1e6, metrics or {}, is_best))
        return sorted(found, key=lambda checkpoint: checkpoint.step)

    def last_meta(self) -> Record:
        """What the last checkpoint records; empty where there is none."""
        paths = sorted(complete(self.folder.checkpoints), key=lambda path: step_of(path) or 0)
        return read_json(paths[-1] / META) if paths else {}


def _defaults(config: RunConfig) -> RunConfig:
    """The configuration that chooses the method and what has no default as this one does, and nothing else."""
    needed: Record = {"pipeline": {"name": config.pipeline.name}, "data": {"root": config.data.root}}
    needed["data"]["batch_size"] = config.data.batch_size
    for name, info in type(config.pipeline).model_fields.items():
        if info.is_required() and name != "name":
            needed["pipeline"][name] = config.pipeline.model_dump(mode="json")[name]
    return structure(needed)
