"""`python -m launch.prove_device` on the CPU: what it proves there, and that what does not hold is a FAIL."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from quell.configs.schema import RunConfig
from quell.configs.support.paths import ROOT
from quell.launch import prove_device
from quell.launch.machine import devices
from quell.launch.proof import copies, steps
from quell.launch.proof.outcomes import Check, SkippedError, run_checks
from quell.launch.proof.steps import difference


def test_the_cpu_is_proven_with_one_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "proof.json"
    kinds = [word for kind in ("copies", "steps", "recovery") for word in ("--checks", kind)]
    code = prove_device.main(["--only", "quickstart", *kinds, "--json", str(file)])
    outcomes = {outcome["name"]: outcome for outcome in json.loads(file.read_text())["outcomes"]}
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert outcomes["quickstart: kill -9 and resume"]["found"].startswith("0 of ")
    assert outcomes["quickstart: losses repeat bit for bit"]["status"] == "PASS"
    assert outcomes["quickstart: 3 steps, no"]["status"] == "PASS"
    assert outcomes["quickstart: 3 steps, fp16"]["status"] == "SKIP"
    assert all(name in printed for name in outcomes)


def test_an_unknown_configuration_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert prove_device.main(["--only", "quickstrat"]) == 2
    assert "did you mean 'quickstart'?" in capsys.readouterr().err


@pytest.mark.parametrize(("here", "rounded", "holds"), [(1.00001, 1.001, True), (1.001, 1.0, False), (1, 1.05, False)])
def test_losses_are_compared_with_those_of_the_cpu_in_float32_and_in_tf32(
    here: float, rounded: float, holds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that computes these losses, the CPU's being 1."""

    def train(config: RunConfig, _: Path) -> steps.Values:
        loss = 1.0 if devices.wants_cpu() else rounded if config.loop.tf32 else here
        return [{"loss_a": loss}, {"loss_a": 7.0}]

    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(steps, "train", train)
    monkeypatch.setattr(steps, "small", lambda _, __, *, tf32: SimpleNamespace(loop=SimpleNamespace(tf32=tf32)))
    assert steps.as_on_cpu("quickstart", {}, tmp_path)[0] is holds


def test_a_check_fails_on_a_wrong_number_and_on_an_error_and_is_skipped_with_its_reason() -> None:
    def broken() -> tuple[bool, str]:
        raise RuntimeError("no kernel image\nis available")

    def missing() -> tuple[bool, str]:
        raise SkippedError("one GPU only")

    checks: list[Check] = [("wrong", lambda: (False, "3 of 4")), ("broken", broken), ("missing", missing)]
    found = [(outcome.status, outcome.found) for outcome in run_checks(checks, 60.0)]
    assert found == [("FAIL", "3 of 4"), ("FAIL", "RuntimeError: no kernel image"), ("SKIP", "one GPU only")]


def test_no_check_begins_after_the_time_is_over() -> None:
    (outcome,) = run_checks([("late", lambda: (True, ""))], -1.0)
    assert outcome.status == "SKIP" and "are over" in outcome.found


def test_differences_are_relative_and_of_the_chosen_numbers() -> None:
    first = [{"loss_a": 1.0, "grad_norm_a": 5.0}, {"loss_a": 2.0, "grad_norm_a": 5.0}]
    second = [{"loss_a": 1.0, "grad_norm_a": 4.0}, {"loss_a": 2.5, "grad_norm_a": 5.0}]
    assert difference(first, second, only="loss_") == pytest.approx(0.2)
    assert difference(first, second) == pytest.approx(0.25)
    assert difference(first, first) == 0


def test_an_optimizer_that_steps_although_told_to_skip_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stepping(torch.optim.SGD):
        """Ignores what it is told."""

        def step(self, closure: object = None) -> None:  # type: ignore[override]
            self.param_groups[0]["params"][0].data.add_(1)

    monkeypatch.setitem(copies.OPTIMIZERS, "sgd", Stepping)
    assert copies.skipped("sgd") == (False, "weights moved by 1")


def test_every_shipped_configuration_is_checked(tmp_path: Path) -> None:
    names = [path.stem for path in sorted((ROOT / "configs").glob("*.yaml"))]
    proven = [name for name, _ in steps.checks(names, {}, tmp_path)]
    assert all(f"{name}: 3 steps, {precision}" in proven for name in names for precision in steps.PRECISIONS)
