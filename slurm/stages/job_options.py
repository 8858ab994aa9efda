"""Keys that become options of sbatch and srun, for a site or for one stage, and what their values may contain."""

import re
import shlex
from typing import Annotated

from pydantic import AfterValidator

from quell.configs.locations import path_problem
from quell.configs.schema import Section
from quell.slurm.stages import extra_options


def _is_one_line(text: str) -> str:
    """Refuse what would break out of its line of an sbatch script."""
    if problem := path_problem(text):
        raise ValueError(problem.replace("the path", "the value"))
    return text


def _is_command(text: str) -> str:
    try:
        shlex.split(text)
    except ValueError as error:
        raise ValueError(f"'{text}' is no command line ({str(error).lower()})") from error
    return text


def _is_option(text: str) -> str:
    if not re.match(r"-\w|--\w", text):
        raise ValueError(f"'{text}' is not an option: write --name=value, each option as one entry")
    return text


def _check_variables(variables: dict[str, str]) -> dict[str, str]:
    for name, value in variables.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or "\0" in value:
            raise ValueError(f"{name!r} cannot be an environment variable")
    return variables


Word = Annotated[str, AfterValidator(_is_one_line)]
"""Text that becomes part of one line of an sbatch script, quoted."""

CommandLine = Annotated[Word, AfterValidator(_is_command)]
"""Words as in a shell, of which only `$NAME` is replaced."""

Option = Annotated[Word, AfterValidator(_is_option)]
"""One option of a command, with its value: `--name=value`."""

Options = Annotated[dict[str, Word | int | float | bool], AfterValidator(extra_options.check)]
"""Options of sbatch by their long names."""

Variables = Annotated[dict[str, str], AfterValidator(_check_variables)]
"""Environment variables by name."""


class JobOptions(Section):
    """Options of a job that a site sets for all stages and a stage for itself; null or empty leaves them out."""

    partition: Word | None = None
    """Partition, or several with commas between them."""
    account: Word | None = None
    """Account that is charged."""
    qos: Word | None = None
    """Quality of service."""
    constraint: Word | None = None
    """Required node features."""
    reservation: Word | None = None
    """Reservation to run in."""
    exclude: Word | None = None
    """Nodes that are not used, e.g. `node[07-09],node12`."""
    gpu_type: Word | None = None
    """Type of the GPUs as the site names it, e.g. `a100`."""
    wckey: Word | None = None
    """Workload characterization key, where the site accounts by it."""
    nice: int | None = None
    """Lowers the priority by this number, so that other jobs of yours go first."""
    comment: Word | None = None
    """Comment on the job; some sites charge by it."""
    mail_user: Word | None = None
    """Address that SLURM writes to."""
    mail_type: Word | None = None
    """Events that SLURM writes about, e.g. `END,FAIL,REQUEUE`."""
    srun: tuple[Option, ...] = ()
    """Further options of srun, e.g. `[--mpi=none, --cpu-bind=cores]`; a stage adds its own to the site's."""
    extra: Options = {}
    """Further options of sbatch by their long names, e.g. `{exclusive: true}`; a stage adds its own to the site's."""
