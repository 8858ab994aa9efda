"""The section of a diagnosis that shows single steps: the batch, the networks, loss terms and gradient norms."""

from collections.abc import Sequence

from quell.configs.support.json_files import Record
from quell.launch.diagnosis.steps import FieldShape, Steps
from quell.pipelines.reporting.checks import format_value

SHOWN_ROWS = 8
"""Log lines in the table: the first, the last, and some between."""
WIDTH = 118
_LABEL = 34

_NOT_TRAINING = {"event", "step", "time", "epoch", "images_per_s", "step_ms", "data_wait"}
_SETTINGS = ("lr_", "weight_")


def logged_steps(events: Sequence[Record]) -> list[Record]:
    """Loss terms and gradient norms of the first log lines, the last, and some between, with the steps they cover."""
    count = min(SHOWN_ROWS, len(events))
    chosen = sorted({round(i * (len(events) - 1) / max(count - 1, 1)) for i in range(count)})
    rows = []
    for i in chosen:
        first, last = (int(events[i - 1]["step"]) + 1 if i else 1), int(events[i]["step"])
        rows.append({"step": str(last) if first == last else f"{first}-{last}", **_values(events[i])})
    return rows


def as_json(events: Sequence[Record], steps: Steps | None) -> Record:
    """The content of the JSON file."""
    examined = {} if steps is None else steps.as_json()
    return {"logged": logged_steps(events), **examined}


def lines(events: Sequence[Record], steps: Steps | None) -> list[str]:
    """The section as text, without its heading."""
    text = []
    if steps is not None:
        text += [_field_line(field) for field in steps.fields]
        text += [f"{name:<{_LABEL}} {format_value(value)}" for name, value in steps.networks.items()]
    text += _tables("steps of the run, means between log lines", logged_steps(events))
    if steps is not None and steps.further:
        rows = [{"step": str(row["step"]), **_values(row)} for row in steps.further]
        text += _tables(f"further steps from step {steps.checkpoint}, not saved", rows)
    return text


def _values(values: Record) -> Record:
    """The loss terms, gradient norms and skipped steps among the values of a step."""
    names = (name for name in values if name not in _NOT_TRAINING and not name.startswith(_SETTINGS))
    return {name: values[name] for name in names}


def _field_line(field: FieldShape) -> str:
    scale = "" if field.scale is None else f", divided by {field.scale:.4g}"
    return f"{'batch, ' + field.name:<{_LABEL}} {field.shape} {field.dtype}, mean |x| {field.magnitude:.4g}{scale}"


def _tables(title: str, rows: list[Record]) -> list[str]:
    """Loss terms and gradient norms in tables of their own."""
    names = list(dict.fromkeys(name for row in rows for name in row if name != "step"))
    skips = [name for name in names if name.startswith("skipped_") and any(row.get(name) for row in rows)]
    norms = [name for name in names if name.startswith("grad_norm_")]
    terms = [name for name in names if not name.startswith(("grad_norm_", "skipped_"))]
    return [
        *_table(f"loss terms ({title})", rows, terms + skips, ""),
        *_table(f"gradient norm of each network ({title})", rows, norms, "grad_norm_"),
    ]


def _table(title: str, rows: list[Record], names: list[str], prefix: str) -> list[str]:
    """A table with a column per name, in several pieces where it is too wide; empty without names."""
    text: list[str] = []
    pieces: list[list[str]] = []
    used = WIDTH
    for name in names:
        needed = _column(name, prefix) + 2
        if used + needed > WIDTH:
            pieces.append([])
            used = 14
        pieces[-1].append(name)
        used += needed
    for piece in pieces:
        text += ["", title if piece is pieces[0] else f"{title}, continued"]
        text.append(f"{'step':>14}" + "".join(f"  {n.removeprefix(prefix):>{_column(n, prefix)}}" for n in piece))
        for row in rows:
            cells = (f"  {format_value(row.get(name)):>{_column(name, prefix)}}" for name in piece)
            text.append(f"{row['step']:>14}" + "".join(cells))
    return text


def _column(name: str, prefix: str) -> int:
    return max(9, len(name.removeprefix(prefix)))
