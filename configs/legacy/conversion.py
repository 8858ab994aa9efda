"""From the older JSON configurations (keys data, model, optimizer, scheduler, trainer) to data for configs/schema.py.

Every key of a file is reported: converted, not needed (with the reason), or an error. A key that is missing gets the
older program's default, not today's, so that the run means what it meant; that is reported too.
"""

import difflib
from pathlib import PurePosixPath
from typing import Any

from quell.configs.errors import ConfigError
from quell.configs.legacy.keys import IGNORED, MUST_EQUAL, NO_DEFAULT, RENAMES, SUPPORTED_VALUES, TRAINER, Rename
from quell.configs.support.mappings import Settings, flatten


def convert(data: Settings) -> tuple[Settings, list[str]]:
    """Convert an older configuration.

    Args:
        data: The content of the JSON file.

    Returns:
        Data for RunConfig, and one sentence per key that says how it was read.

    Raises:
        ConfigError: Every key that is unknown or asks for what dual_domain does not support.
    """
    conversion = _Conversion({key: value for key, value in flatten(data).items() if value != {}})
    conversion.run()
    if conversion.problems:
        raise ConfigError(conversion.problems)
    report = conversion.report.items()
    return conversion.new, [f"{key}: {line}" if line[0] != "-" else f"{key} {line}" for key, line in report]


class _Conversion:
    """One file on its way: its old keys, the new data, and what is reported."""

    def __init__(self, old: Settings) -> None:
        self.old = old
        self.new: Settings = {"pipeline": {"name": "dual_domain"}}
        self.report: dict[str, str] = {}
        """Old key -> how it was read."""
        self.problems: list[str] = []

    def run(self) -> None:
        """Convert every key."""
        for rename in RENAMES:
            self._rename(rename)
        self._edge_weight()
        self._restore_path()
        self._input_noise()
        self._schedule_unit()
        self._warm_start()
        for key in self.old:
            if key not in self.report:
                self._other_key(key)

    def _rename(self, rename: Rename) -> None:
        """Set the new key from the first old one in the file, or from the older program's default."""
        present = [name for name in rename.old if name in self.old]
        if not present and rename.default is NO_DEFAULT:
            return
        key = present[0] if present else rename.old[0]
        value = rename.convert(self.old[key] if present else rename.default)
        self._set(rename.new, value)
        earlier = f"{self.report[key]}, " if key in self.report else "-> "
        missing = "" if present else " (missing: the older program's default)"
        self.report[key] = f"{earlier}{rename.new} = {value}{missing}"
        for name in present[1:]:
            self.report.setdefault(name, f"not needed: {key} takes precedence")

    def _other_key(self, key: str) -> None:
        """Report a key that was not converted: a comment, not needed, fixed, a repetition, or unknown."""
        value = self.old[key]
        if key.rpartition(".")[2].startswith("_"):
            self.report[key] = "a comment"
        elif key in IGNORED:
            self.report[key] = f"not needed: {IGNORED[key]}"
        elif key in SUPPORTED_VALUES:
            self.report[key] = f"always {value}"
            supported = SUPPORTED_VALUES[key]
            if value not in supported:
                self.problems.append(f"{key}: {value!r} is not supported, only {' or '.join(map(repr, supported))}")
        elif key in MUST_EQUAL:
            self.report[key] = f"the same as {MUST_EQUAL[key]}"
            expected = self._value_of(MUST_EQUAL[key])
            if value != expected:
                self.problems.append(
                    f"{key}: {value!r} differs from {MUST_EQUAL[key]} {expected!r}; one setting serves both"
                )
        else:
            self.problems.append(f"{key}: unknown key{_suggestion(key)}")

    def _edge_weight(self) -> None:
        enabled, weight_key = f"{TRAINER}.edge_loss.enabled", f"{TRAINER}.edge_loss.weight"
        aliases = (f"{TRAINER}.loss_weights.edge", f"{TRAINER}.loss_weights.delta")
        weight = 0.0
        if self.old.get(enabled, False):
            weight = next((self.old[key] for key in (weight_key, *aliases) if key in self.old), 0.0)
        self._set("pipeline.weights.edge", weight)
        for key in (enabled, weight_key, *aliases):
            if key in self.old:
                self.report[key] = (
                    f"-> pipeline.weights.edge = {weight} (edge_loss.weight while edge_loss.enabled, else 0)"
                )

    def _restore_path(self) -> None:
        """A run that does not train the cross path restores along the same path."""
        if self.new["pipeline"]["weights"]["cross"] == 0:
            self._set("pipeline.restore_path", "same")
            names = (f"{TRAINER}.loss_weights.cross", f"{TRAINER}.loss_weights.gamma")
            key = next(name for name in names if name in self.report)
            self.report[key] += ", pipeline.restore_path = same (the cross path is not trained)"

    def _input_noise(self) -> None:
        switch = f"{TRAINER}.noise.enabled"
        is_on = self.old.get(switch, False)
        if not is_on:
            self.new["pipeline"].update(sigma_a=0.0, sigma_b=0.0)
        self.report[switch] = "-> pipeline.sigma_a, pipeline.sigma_b" + ("" if is_on else " = 0 (no noise)")

    def _schedule_unit(self) -> None:
        schedule = self.new["schedule"]
        if schedule["per"] == "step" and schedule["name"] in ("cosine", "step"):
            self.problems.append(
                "trainer.scheduler_step: 'step' counts scheduler.t_max or step_size in steps, but today they are "
                "epochs: write a YAML with schedule.length_epochs or step_epochs"
            )

    def _warm_start(self) -> None:
        """Convert `checkpoint` and `state_key` of the three networks to init_from."""
        runs, parts = set(), []
        for part in ("encoder", "decoder_a", "decoder_b"):
            path, state_key = f"model.{part}.checkpoint", f"model.{part}.state_key"
            if self.old.get(path):
                run = str(PurePosixPath(self.old[path]).parent)
                runs.add(run)
                parts.append(part)
                self.report[path] = f"-> init_from.run = {run}, its best checkpoint"
                if self.old.get(state_key) != part:
                    self.problems.append(f"{state_key}: expected {part!r}, got {self.old.get(state_key)!r}")
            elif path in self.old:
                self.report[path] = "null: starts from random weights"
            if state_key in self.old:
                self.report[state_key] = "-> init_from.parts" if self.old.get(path) else "not needed: no checkpoint"
        if len(runs) > 1:
            self.problems.append(
                f"model.*.checkpoint: networks of several runs ({', '.join(sorted(runs))}) cannot be mixed"
            )
        if runs:
            self.new["init_from"] = {"run": min(runs), "parts": parts, "which": "best"}

    def _value_of(self, key: str) -> Any:
        """The value that the older program used for a key of RENAMES: given, given under an alias, or its default."""
        rename = next(rename for rename in RENAMES if rename.old[0] == key)
        return next((self.old[name] for name in rename.old if name in self.old), rename.default)

    def _set(self, key: str, value: Any) -> None:
        *parents, last = key.split(".")
        place = self.new
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value


def _suggestion(key: str) -> str:
    """A hint naming the most similar key of the older format."""
    known = [*(name for rename in RENAMES for name in rename.old), *IGNORED, *SUPPORTED_VALUES, *MUST_EQUAL]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    return f"; did you mean '{near[0]}'?" if near else ""
