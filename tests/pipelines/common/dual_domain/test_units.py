"""The unit of the cross term: its effective weight is a check, and one of four explanations of a flat cross loss."""

import pytest

from quell.pipelines.common.dual_domain.units import unit_checks, why_flat
from quell.pipelines.reporting.documents import NOISE_LEAKAGE, QUICK_REFERENCE, SOLUTION_SUMMARY
from tests.support.run_facts import facts, find, verdict

RAW = ["pipeline.units=raw"]
FLAT, LEARNS = {"cross_over_constant": 0.99}, {"cross_over_constant": 0.6}


@pytest.mark.parametrize(
    ("scale", "overrides", "expected"),
    [
        (0.3, [], "ok"),
        (0.3, RAW, "ok"),
        (1e-5, RAW, "problem"),
        (0.3, [*RAW, "pipeline.raw_gain=1e-5"], "problem"),
        (0.3, [*RAW, "pipeline.weights.recon=0"], "cannot tell"),
    ],
)
def test_the_effective_weight_of_the_cross_term(scale: float, overrides: list[str], expected: str) -> None:
    run = facts(overrides=overrides, probe={"scale_pd": scale, "scale_pdfs": scale})
    assert verdict(unit_checks(run), "units of the loss terms") == expected
    assert unit_checks(facts(overrides=RAW))[0].verdict == "cannot tell", "without the shards nothing is known"


def test_the_check_shows_the_numbers_and_the_setting() -> None:
    run = facts(overrides=RAW, probe={"scale_pd": 2e-5, "scale_pdfs": 4e-5})
    found = find(unit_checks(run), "units of the loss terms")
    assert found.value == "cross 1 x 3e-05 against recon 0.5"
    assert "pipeline.units=median" in found.advice


@pytest.mark.parametrize(
    ("evaluation", "overrides", "supports"),
    [
        (LEARNS, RAW, "none is needed"),
        (FLAT, RAW, "units: the cross term has 2.0e-05 times the weight of recon"),
        (
            FLAT,
            ["pipeline.cross_domain_strategy=use_source_skip"],
            f"not units; what remains: skips ({QUICK_REFERENCE})",
        ),
        (FLAT, ["pipeline.weights.recon=1.0"], f"not units; what remains: weights ({NOISE_LEAKAGE})"),
        (FLAT, ["pipeline.sigma_a=0.25"], f"not units; what remains: added noise ({SOLUTION_SUMMARY})"),
        (FLAT, [], "none of the four"),
    ],
)
def test_what_a_flat_cross_loss_is_attributed_to(
    evaluation: dict[str, float], overrides: list[str], supports: str
) -> None:
    run = facts(evaluation=evaluation, overrides=overrides, probe={"scale_pd": 1e-5, "scale_pdfs": 1e-5})
    assert why_flat(run).supports.startswith(supports)
