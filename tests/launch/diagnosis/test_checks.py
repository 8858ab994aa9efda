"""Rules on synthetic logs: every verdict and every answer to a dispute has a log that yields it."""

from typing import Any

import numpy as np
import pytest

from configs import loader
from launch.diagnosis import general_rules
from launch.diagnosis.general_rules import general_checks
from pipelines.common.dual_domain import disputes
from pipelines.common.dual_domain.criteria import success_checks
from pipelines.common.dual_domain.rules import rule_checks
from pipelines.reporting import checks
from pipelines.reporting.checks import Check, Finding
from pipelines.reporting.documents import NOISE_LEAKAGE, QUICK_REFERENCE, SOLUTION_SUMMARY, SUPERVISED_SOLUTION
from pipelines.reporting.facts import RunFacts


def facts(
    losses: list[float] | None = None,
    *,
    evaluation: dict[str, float] | None = None,
    probe: dict[str, float] | None = None,
    findings: list[Finding] | None = None,
    summary: dict[str, Any] | None = None,
    overrides: list[str] | None = None,
    **events: list[float | None],
) -> RunFacts:
    """The facts of a run with one log per epoch; `events` are values per log, the others are constant."""
    losses = losses or [2.0 * 0.9**i for i in range(16)]
    common = {"content": 0.02, "recon": 0.5, "cross": 1.0, "edge": 0.0, "skipped_denoiser": 0.0, "data_wait": 0.01}
    train = [
        {
            "event": "train",
            "step": 10 * (i + 1),
            "epoch": float(i + 1),
            "loss_denoiser": loss,
            **common,
            **{name: values[i] for name, values in events.items()},
        }
        for i, loss in enumerate(losses)
    ]
    config = loader.structure(loader.apply({"name": "synthetic", "pipeline": {"name": "dual_domain"}}, overrides or []))
    evaluations = [] if evaluation is None else [{"event": "eval", "step": 160, **evaluation}]
    return RunFacts(config, [*train, *evaluations], summary or {}, probe or {}, findings or [])


def find(checks: list[Check], name: str, source: str | None = None) -> Check:
    (match,) = [check for check in checks if check.name == name and source in (None, check.source)]
    return match


def verdict(checks: list[Check], name: str, source: str | None = None) -> str:
    return find(checks, name, source).verdict


def test_a_sound_log_has_no_problem() -> None:
    results = general_checks(facts(evaluation={"psnr": 30.0, "noisy_psnr": 20.0}))
    assert [check.name for check in results if check.verdict == "problem"] == []


@pytest.mark.parametrize(
    ("name", "anomalous"),
    [
        ("NaN, skipped steps", facts(skipped_denoiser=[0.0] * 15 + [0.3])),
        ("NaN, skipped steps", facts(cross=[1.0] * 15 + [None])),
        ("NaN, skipped steps", facts(summary={"status": "diverged"})),
        ("out of memory", facts(summary={"error": "CUDA out of memory. Tried to allocate"})),
        ("oscillation of loss_denoiser", facts([1.0, 3.0] * 8)),
        ("flat loss_denoiser", facts([1.0] * 16)),
        ("one loss dominates", facts(cross=[50.0] * 16)),
        ("train/validation gap (dB)", facts(probe={"gain_train": 9.0, "gain_val": 7.5, "gain_error": 0.2})),
        ("PSNR over noisy (dB)", facts(evaluation={"psnr": 19.0, "noisy_psnr": 20.0})),
        ("waiting for data", facts(data_wait=[0.4] * 16)),
        ("gradient reaches encoder", facts(probe={"reached_encoder": 0.0})),
        ("collapse", facts(findings=[Finding("collapse", 0.001, 0.01, False, "collapsed")])),
    ],
)
def test_every_anomaly_is_a_problem(name: str, anomalous: RunFacts) -> None:
    assert verdict(general_checks(anomalous), name) == "problem"


def test_a_validation_behind_its_best_is_over_fitting() -> None:
    run = facts()
    events = [{"event": "eval", "step": i, "psnr": psnr} for i, psnr in enumerate((20.0, 25.0, 24.0))]
    over_fitted = RunFacts(run.config, [*run.events, *events], {})
    assert verdict(general_checks(over_fitted), "validation psnr behind its best") == "problem"
    at_best = RunFacts(run.config, [*run.events, *events[:2]], {})
    assert verdict(general_checks(at_best), "validation psnr behind its best") == "ok"


def test_a_gap_that_the_spread_of_images_explains_is_ok() -> None:
    for error, expected in ((1.0, "ok"), (0.5, "problem")):
        run = facts(probe={"gain_train": 9.0, "gain_val": 7.5, "gain_error": error})
        assert verdict(general_checks(run), "train/validation gap (dB)") == expected
    assert verdict(general_checks(facts()), "train/validation gap (dB)") == "cannot tell"


def test_losses_that_cross_zero_are_judged_by_their_magnitude() -> None:
    """Learned weights add log-variances to the loss, which can make it negative."""
    falling, rising = list(np.linspace(1.0, -3.0, 16)), list(np.linspace(-3.0, -2.0, 16))
    assert verdict(general_checks(facts(falling)), "flat loss_denoiser") == "ok"
    assert verdict(general_checks(facts(falling)), "oscillation of loss_denoiser") == "ok"
    assert verdict(general_checks(facts(rising)), "flat loss_denoiser") == "problem"
    around = facts([0.1, -0.1] * 8)
    assert verdict(general_checks(around), "oscillation of loss_denoiser") == "problem"


def test_adversarial_losses_need_not_fall_and_learned_weights_count() -> None:
    gan = facts([1.0] * 16, loss_critic=[1.0] * 16)
    assert verdict(general_checks(gan), "flat loss_denoiser") == "cannot tell"
    learned = facts(weight_content=[0.0] * 16, weight_recon=[0.99] * 16, weight_cross=[0.001] * 16)
    assert general_rules.loss_shares(learned)["recon"] > 0.99
    assert verdict(general_checks(learned), "one loss dominates") == "problem"


def test_few_logs_are_inconclusive() -> None:
    results = general_checks(facts([1.0, 1.0]))
    for name in ("oscillation of loss_denoiser", "flat loss_denoiser", "validation psnr behind its best"):
        assert verdict(results, name) == "cannot tell"


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
    ("function", "evaluation", "options", "supports"),
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
    function: Any, evaluation: dict[str, float], options: dict[str, Any], supports: str
) -> None:
    dispute = function(facts(evaluation=evaluation, **options))
    assert dispute.supports.startswith(supports), dispute
    assert dispute.claims
    assert dispute.measured


def test_values_that_were_not_measured_are_never_ok() -> None:
    run = facts()
    results = [*rule_checks(run), *success_checks(run)]
    assert [check.name for check in results if check.value is None and check.verdict != "cannot tell"] == []
    assert checks.check("x", float("nan"), "> 0", True, source="measured", group="g").verdict == "cannot tell"
