"""Noise that a method's assumptions do not cover is named with numbers and a cure, and other noise is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quell.configs import loader
from quell.launch.diagnosis import examine
from quell.launch.diagnosis.noise_rules import noise_checks
from quell.losses.noise.model import FieldNoise, NoiseModel, spectrum_of_kernel
from quell.pipelines.reporting.assumed_noise import AssumedNoise
from quell.pipelines.reporting.checks import Check
from quell.shards.building.writer import write_split
from tests.support.run_facts import facts, find

SIGMA, SIZE = 0.1, 128
CORRELATED = FieldNoise(SIGMA, spectrum_of_kernel(np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])))
VARYING = FieldNoise(SIGMA, level_map=np.array([[0.5, 0.5], [1.3, 1.3]]))
WHITE = FieldNoise(SIGMA)
IN_WORDS = "standard deviation of 0.1 and a correlation of 0.67 with the next pixel"

SETTINGS = {"r2r": {"sigma": "estimate"}, "cross_guided": {"sigma": "estimate"}}


def checks_of(method: str, noise: FieldNoise, assumed: AssumedNoise | None = None, signal: str = "") -> list[Check]:
    settings: dict[str, Any] = {"name": method, **SETTINGS.get(method, {})}
    config = loader.structure({"name": "synthetic", "pipeline": settings})
    notes = {"noisy.signal": signal} if signal else {}
    model = NoiseModel({"noisy": noise}, "smooth regions", notes)
    told = {} if assumed is None else {"noisy": assumed}
    return noise_checks(replace(facts(), config=config, noise=model, assumed_noise=told))


def problems(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.advice for check in checks if check.verdict == "problem"}


@pytest.mark.parametrize(
    ("method", "assumed", "told", "cure"),
    [
        ("r2r", AssumedNoise(sigma=0.1), "told white and even noise with a standard deviation of 0.1", "noise=auto"),
        ("sure", AssumedNoise(), "sure was told white and even noise", "pipeline.noise=auto"),
        ("blind", AssumedNoise(), "blind was told white and even noise", "pipeline.noise=auto"),
        ("r2r", AssumedNoise(signal="poisson", cure="use C"), "told poisson noise", ": use C"),
        ("cross_guided", AssumedNoise(cure="set pipeline.scheme=stack"), "white", "scheme=stack"),
        ("noise2void", AssumedNoise(), "white", "pipeline.mask=auto"),
        ("neighbor2neighbor", None, "assumes noise independent between pixels", "use r2r with pipeline.noise=auto"),
        ("zs_n2n", None, "assumes noise independent between pixels", "use r2r with pipeline.noise=auto"),
    ],
)
def test_correlated_noise_is_named_with_numbers_what_was_told_and_a_cure(
    method: str, assumed: AssumedNoise | None, told: str, cure: str
) -> None:
    checks = checks_of(method, CORRELATED, assumed)
    advice = problems(checks)["correlated noise"]
    assert IN_WORDS in advice and told in advice and cure in advice
    assert find(checks, "correlated noise").value == pytest.approx(2 / 3)
    assert problems(checks_of(method, WHITE, assumed)) == {}


@pytest.mark.parametrize(
    ("method", "assumed"),
    [
        ("r2r", AssumedNoise("spectrum", SIGMA)),
        ("noise2void", AssumedNoise("spectrum")),
        ("blind", None),
        ("noise2noise", None),
        ("supervised", None),
    ],
)
def test_correlated_noise_that_the_method_knows_or_can_do_with_is_no_problem(
    method: str, assumed: AssumedNoise | None
) -> None:
    checks = checks_of(method, CORRELATED, assumed)
    assert problems(checks) == {}
    assert IN_WORDS in find(checks, "correlated noise").advice


def test_varying_noise_and_a_wrong_level_are_named() -> None:
    advice = problems(checks_of("sure", VARYING, AssumedNoise(sigma=0.2)))
    assert set(advice) == {"noise that varies over the image", "noise level"}
    assert "levels from 0.05 to 0.13 over the image" in advice["noise that varies over the image"]
    assert "pipeline.noise=auto" in advice["noise that varies over the image"]
    assert "told a standard deviation of 0.2, but" in advice["noise level"] and "has 0.1:" in advice["noise level"]
    assert problems(checks_of("sure", VARYING, AssumedNoise("map", SIGMA))) == {}


def test_noise_that_depends_on_the_signal_is_named_unless_the_method_is_set_for_it() -> None:
    for method, assumed in (("sure", AssumedNoise()), ("r2r", AssumedNoise(signal="independent"))):
        advice = problems(checks_of(method, WHITE, assumed, "poisson"))["noise that depends on the signal"]
        assert "poisson statistics" in advice and "use r2r with pipeline.noise=poisson" in advice
    for signal in ("poisson", "multiplicative"):
        assert problems(checks_of("r2r", WHITE, AssumedNoise(signal=signal), signal)) == {}
    assert problems(checks_of("neighbor2neighbor", WHITE, None, "poisson")) == {}


def test_impulses_and_noise_that_contrasts_share_are_named() -> None:
    config = loader.structure({"name": "s", "pipeline": {"name": "cross_guided", "sigma": "estimate"}})
    fields, told = {"pd": WHITE, "pdfs": WHITE}, {"pd": AssumedNoise(), "pdfs": AssumedNoise()}
    for notes, name in (
        ({"pd/pdfs.correlation": "0.50"}, "noise that contrasts share: pd"),
        ({"pd.impulsive": "0.05"}, "impulses: pd"),
        ({}, None),
    ):
        run = replace(facts(), config=config, noise=NoiseModel(fields, notes=notes), assumed_noise=told)
        assert set(problems(noise_checks(run))) >= ({name} if name else set())
        assert name is not None or problems(noise_checks(run)) == {}


def test_residual_checks_of_the_last_evaluation_are_checks_and_unknown_noise_is_said() -> None:
    run = facts(evaluation={"residual_missing": 0.85, "residual_added": 0.01})
    checks = noise_checks(run)
    assert find(checks, "residual_missing").threshold == "<= 0.4"
    assert "0.85 of the noise's power is left in the result" in problems(checks)["residual_missing"]
    assert find(checks, "residual_added").verdict == "ok"
    assert find(checks, "correlated noise").verdict == "cannot tell"


@pytest.mark.parametrize(("noise", "is_named"), [(CORRELATED, True), (WHITE, False)], ids=["correlated", "white"])
def test_a_run_on_correlated_noise_is_diagnosed(tmp_path: Path, noise: FieldNoise, is_named: bool) -> None:
    random = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    image = 0.4 + 0.05 * np.sin(x / 40) + 0.4 * ((y - 60) ** 2 + (x - 70) ** 2 < 30**2)
    for split, count in (("train", 6), ("val", 4)):
        samples: list[dict[str, Any]] = [
            {"__key__": f"s{i}", "noisy.npy": (image + noise.sample(random, (SIZE, SIZE))).astype(np.float32)}
            for i in range(count)
        ]
        write_split(tmp_path / "data" / split, samples, name="known", meta={"data_range": 1.0})
    config = tmp_path / "run.yaml"
    config.write_text(
        "pipeline: {name: neighbor2neighbor, network: {name: dncnn, depth: 3, width: 4}}\n"
        f"data: {{root: {tmp_path}/data, crop: 32, batch_size: 2, normalise: none}}\nloop: {{threads: 1}}\n"
    )
    examine.train_for_diagnosis(config, [], tmp_path / "run", steps=2)
    diagnosis = examine.diagnose_run(tmp_path / "run")
    assert ("correlated noise" in diagnosis.problems) == is_named
    assert "residual_excess" in diagnosis.problems, "after two steps the network adds anything"
    assert not {"noise that varies over the image", "noise that depends on the signal"} & set(diagnosis.problems)
    correlation = find(diagnosis.checks, "correlated noise").value
    assert correlation == pytest.approx(noise.correlation(), abs=0.06)
