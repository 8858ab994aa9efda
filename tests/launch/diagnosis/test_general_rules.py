"""General diagnostic rules, on synthetic logs that show one anomaly each."""

import numpy as np
import pytest

from quell.launch.diagnosis import general_rules
from quell.launch.diagnosis.general_rules import general_checks
from quell.pipelines.reporting.checks import Finding
from quell.pipelines.reporting.facts import RunFacts
from tests.support.run_facts import facts, verdict


def test_a_healthy_log_has_no_problem() -> None:
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


def test_validation_scores_below_their_best_are_a_problem() -> None:
    run = facts()
    events = [{"event": "eval", "step": i, "psnr": psnr} for i, psnr in enumerate((20.0, 25.0, 24.0))]
    over_fitted = RunFacts(run.config, [*run.events, *events], {})
    assert verdict(general_checks(over_fitted), "validation psnr behind its best") == "problem"
    at_best = RunFacts(run.config, [*run.events, *events[:2]], {})
    assert verdict(general_checks(at_best), "validation psnr behind its best") == "ok"


def test_a_gap_within_the_spread_of_the_images_is_ok() -> None:
    for error, expected in ((1.0, "ok"), (0.5, "problem")):
        run = facts(probe={"gain_train": 9.0, "gain_val": 7.5, "gain_error": error})
        assert verdict(general_checks(run), "train/validation gap (dB)") == expected
    assert verdict(general_checks(facts()), "train/validation gap (dB)") == "cannot tell"


def test_losses_that_cross_zero_are_judged_by_their_magnitude() -> None:
    """With learned weights, log-variances are added to the loss, which can make it negative."""
    falling, rising = list(np.linspace(1.0, -3.0, 16)), list(np.linspace(-3.0, -2.0, 16))
    assert verdict(general_checks(facts(falling)), "flat loss_denoiser") == "ok"
    assert verdict(general_checks(facts(falling)), "oscillation of loss_denoiser") == "ok"
    assert verdict(general_checks(facts(rising)), "flat loss_denoiser") == "problem"
    around_zero = facts([0.1, -0.1] * 8)
    assert verdict(general_checks(around_zero), "oscillation of loss_denoiser") == "problem"


def test_adversarial_losses_need_not_fall_and_learned_weights_are_included() -> None:
    gan = facts([1.0] * 16, loss_critic=[1.0] * 16)
    assert verdict(general_checks(gan), "flat loss_denoiser") == "cannot tell"
    learned = facts(weight_content=[0.0] * 16, weight_recon=[0.99] * 16, weight_cross=[0.001] * 16)
    assert general_rules.loss_shares(learned)["recon"] > 0.99
    assert verdict(general_checks(learned), "one loss dominates") == "problem"


def test_too_few_logged_values_are_inconclusive() -> None:
    results = general_checks(facts([1.0, 1.0]))
    for name in ("oscillation of loss_denoiser", "flat loss_denoiser", "validation psnr behind its best"):
        assert verdict(results, name) == "cannot tell"
