"""The rules and criteria of the dual-domain documents on synthetic logs: each has logs for both verdicts."""

from typing import Any

import numpy as np
import pytest

from quell.pipelines.common.dual_domain.criteria import success_checks
from quell.pipelines.common.dual_domain.rules import rule_checks
from quell.pipelines.reporting import checks
from quell.pipelines.reporting.documents import NOISE_LEAKAGE, SUPERVISED_SOLUTION
from tests.support.run_facts import facts, find, verdict


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("1 content loss", {"content": [0.005] * 16}, {"content": [0.2] * 16}),
        ("2 recon loss", {"recon": list(np.linspace(1, 0.5, 16))}, {"recon": [1.5] * 16}),
        ("all losses large", {}, {"content": [2.0] * 16, "recon": [2.0] * 16, "cross": [2.0] * 16}),
        ("noise added to the inputs", {}, {"overrides": ["pipeline.sigma_b=0.25"]}),
        ("identity mapping", {}, {"overrides": ["pipeline.identity_mapping=true"]}),
        ("cross flat? strategy", {}, {"overrides": ["pipeline.cross_domain_strategy=mixed_skip"]}),
        ("cross flat? recon weight", {}, {"overrides": ["pipeline.weights.recon=1"]}),
        ("cross flat? content weight", {"overrides": ["pipeline.weights.content=0.01"]}, {}),
        ("cross flat? pairs", {"probe": {"paired": 0.4}}, {"probe": {"paired": 0.0}}),
        ("3 cross path", {"evaluation": {"cross_over_constant": 0.7}}, {"evaluation": {"cross_over_constant": 1.0}}),
        ("unstable", {}, {"losses": [1.0, 3.0] * 8}),
        (
            "too blurry",
            {"probe": {"sharpness_pd_cross": 0.9, "sharpness_pdfs_cross": 0.8}},
            {"probe": {"sharpness_pd_cross": 0.2, "sharpness_pdfs_cross": 0.1}},
        ),
    ],
)
def test_every_rule_has_two_verdicts(name: str, good: dict[str, Any], bad: dict[str, Any]) -> None:
    for run, expected in ((facts(**good), "ok"), (facts(**bad), "problem")):
        matches = [check for check in rule_checks(run) if check.name == name]
        assert matches
        assert {check.verdict for check in matches} == {expected}


def test_forecasts_that_only_copying_can_meet_are_pointed_out() -> None:
    cross = list(np.linspace(2, 0.2, 16))
    results = success_checks(facts(cross=cross, evaluation={"floor": 0.6, "cross_over_floor": 0.33}))
    assert "cannot be reached without copying noise" in find(results, "cross at epoch 10", NOISE_LEAKAGE).advice
    assert verdict(results, "cross at epoch 20", NOISE_LEAKAGE) == "cannot tell"
    assert verdict(results, "cross falls by half") == "ok"
    assert "can fall by 70% at most" in find(results, "cross falls by half").advice
    supervised = success_checks(facts(cross=cross, overrides=["pipeline.targets=clean"]))
    assert SUPERVISED_SOLUTION in {check.source for check in supervised}


def test_values_that_were_not_measured_are_never_ok() -> None:
    run = facts()
    results = [*rule_checks(run), *success_checks(run)]
    assert [check.name for check in results if check.value is None and check.verdict != "cannot tell"] == []
    assert checks.check("x", float("nan"), "> 0", True, source="measured", group="g").verdict == "cannot tell"
