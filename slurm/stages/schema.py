"""The keys of a stage file: what each stage runs, what it runs on, what it waits for and what it starts from."""

import json
import math
import re
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from quell.configs.locations import name_problem
from quell.configs.registry import SettingsError
from quell.configs.schema import Count, Positive, Section
from quell.slurm.stages import extra_options
from quell.slurm.stages.job_options import JobOptions

T = TypeVar("T")

Condition = Literal["afterok", "afterany", "afternotok"]
"""How a stage that is waited for has to end: with success, in any way, or with a failure."""

JOBS = "jobs"
"""The key in `after` under which jobs are named that are no stages."""

RESERVED = {"code", JOBS, "logs"}
"""Names that no stage may have: these folders lie next to the stages' run folders."""

EARLY_S = 60
"""How much earlier than asked SLURM may send the signal before the time limit."""

MAX_MEMBERS = 1000
"""Most members of a sweep."""


Overrides = dict[str, Any]
"""Configuration keys to change, `a.b: c`."""

Unchecked = dict[str, Any]
"""A part of a stage file that is validated later, so that the problems of all parts can be collected."""


def _expand_after(value: object) -> object:
    """Expand the short forms `[a, b]` and `a` to `{a: afterok, b: afterok}`, also for the ids of jobs."""
    if isinstance(value, str | bool | int):
        value = [value]
    if isinstance(value, list | tuple):
        if wrong := [entry for entry in value if not isinstance(entry, str)]:
            raise ValueError(
                f"expected names of stages, got {json.dumps(wrong[0], default=str)}: write {{stage: condition}} "
                "without a list, and names that YAML does not read as text (no, on, 12) in quotes"
            )
        return dict.fromkeys(value, "afterok")
    if isinstance(value, dict) and isinstance(jobs := value.get(JOBS), list | tuple):
        return {**value, JOBS: dict.fromkeys(map(str, jobs), "afterok")}
    return value


def _check_after(after: dict[str, Any]) -> dict[str, Any]:
    """Refuse all but a condition for each stage, and under `jobs` for each id of a job."""
    jobs = after.get(JOBS, {})
    if not isinstance(jobs, dict):
        raise ValueError(f"'{JOBS}' names no stage but jobs in the queue: write {JOBS}: [12345]")
    for job in jobs:
        if not re.fullmatch(r"\d+(_\d+)?", job):
            raise ValueError(f"'{job}' is no id of a SLURM job, such as 12345 or 12345_7")
    for name, condition in [*jobs.items(), *after.items()]:
        if name != JOBS and condition not in get_args(Condition):
            raise ValueError(f"'{name}': Input should be 'afterok', 'afterany' or 'afternotok', not {condition!r}")
    return after


def _check_reserved(stages: dict[str, Unchecked]) -> dict[str, Unchecked]:
    if reserved := sorted(RESERVED & stages.keys()):
        names = ", ".join(f"'{name}'" for name in reserved)
        raise ValueError(f"{names}: reserved for the launcher's own folder of that name; rename the stage")
    return stages


def _check_names(mapping: dict[str, T]) -> dict[str, T]:
    invalid = [name for name in mapping if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name)]
    if invalid:
        names = ", ".join(f"'{name}'" for name in invalid)
        raise ValueError(f"a name becomes a folder and may contain only letters, digits, - and _: {names}")
    return mapping


def _check_graph_name(name: str) -> str:
    if name and (problem := name_problem(name)):
        raise ValueError(problem)
    return name


_ONE_OR_MORE: dict[str, Any] = {
    "anyOf": [
        {"type": ["string", "integer"]},
        {"type": "array", "items": {"type": ["string", "integer"]}},
        {"type": "object", "additionalProperties": {"enum": list(get_args(Condition))}},
    ]
}
"""JSON schema of what is waited for: one name, several, or each with its condition."""

After = Annotated[
    dict[str, Any],
    BeforeValidator(_expand_after),
    AfterValidator(_check_after),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
                {
                    "type": "object",
                    "properties": {JOBS: _ONE_OR_MORE},
                    "additionalProperties": {"enum": list(get_args(Condition))},
                },
            ]
        }
    ),
]


class Resources(JobOptions):
    """What one job requests from SLURM."""

    nodes: Positive = 1
    """Number of nodes."""
    gpus_per_node: Count = 0
    """GPUs on each node; 0 trains on CPUs (gloo)."""
    tasks_per_node: Positive | None = None
    """Training processes on each node; null is one per GPU, or one without GPUs."""
    cpus_per_task: Positive = 1
    """CPU cores of each process."""
    memory_gib: Annotated[float, Field(gt=0)] | None = None
    """Memory of each node in GiB; null takes the partition's default."""
    time_min: Positive = 240
    """Time limit of one start in minutes; a job that needs longer saves, is requeued and resumes."""
    grace_s: Positive = 120
    """Seconds before the time limit at which the job is signalled to save."""
    at_once: Positive | None = None
    """How many members of a sweep may run at the same time (`--array=...%N`); null does not limit them."""

    @property
    def wants_gpus(self) -> bool:
        """Whether the job requests GPUs, in whatever way its site spells them."""
        return self.gpus_per_node > 0 or extra_options.request_gpus(self.extra)

    @property
    def tasks(self) -> int:
        """Number of processes on each node."""
        return self.tasks_per_node or max(1, self.gpus_per_node)

    @property
    def world_size(self) -> int:
        """Number of processes of the whole job."""
        return self.nodes * self.tasks

    @model_validator(mode="after")
    def _check_time(self) -> "Resources":
        if 60 * self.time_min - self.grace_s <= EARLY_S:
            raise ValueError(
                f"grace_s ({self.grace_s} s) leaves nothing of time_min ({self.time_min} min), for SLURM may signal up "
                f"to {EARLY_S} s earlier: lower grace_s or raise time_min"
            )
        return self


class Init(Section):
    """Which weights a stage starts from."""

    stage: str
    """A training stage, or a pick for the weights of its winner."""
    parts: tuple[str, ...] = ()
    """Names of the networks to load; empty loads all of them."""
    which: Literal["best", "last", "average"] = "last"
    """Which of the run's checkpoints to load."""


class Continuation(Section):
    """Jobs that continue one another, for sites that do not requeue and trainings that outlast the time limit."""

    starts: Annotated[int, Field(gt=1, le=1000)]
    """How many jobs are submitted. Each starts when the one before has ended, resumes the same run, and ends at once
    where that is finished, or has failed in a way that would repeat itself."""


class Pick(Section):
    """How the best member of a sweep is chosen."""

    stage: str
    """The sweep."""
    metric: str = "psnr"
    """A number under `metrics` in the members' summary.json."""
    mode: Literal["max", "min"] = "max"
    """Whether the highest or the lowest value wins."""


class SweepMember(Section):
    """One member of a sweep that is given as a list."""

    config: str | None = None
    """Configuration of this member; null takes the stage's."""
    overrides: Overrides = {}
    """Configuration keys that this member changes, `a.b: c`."""


class Stage(Section):
    """A node of the graph: a training run (`config`), a sweep of them (`grid`, `list`), a `command`, or a `pick`."""

    config: str | None = None
    """Train this configuration; relative paths start at the project's root."""
    command: tuple[str, ...] = ()
    """Run Python with these arguments; `{stage}` is the folder of that stage, `{stage.*}` expands to one folder for
    each member of a sweep, `{here}` is this stage's own folder, `{each}` the member's (see `each`)."""
    each: str | None = None
    """A sweep: run the command once for each of its members, as a job array; waits for it."""
    pick: Pick | None = None
    """Choose the best member of a sweep; waits for it."""
    overrides: Overrides = {}
    """Configuration keys to change, `a.b: c`."""
    resources: Resources = Resources()
    after: After = {}
    """Stages to wait for: a list (all must succeed), or a mapping to afterok, afterany or afternotok. Other jobs
    in the queue are named under `jobs` in the same ways: `jobs: [12345]`, or `jobs: {"12345": afterany}`."""
    init_from: Init | None = None
    """Start from the weights of another stage; waits for it."""
    use: str | None = None
    """A pick: apply its winner's changes to this stage too; waits for it."""
    grid: dict[str, tuple[Any, ...]] = {}
    """Sweep over every combination of values, `a.b: [1, 2]`."""
    members: Annotated[dict[str, SweepMember], AfterValidator(_check_names)] = Field(default={}, alias="list")
    """Sweep over named members."""
    max_requeues: Count = 50
    """How often the job may be requeued before it ends, with that as its reason. Starts that SLURM ends before they
    have saved anything do not count."""
    continuation: Continuation | None = Field(default=None, alias="continue")
    """Submit several jobs in a row instead of requeueing one."""
    max_bad_nodes: Count = 3
    """How many nodes the job may leave after failing there in a way that points to the node; 0 never leaves one."""

    @property
    def is_sweep(self) -> bool:
        """Whether this stage is an array of training runs."""
        return bool(self.grid or self.members)

    @property
    def trains(self) -> bool:
        """Whether this stage writes run folders with checkpoints."""
        return not self.command and self.pick is None

    @property
    def waits_for(self) -> dict[str, Condition]:
        """Every stage this one waits for, including those whose results it uses."""
        used = [self.use, self.each, self.init_from and self.init_from.stage, self.pick and self.pick.stage]
        stages = {name: condition for name, condition in self.after.items() if name != JOBS}
        return {**{name: "afterok" for name in used if name}, **stages}

    @property
    def waits_for_jobs(self) -> dict[str, Condition]:
        """Jobs that are no stages, by id."""
        return dict(self.after.get(JOBS, {}))

    @model_validator(mode="after")
    def _check_kind(self) -> "Stage":
        problems = []
        kinds = [kind for kind, present in self._kinds().items() if present]
        if len(kinds) != 1:
            problems.append(f"give exactly one of config, list, command and pick; got {', '.join(kinds) or 'none'}")
        if kinds in (["command"], ["pick"]):
            training_keys = ("overrides", "init_from", "use", "grid")
            problems += [f"{key}: only for stages that train" for key in training_keys if getattr(self, key)]
            if self.continuation:
                problems.append("continue: only for stages that train")
        if self.each and not self.command:
            problems.append("each: only for stages with a command")
        problems += [
            f"list.{name}: missing 'config', here or in the stage"
            for name, member in self.members.items()
            if not (member.config or self.config)
        ]
        problems += [f"grid.{key}: no values" for key, values in self.grid.items() if not values]
        if math.prod(map(len, self.grid.values())) > MAX_MEMBERS or len(self.members) > MAX_MEMBERS:
            problems.append(f"a sweep may have {MAX_MEMBERS} members at most")
        if self.grid and self.members:
            problems.append("grid and list: a sweep is one or the other")
        if problems:
            raise SettingsError(problems)
        return self

    def _kinds(self) -> dict[str, bool]:
        trains = bool(self.config or self.members)
        return {"config or list": trains, "command": bool(self.command), "pick": self.pick is not None}


class StageFile(Section):
    """A graph of stages."""

    name: Annotated[str, AfterValidator(_check_graph_name)] = ""
    """Name of the graph; empty takes the file's name. Everything is written to runs/<name>."""
    site: Unchecked = {}
    """Settings of this cluster (see slurm/stages/site.py)."""
    resources: Unchecked = {}
    """Default resources of all stages (see Resources)."""
    overrides: Overrides = {}
    """Configuration keys to change in every stage that trains."""
    stages: Annotated[
        dict[str, Unchecked], Field(min_length=1), AfterValidator(_check_names), AfterValidator(_check_reserved)
    ]
    """The stages by name."""
