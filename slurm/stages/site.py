"""What differs between clusters: how to ask for GPUs, how Python starts, what has to run before it."""

from typing import Literal

from pydantic import model_validator

from quell.configs.registry import SettingsError
from quell.configs.schema import Positive, Section
from quell.slurm.stages.job_options import CommandLine, JobOptions, Option, Variables, Word


class Container(Section):
    """The image that Python runs in. A text instead of this section is a `command`."""

    command: CommandLine | None = None
    """Words before python, e.g. `apptainer exec --nv quell.sif`. `$NAME` is replaced on the node; nothing else is left
    to the shell."""
    runtime: Literal["apptainer", "singularity", "pyxis"] | None = None
    """What starts the `image`: `apptainer exec`, `singularity exec`, or the pyxis plugin of srun."""
    image: Word | None = None
    """Image file, or its address in a registry."""
    mounts: tuple[Word, ...] = ()
    """Folders to mount, `/folder` or `/folder:/inside` or `/folder:/inside:ro`. The run folder, the checkout and the
    folders of the data are mounted without being listed."""
    options: tuple[Option, ...] = ()
    """Further options of `exec`, or with pyxis of srun, e.g. `--container-mount-home`."""

    @model_validator(mode="before")
    @classmethod
    def _expand_command(cls, data: object) -> object:
        return {"command": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _check_kind(self) -> "Container":
        problems = []
        if (self.command is None) == (self.runtime is None and self.image is None):
            problems.append("give either a command, or a runtime and an image")
        elif self.command is None and (self.runtime is None or self.image is None):
            problems.append(f"{'image' if self.image is None else 'runtime'}: missing beside the other of the two")
        if self.command is not None and (self.mounts or self.options):
            problems.append("mounts and options belong to a runtime; write them into the command")
        if self.runtime == "pyxis" and any("," in mount for mount in self.mounts):
            problems.append("mounts: a comma separates mounts in --container-mounts; list each one by itself")
        if problems:
            raise SettingsError(problems)
        return self


class Site(JobOptions):
    """What differs between clusters; in a file of its own (`--site`, `$QUELL_SITE`) or in the stage file."""

    setup: tuple[str, ...] = ()
    """Shell commands that run before a job starts, e.g. `module load cuda/12.4`; one that fails ends the job."""
    python: Word | None = None
    """Python interpreter on the nodes; null takes the one that submits. `$NAME` is replaced on the node."""
    container: Container | None = None
    """The container that Python runs in."""
    environment: Variables = {}
    """Environment variables of every job, e.g. `{NCCL_SOCKET_IFNAME: ib0}`."""
    gpus: Literal["gpus-per-node", "gres", "gpus-per-task"] = "gpus-per-node"
    """The option by which this site is asked for GPUs."""
    memory: Literal["mem", "mem-per-gpu", "mem-per-cpu"] = "mem"
    """The option by which this site is asked for memory; `memory_gib` of a stage is always that of a whole node."""
    max_jobs: Positive = 100
    """How many jobs you may have in the queue, including those of this submission."""

    def gpu_problem(self, *, gpus: int, tasks: int) -> str | None:
        """Why the GPUs of a node's tasks cannot be asked for in the way of this site; None where they can."""
        if self.gpus == "gpus-per-task" and gpus % tasks:
            return (
                f"{tasks} tasks cannot share {gpus} GPUs evenly, and this site is asked for gpus-per-task: change "
                "tasks_per_node or gpus_per_node"
            )
        return None
