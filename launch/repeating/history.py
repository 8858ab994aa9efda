"""The starts of a run, and the legs in which it is trained again: one for every stretch that ran under the same terms.

A run that was interrupted and resumed is repeated without interruption, because that gives the same weights, unless it
was resumed with another number of processes, other settings, other code or other data: then the repetition stops and
resumes there as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quell.configs.support.event_log import read_log
from quell.configs.support.json_files import Record
from quell.launch.capsule.files import read_starts
from quell.launch.repeating.environment import restored_variables

WITHOUT_EFFECT = ("name", "tracking.", "profile.", "checkpoint.", "data.root", "data.cache.", "data.test_split")
"""Settings, or beginnings of their names, that change nothing that is learned, evaluated or logged as a number."""


@dataclass(frozen=True)
class Leg:
    """A stretch of training in one go."""

    begin: int
    """Step at which it starts."""
    end: int
    """Step at which it stops, with a checkpoint."""
    start: Record
    """What the run recorded when it started there."""
    settings: dict[str, object]
    """Dotted key -> value where they differ from the configuration of the run's last start."""
    earlier: tuple[Record, ...] = ()
    """Starts inside it before `start`, under the same terms, the first one first."""

    def spans(self) -> list[tuple[int, int, Record]]:
        """What was trained after each of its starts: first step, last step, what was recorded at the start."""
        starts = (*self.earlier, self.start)
        ends = [*(start["step"] for start in starts[1:]), self.end]
        return [(start["step"], end, start) for start, end in zip(starts, ends, strict=True)]


def starts_of(run: Path) -> list[Record]:
    """The starts of a run, the first one first.

    Those before version 0.4, which kept no capsule, are in its log with less: step, world, commit, device, precision.
    """
    recorded = read_starts(run)
    first = min((start["time"] for start in recorded), default=float("inf"))
    events = [event for event in read_log(run / "metrics.jsonl").events if event["event"] in ("start", "resume")]
    return [_from_log(event) for event in events if event["time"] < first - 1 and not _is_recorded(event, recorded)] + [
        *recorded
    ]


def legs(starts: Sequence[Record], end: int) -> list[Leg]:
    """How to train to the step `end` as these starts have.

    What was lost by a kill, or left by a return to an older checkpoint, is not repeated.
    """
    found: list[Leg] = []
    settings: dict[str, object] = {}
    for start in reversed(starts):
        if start["step"] < end:
            found.append(Leg(start["step"], end, start, dict(settings)))
            end = start["step"]
        before = {key: values[0] for key, values in start.get("config_changes", {}).items() if has_effect(key)}
        settings = {**settings, **before}
        if end == 0:
            break
    return _merged(found[::-1])


def terms(leg: Leg) -> tuple[object, ...]:
    """Under which terms a leg was trained; neighbours that share them are trained in one go."""
    start = leg.start
    code = start.get("code", {})
    return (
        start.get("world"),
        start.get("arithmetic"),
        restored_variables(start),
        leg.settings,
        code.get("fingerprint") or code.get("commit"),
        start.get("own_modules"),
        data_of(start),
    )


def data_of(start: Record) -> dict[str, str]:
    """Split -> fingerprint of the data that a start recorded; empty for one before version 0.4."""
    return {name: str(split["fingerprint"]) for name, split in start.get("data", {}).items() if "fingerprint" in split}


def has_effect(key: str) -> bool:
    """Whether a setting can change what is learned, evaluated or logged as a number."""
    return not key.startswith(WITHOUT_EFFECT)


def _merged(parts: Sequence[Leg]) -> list[Leg]:
    joined: list[Leg] = []
    for leg in parts:
        if joined and terms(joined[-1]) == terms(leg):
            before = (*joined[-1].earlier, joined[-1].start)
            joined[-1] = Leg(joined[-1].begin, leg.end, leg.start, leg.settings, before)
        else:
            joined.append(leg)
    return joined


def _is_recorded(event: Record, recorded: Sequence[Record]) -> bool:
    """Whether the capsule has the start of an event, which is logged right after."""
    return any(start["step"] == event["step"] and start["time"] <= event["time"] for start in recorded)


def _from_log(event: Record) -> Record:
    """A start in the form of the capsule, as far as an event of the log tells."""
    start: Record = {"step": event["step"], "time": event["time"], "code": {"commit": event.get("commit", "")}}
    for name in ("world", "device", "device_name"):
        if event.get(name) is not None:
            start[name] = event[name]
    if event.get("precision") in ("no", "bf16", "fp16"):
        start["arithmetic"] = {"precision": event["precision"]}
    return start
