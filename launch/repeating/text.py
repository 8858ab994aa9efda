"""What `quell repeat` prints."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from quell.configs.support.json_files import Record
from quell.launch.repeating.differences import Difference
from quell.launch.repeating.history import Leg
from quell.launch.repeating.training import Planned

MOST_ROWS = 15
"""Rows of a table that are printed; repeat.json has all."""

MOST_STEPS = 4
"""Steps with a checkpoint that are named."""


def checked(run: Path, parts: Sequence[Leg], found: Sequence[Difference], unknown: Sequence[str]) -> str:
    """The differences in code, packages and machine between a run and what is here."""
    start = parts[-1].start
    world = start.get("world", "?")
    lines = [f"{run}: last started on {_day(start)}, {world} process{'' if world == 1 else 'es'}"]
    codes = [leg.start.get("code", {}).get("fingerprint") for leg in parts]
    changed = [
        leg.begin
        for leg, before, now in zip(parts[1:], codes, codes[1:], strict=False)
        if before and now and before != now
    ]
    if changed:
        steps = ", ".join(map(str, changed))
        lines.append(f"its code changed at step {steps}: only --code trains every part with its own")
    if found:
        lines += ["", *_table(("differs", "recorded", "here"), found), ""]
    else:
        lines.append("code, packages, machine: no difference" + (" in what is known" if unknown else ""))
    return "\n".join([*lines, *(f"not known: {sentence}" for sentence in unknown)])


def commands(planned: Sequence[Planned]) -> str:
    """The commands that would repeat a run."""
    return "\n".join(["", "to repeat it:", *(f"  {shlex.join(each.command)}" for each in planned)])


def earlier(run_dir: Path, start: Record, notes: Sequence[str], *, continues: bool) -> str:
    """That a repetition is there already, trained as one would be now."""
    doing = "continues" if continues else "compares"
    lines = [f"{doing} the repetition in {run_dir}, last started on {_day(start)}"]
    lines += [] if continues else ["nothing is trained: --run-dir with another folder trains once more"]
    return "\n".join([*lines, *(f"not known: {sentence}" for sentence in notes)])


def no_weights(step: int, kept: Sequence[int]) -> str:
    """That a step cannot be compared bit for bit, and which steps near it can."""
    near = sorted(sorted(kept, key=lambda other: abs(other - step))[:MOST_STEPS])
    return (
        f"the run kept no checkpoint of step {step}: only logged numbers can be compared, not the weights; "
        f"the nearest steps that --steps can compare: {', '.join(map(str, near))}"
    )


def outcome(report: Record, run_dir: Path) -> str:
    """What the comparison showed."""
    step, lines = report["step"], [""]
    if not report["weights_compared"]:
        lines.append(no_weights(step, report["steps_kept"]))
    for name, rows in report["tensors"].items():
        if not rows:
            lines.append(f"{name} at step {step}: identical, bit for bit")
            continue
        lines += [f"{name} at step {step}: {len(rows)} tensor{'s differ' if len(rows) > 1 else ' differs'}", ""]
        worst = sorted(rows, key=lambda row: -row["largest"])
        cells = [(row["name"], f"{row['differing']} of {row['values']}", f"{row['largest']:.3g}") for row in worst]
        lines += [*_table(("tensor", "values that differ", "largest difference"), cells), ""]
    if report["same_initial_weights"] is False:
        lines.append("the initial weights differed already: other code, packages, or a changed warm start")
    first, compared = report["first_difference"], report["numbers_compared"]
    if first:
        lines.append(
            f"first logged difference: {first['name']} at step {first['step']}, {first['recorded']} before, "
            f"{first['repeated']} now"
        )
    elif compared:
        lines.append(f"logs: all {compared} numbers that both have are the same")
    else:
        lines.append("logs: not compared, there is no number that both have")
    if report["identical"] is None:
        lines.append("not known: whether the weights are the same; no difference was seen in what was compared")
    return "\n".join([*lines, f"written to {run_dir / 'repeat.json'}"])


def _day(start: Record) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(start["time"]))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table of the first rows."""
    cells = ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows[:MOST_ROWS])]
    more = len(rows) - MOST_ROWS
    return [*cells, *([f"and {more} more"] if more > 0 else [])]
