"""Disputes between the dual-domain documents: every answer has measurements that support it."""

from collections.abc import Callable
from typing import Any

import pytest

from quell.pipelines.common.dual_domain import disputes
from quell.pipelines.reporting.checks import Dispute
from quell.pipelines.reporting.documents import NOISE_LEAKAGE, QUICK_REFERENCE, SOLUTION_SUMMARY
from quell.pipelines.reporting.facts import RunFacts
from tests.support.run_facts import facts

LEARNS = {
    "latent_spread": 0.3,
    "cross_over_constant": 0.6,
    "cross_over_floor": 1.3,
    "leak_target": 0.0,
    "leak_same": 0.9,
    **{
        f"{c}_{p}/{k}": v
        for c in ("pd", "pdfs")
        for p in ("cross", "same")
        for k, v in (("psnr", 25.0), ("noisy_psnr", 20.0))
    },
}


@pytest.mark.parametrize(
    ("decide", "evaluation", "options", "supports"),
    [
        (disputes.small_content, LEARNS | {"latent_spread": 0.001}, {}, "collapse"),
        (
            disputes.small_content,
            LEARNS | {"matched_over_mismatched": 0.5},
            {"content": [0.01] * 16},
            f"{NOISE_LEAKAGE}, {QUICK_REFERENCE} and {SOLUTION_SUMMARY}, for",
        ),
        (disputes.small_content, LEARNS | {"matched_over_mismatched": 1.0}, {"content": [0.01] * 16}, "neither: small"),
        (disputes.small_content, LEARNS, {}, "neither: the content loss is not small"),
        (disputes.small_content, {}, {}, "cannot tell"),
        (disputes.target_skip, LEARNS, {}, "cannot tell: this run uses no_skip"),
        (
            disputes.target_skip,
            LEARNS | {"cross_over_floor": 0.3},
            {"overrides": ["pipeline.cross_domain_strategy=use_target_skip"]},
            f"{NOISE_LEAKAGE}: the target's noise is copied",
        ),
        (
            disputes.halving,
            LEARNS | {"cross_over_floor": 0.3},
            {"cross": [2.0] * 4 + [0.2] * 12},
            f"{NOISE_LEAKAGE}: the cross",
        ),
        (
            disputes.halving,
            LEARNS,
            {"cross": [2.0] * 4 + [0.5] * 12},
            f"{SOLUTION_SUMMARY}: it fell by half above the floor and",
        ),
        (disputes.halving, LEARNS, {"cross": [2.0] * 4 + [1.5] * 12}, f"{NOISE_LEAKAGE}: the images are cleaner"),
        (disputes.recon_weight, LEARNS, {}, f"{NOISE_LEAKAGE}: the same path copies"),
        (disputes.recon_weight, LEARNS | {"leak_same": 0.1}, {}, "neither: with 0.5"),
        (
            disputes.recon_weight,
            LEARNS | {"leak_same": 0.1, "cross_over_constant": 1.0},
            {},
            f"{SOLUTION_SUMMARY}, weakly",
        ),
        (disputes.same_skips, LEARNS, {}, f"{NOISE_LEAKAGE}: the cross path learns although"),
        (
            disputes.same_skips,
            LEARNS | {"cross_over_constant": 1.0},
            {},
            f"{QUICK_REFERENCE}, as far as one run can tell: flat",
        ),
        (
            disputes.same_skips,
            LEARNS,
            {"overrides": ["pipeline.same_domain_use_skip=false"]},
            f"{QUICK_REFERENCE}, as far",
        ),
        (disputes.schedules, LEARNS, {"cross": [2.0] * 4 + [0.45] * 12}, f"{NOISE_LEAKAGE}, {QUICK_REFERENCE}"),
        (disputes.schedules, LEARNS | {"floor": 0.7}, {}, "none of them; with a noise floor of 0.7"),
        (disputes.noisy_targets, LEARNS, {}, "Noise2Noise: trained"),
        (disputes.noisy_targets, LEARNS | {"pd_cross/psnr": 10.0}, {}, "Noise2Noise, in part"),
    ],
)
def test_measurements_decide_between_documents(
    decide: Callable[[RunFacts], Dispute], evaluation: dict[str, float], options: dict[str, Any], supports: str
) -> None:
    dispute = decide(facts(evaluation=evaluation, **options))
    assert dispute.supports.startswith(supports), dispute
    assert dispute.claims
    assert dispute.measured
