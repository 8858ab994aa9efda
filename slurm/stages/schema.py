"""What a stage file says: stages, what each runs on, what it waits for and what it starts from; types and defaults."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from configs.registry import SettingsError

Condition = Literal["afterok", "afterany", "afternotok"]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
RESERVED = {"code", "jobs", "logs"}
"""Names that no stage may have: what lies beside the stages' run folders."""

Scalar = str | int | float | bool


def _after(value: Any) -> Any:
    """`[a, b]` and `a` are short for `{a: afterok, b: afterok}`."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple):
        return dict.fromkeys(value, "afterok")
    return value


def _not_reserved(stages: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(RESERVED & stages.keys()):
        raise ValueError(
            f"{', '.join(taken)}: folders of this name hold the launcher's own files; call the stage otherwise"
        )
    return stages


def _named(mapping: dict[str, Any]) -> dict[str, Any]:
    wrong = [name for name in mapping if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name)]
    if wrong:
        names = ", ".join(f"'{name}'" for name in wrong)
        raise ValueError(f"a name is letters, digits, - and _, and becomes a folder: {names}")
    return mapping


After = Annotated[dict[str, Condition], BeforeValidator(_after)]


class Section(BaseModel):
    """A part of a stage file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Resources(Section):
    """What one job asks SLURM for."""

    nodes: Positive = 1
    """Machines."""
    gpus_per_node: Count = 0
    """GPUs on each; 0 runs on CPUs (gloo)."""
    tasks_per_node: Positive | None = None
    """Training processes on each node; null is one per GPU, or one on a CPU job."""
    cpus_per_task: Positive = 1
    """Cores of each process."""
    memory_gib: Annotated[float, Field(gt=0)] | None = None
    """Memory of each node; null leaves it to the partition's default."""
    time_min: Positive = 240
    """Time limit of one start in minutes; a job that needs longer saves, is requeued and goes on."""
    grace_s: Positive = 120
    """Seconds before the time limit at which the job is told to save."""
    partition: str | None = None
    """Partition; null takes the site's."""
    account: str | None = None
    """Account; null takes the site's."""
    qos: str | None = None
    """Quality of service; null takes the site's."""
    constraint: str | None = None
    """Node features; null takes the site's."""
    at_once: Positive | None = None
    """Most members of a sweep running at the same time (`--array=...%N`); null is all."""
    extra: dict[str, Scalar] = {}
    """Further sbatch parameters by their long names, e.g. `{exclusive: true, mail-type: FAIL}`."""

    @property
    def tasks(self) -> int:
        """Processes on each node."""
        return self.tasks_per_node or max(1, self.gpus_per_node)

    @property
    def world(self) -> int:
        """Processes of the whole job."""
        return self.nodes * self.tasks


class Site(Section):
    """What differs from cluster to cluster; in a file of its own (`--site`, `$QUELL_SITE`) or in the stage file."""

    partition: str | None = None
    """Partition of stages that name none."""
    account: str | None = None
    """Account of stages that name none."""
    qos: str | None = None
    """Quality of service of stages that name none."""
    constraint: str | None = None
    """Node features of stages that name none."""
    setup: tuple[str, ...] = ()
    """Shell lines before a job starts, e.g. `module load cuda/12.4`."""
    python: str | None = None
    """Python on the nodes; null is the one that submits."""
    container: str | None = None
    """Words before python that start it in a container, e.g. `apptainer exec --nv quell.sif`."""
    environment: dict[str, str] = {}
    """Environment variables of every job, e.g. `{NCCL_SOCKET_IFNAME: ib0}`."""
    max_jobs: Positive = 100
    """Most jobs of yours in the queue, those of this submission included."""
    extra: dict[str, Scalar] = {}
    """Further sbatch parameters of every job."""


class Init(Section):
    """Which weights a stage starts from."""

    stage: str
    """A training stage, or a pick: then the winner's run."""
    parts: tuple[str, ...] = ()
    """Names of networks to take; empty takes all."""
    which: Literal["best", "last"] = "last"
    """Which of the run's checkpoints."""


class Pick(Section):
    """The choice of a sweep's best member."""

    stage: str
    """The sweep."""
    metric: str = "psnr"
    """A number in the members' summary.json under `metrics`."""
    mode: Literal["max", "min"] = "max"
    """Whether more or less is better."""


class Member(Section):
    """One member of a listed sweep."""

    config: str | None = None
    """Configuration of this member; null takes the stage's."""
    overrides: dict[str, Any] = {}
    """Its changes to single keys, `a.b: c`."""


class Stage(Section):
    """One node of the graph: a training run (`config`), a sweep of them (`grid`, `list`), a `command`, or a `pick`."""

    config: str | None = None
    """Train this configuration; relative paths start at the project's root."""
    command: tuple[str, ...] = ()
    """Run python with these words; `{stage}` is that stage's folder, `{stage.*}` one for each member of a sweep,
    `{here}` this stage's own, `{each}` the member's (see `each`)."""
    each: str | None = None
    """A sweep for each of whose members the command runs, as an array; waits for it."""
    pick: Pick | None = None
    """Choose the best member of a sweep."""
    overrides: dict[str, Any] = {}
    """Changes to single keys of the configuration, `a.b: c`."""
    resources: Resources = Resources()
    after: After = {}
    """Stages to wait for: a list (all must succeed), or each with afterok, afterany or afternotok."""
    init_from: Init | None = None
    """Start from another stage's weights; waits for that stage."""
    use: str | None = None
    """A pick whose winner's changes are applied to this stage too; waits for it."""
    grid: dict[str, tuple[Any, ...]] = {}
    """Sweep over every combination of values, `a.b: [1, 2]`."""
    members: Annotated[dict[str, Member], AfterValidator(_named)] = Field(default={}, alias="list")
    """Sweep over named members."""
    max_requeues: Count = 50
    """How often the job may be stopped with a checkpoint and requeued before it ends with its reason."""

    @property
    def sweep(self) -> bool:
        """Whether this stage is an array of runs."""
        return bool(self.grid or self.members)

    @property
    def trains(self) -> bool:
        """Whether this stage makes run folders with checkpoints."""
        return not self.command and self.pick is None

    @property
    def waits_for(self) -> dict[str, Condition]:
        """Every stage this one waits for, those it takes something from included."""
        taken = [self.use, self.each, self.init_from and self.init_from.stage, self.pick and self.pick.stage]
        return {**{name: "afterok" for name in taken if name}, **self.after}

    @model_validator(mode="after")
    def _one_kind(self) -> "Stage":
        problems = []
        kinds = [kind for kind, given in self._kinds().items() if given]
        if len(kinds) != 1:
            problems.append(f"give exactly one of config, list, command and pick; found {', '.join(kinds) or 'none'}")
        if kinds in (["command"], ["pick"]):
            given = ("overrides", "init_from", "use", "grid")
            problems += [f"{key}: only a stage that trains has it" for key in given if getattr(self, key)]
        if self.each and not self.command:
            problems.append("each: only a command has it")
        problems += [f"list.{name}: no config here nor in the stage" for name, member in self.members.items()
                     if not (member.config or self.config)]  # fmt: skip
        problems += [f"grid.{key}: no values" for key, values in self.grid.items() if not values]
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

    name: str = ""
    """Name of the whole; empty takes the file's name. Everything is written under runs/<name>."""
    site: dict[str, Any] = {}
    """Settings of this cluster (see Site)."""
    resources: dict[str, Any] = {}
    """Resources of stages that do not say otherwise (see Resources)."""
    overrides: dict[str, Any] = {}
    """Changes to the configuration of every stage that trains."""
    stages: Annotated[
        dict[str, dict[str, Any]], Field(min_length=1), AfterValidator(_named), AfterValidator(_not_reserved)
    ]
    """The stages by name."""
