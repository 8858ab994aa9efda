"""A repetition that is there already: it counts only where it was trained as it would be now."""

from collections.abc import Sequence
from pathlib import Path

from quell.configs.errors import CheckpointError
from quell.launch.capsule.files import read_starts
from quell.launch.repeating.differences import differences, is_of_machine
from quell.launch.repeating.history import legs
from quell.launch.repeating.training import Planned

_REMEDY = "give another folder with --run-dir, or remove this one"


def refuse_other(run: Path, run_dir: Path, planned: Sequence[Planned], *, continues: bool) -> list[str]:
    """Refuse a repetition that says nothing of the code, packages and machine that are here.

    Another machine is refused only for one that continues: nodes train, and a login node may compare.

    Args:
        run: The run folder.
        run_dir: That of its repetition, with a checkpoint.
        planned: How it would be trained now.
        continues: Whether something is left to train.

    Returns:
        Sentences on what is not known.

    Raises:
        CheckpointError: It was trained with something else, or did not record with what.
    """
    starts = read_starts(run_dir)
    if not starts:
        raise CheckpointError(f"{run_dir} did not record with what code and packages it was trained: {_REMEDY}")
    times = {start["time"] for start in read_starts(run)}
    if any(start["time"] in times for start in starts):
        raise CheckpointError(f"{run_dir} is a copy of {run}, not a repetition of it: {_REMEDY}")
    notes: dict[str, None] = {}
    for trained in legs(starts, planned[-1].leg.end):
        for begin, end, start in trained.spans():
            for code in {each.code for each in planned if begin < each.leg.end and each.leg.begin < end}:
                found, unknown = differences(run_dir, start, code)
                of_machine = [row for row in found if is_of_machine(row)]
                refused = found if continues else [row for row in found if row not in of_machine]
                if refused:
                    part, then, now = refused[0]
                    more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
                    raise CheckpointError(
                        f"{run_dir} was trained with something else than would train it now: {part} {then}, now {now}"
                        f"{more}; {_REMEDY}"
                    )
                here = [f"the repetition was trained on another machine: {row.part} {row.recorded}" for row in found]
                notes |= dict.fromkeys([*unknown, *here])
    return list(notes)
