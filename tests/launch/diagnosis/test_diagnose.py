"""Diagnoses of trained runs: problems are detected and reported, and a configuration that works is recommended."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from quell.launch import diagnose
from quell.launch.diagnosis import examine, noise_rules
from quell.launch.diagnosis.diagnosis import Diagnosis
from quell.launch.diagnosis.general_rules import METHOD_GROUP
from quell.pipelines.common.dual_domain.symptoms import RECOMMENDED
from quell.pipelines.reporting.documents import FINAL_SOLUTION, NOISE_LEAKAGE, QUICK_REFERENCE, SOLUTION_SUMMARY
from tests.support.run_facts import find
from tests.support.small_runs import SMALL_CONFIG

FREQUENT_EVALUATION = ["schedule.name=constant", "evaluation.every_steps=4"]


Diagnosed = Callable[..., Diagnosis]


@pytest.fixture(scope="module")
def diagnosed(mini: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Diagnosed:
    """Train a small dual-domain run and diagnose it: `diagnosed(steps, "a.b=c", ...) -> Diagnosis`."""

    def train_and_diagnose(steps: int, *overrides: str) -> Diagnosis:
        folder = tmp_path_factory.mktemp("run")
        examine.train_for_diagnosis(
            root / SMALL_CONFIG, [f"data.root={mini}", *FREQUENT_EVALUATION, *overrides], folder, steps=steps
        )
        return examine.diagnose_run(folder)

    return train_and_diagnose


@pytest.fixture(scope="module")
def collapsed(diagnosed: Diagnosed) -> Diagnosis:
    """A run with content weight 1, as the documents require."""
    return diagnosed(
        120,
        "pipeline.weights.content=1",
        "pipeline.weights.recon=0.05",
        "optimizer.lr=2e-2",
        "data.batch_size=4",
        "evaluation.every_steps=60",
    )


@pytest.fixture(scope="module")
def leaking(diagnosed: Diagnosed) -> Diagnosis:
    """A run with identity mapping and skips from the target, which let the noisy target image through."""
    return diagnosed(12, "pipeline.cross_domain_strategy=use_target_skip", "pipeline.identity_mapping=true")


@pytest.fixture(scope="module")
def broken(diagnosed: Diagnosed) -> Diagnosis:
    """A run with the original setup, which all other configurations try to fix."""
    return diagnosed(
        12,
        "pipeline.cross_domain_strategy=use_source_skip",
        "pipeline.identity_mapping=true",
        "pipeline.weights.content=0",
        "pipeline.weights.recon=0",
        "pipeline.sigma_a=0.25",
    )


def supported(result: Diagnosis, question: str) -> str:
    """The answer that the run supports in the dispute about a question."""
    (answer,) = [dispute.supports for dispute in result.disputes if question in dispute.question]
    return answer


def test_a_collapsed_encoder_is_detected_although_the_documents_call_it_a_success(collapsed: Diagnosis) -> None:
    assert find(collapsed.checks, "collapse").verdict == "problem"
    assert find(collapsed.checks, "flat").verdict == "problem"
    assert find(collapsed.checks, "content about 0.01").verdict == "ok"
    assert "small, but so it is with a collapsed encoder" in find(collapsed.checks, "content about 0.01").advice
    content = find(collapsed.checks, "1 content loss")
    assert content.verdict == "problem"
    assert "takes a content loss of" in content.advice
    assert supported(collapsed, "content loss near 0.01").startswith("collapse")
    assert supported(collapsed, "weight of recon").startswith("neither: the encoder has collapsed")
    assert supported(collapsed, "Skips within a contrast").startswith("neither: the encoder has collapsed")
    text = collapsed.text()
    assert f"Recommended instead: {RECOMMENDED}" in text
    assert "Evidence here: flat" in text


def test_a_leak_is_detected_although_the_cross_loss_is_small(leaking: Diagnosis) -> None:
    assert find(leaking.checks, "leak").verdict == "problem"
    assert find(leaking.checks, "leak_target").verdict == "problem"
    assert find(leaking.checks, "cross flat? try target_skip").verdict == "problem"
    assert supported(leaking, "use_target_skip") == f"{NOISE_LEAKAGE}: the target's noise is copied"
    assert RECOMMENDED in leaking.text()


def test_decoders_that_output_zeros_are_detected_by_missing_gradients(broken: Diagnosis) -> None:
    assert find(broken.checks, "gradient reaches encoder").value == 0
    assert find(broken.checks, "gradient reaches encoder").verdict == "problem"
    reached = broken.facts.probe["reached_decoder_a"]
    assert 0 < reached < 0.01
    assert f"{reached:.1%} of the decoder's parameters get a gradient" in find(broken.checks, "identity mapping").advice
    added = find(broken.checks, "noise added to the inputs")
    assert (added.value, added.verdict) == (0.25, "problem")
    assert "the data's own noise is 0.1" in added.advice
    assert find(broken.checks, "cross flat? strategy").verdict == "problem"


def test_every_rule_and_criterion_of_the_documents_has_a_check(collapsed: Diagnosis) -> None:
    names = {(check.source, check.name) for check in collapsed.checks}
    for source, name in [
        (QUICK_REFERENCE, "1 content loss"),
        (QUICK_REFERENCE, "2 recon loss"),
        (QUICK_REFERENCE, "3 cross path"),
        (QUICK_REFERENCE, "4 z_a = z_b and cross error constant"),
        (NOISE_LEAKAGE, "cross flat? strategy"),
        (NOISE_LEAKAGE, "cross flat? recon weight"),
        (NOISE_LEAKAGE, "cross flat? content weight"),
        (NOISE_LEAKAGE, "cross flat? pairs"),
        (NOISE_LEAKAGE, "too blurry"),
        (SOLUTION_SUMMARY, "too blurry"),
        (NOISE_LEAKAGE, "unstable"),
        (SOLUTION_SUMMARY, "unstable"),
        (SOLUTION_SUMMARY, "cross flat? try target_skip"),
        (SOLUTION_SUMMARY, "all losses large"),
        (SOLUTION_SUMMARY, "out of memory"),
        (QUICK_REFERENCE, "still failing: pairs, latent"),
        (SOLUTION_SUMMARY, "noise added to the inputs"),
        (SOLUTION_SUMMARY, "identity mapping"),
        (SOLUTION_SUMMARY, "cross falls by half"),
        (NOISE_LEAKAGE, "cross at epoch 10"),
        (NOISE_LEAKAGE, "cross at epoch 20"),
        (QUICK_REFERENCE, "cross at epoch 5"),
        (FINAL_SOLUTION, "cross at epoch 20"),
        (NOISE_LEAKAGE, "cross falls within 5 epochs"),
        (QUICK_REFERENCE, "cross falls within 3 epochs"),
        (SOLUTION_SUMMARY, "recon falls"),
        (SOLUTION_SUMMARY, "smooth cross curve"),
        (NOISE_LEAKAGE, "residual free of source noise"),
        (f"{NOISE_LEAKAGE}, {SOLUTION_SUMMARY}", "content about 0.01"),
    ]:
        assert (source, name) in names, name
    assert len(collapsed.disputes) == 8
    assert all(check.advice and check.threshold for check in collapsed.checks)


def test_paired_slices_are_distinguished_from_unrelated_ones(collapsed: Diagnosis) -> None:
    assert find(collapsed.checks, "cross flat? pairs").verdict == "ok"
    assert collapsed.facts.probe["paired"] > 0.3
    gap = find(collapsed.checks, "train/validation gap (dB)")
    assert gap.verdict == "ok"
    assert gap.value == pytest.approx(collapsed.facts.probe["gain_train"] - collapsed.facts.probe["gain_val"])
    psnr, noisy_psnr = collapsed.facts.metric("psnr"), collapsed.facts.metric("noisy_psnr")
    assert psnr is not None and noisy_psnr is not None
    assert collapsed.facts.probe["gain_val"] == pytest.approx(psnr - noisy_psnr, abs=1e-3)
    assert collapsed.facts.probe["median_pd"] == pytest.approx(1, abs=0.02)


def test_other_methods_get_the_general_checks(diagnosed: Diagnosed, mini: Path, tmp_path: Path) -> None:
    config = tmp_path / "plain.yaml"
    config.write_text(
        "pipeline: {name: noise2noise, others: [other], network: {name: dncnn, depth: 3, width: 4}}\n"
        f"data: {{root: {mini}, crop: 16, fields: {{noisy: pd, other: pdfs}}}}\nloop: {{threads: 1}}\n"
    )
    examine.train_for_diagnosis(config, [], tmp_path / "run", steps=10)
    result = examine.diagnose_run(tmp_path / "run")
    assert result.disputes == []
    assert {check.group for check in result.checks} <= {"Training", METHOD_GROUP, noise_rules.GROUP}
    assert find(result.checks, "gradient reaches network").verdict == "ok"


def test_the_command_writes_a_report_and_fails_on_problems_only_with_strict(
    leaking: Diagnosis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "new" / "report.json"
    assert diagnose.main(["--run", str(leaking.folder), "--output", str(report)]) == 0
    assert capsys.readouterr().out == leaking.text()
    content = json.loads(report.read_text())
    assert "leak" in content["problems"]
    assert content["recommended"] == RECOMMENDED
    assert {check["verdict"] for check in content["checks"]} <= {"ok", "problem", "cannot tell"}
    assert diagnose.main(["--run", str(leaking.folder), "--strict"]) == 3


def test_diagnosing_a_configuration_trains_it_in_a_temporary_folder(
    mini: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert diagnose.main(["--config", str(root / SMALL_CONFIG), "--steps", "3", f"data.root={mini}"]) == 0
    out = capsys.readouterr().out
    assert "step 3 of 3" in out
    assert "Decision tree (Quick reference)" in out
    assert list(tmp_path.iterdir()) == []


def test_without_data_the_diagnosis_uses_the_log_alone(leaking: Diagnosis, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(leaking.folder, run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(f"root: {leaking.facts.config.data.root}", f"root: {tmp_path}/gone"))
    result = examine.diagnose_run(run)
    assert any("no shards at" in note for note in result.notes)
    assert find(result.checks, "cross flat? pairs").verdict == "cannot tell"
    assert supported(result, "use_target_skip") == f"{NOISE_LEAKAGE}: the target's noise is copied"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--run", "{run}", "--steps", "3"], 2, "belong to --config"),
        (["--run", "{empty}"], 5, "is not a run folder"),
        (["--config", "configs/pure_noise2noise.yaml", "--steps", "0"], 2, "--steps must be 1 or more, got 0"),
        (["--config", "configs/pure_noise2noise.yaml", "data.root={empty}"], 4, "no shards at"),
    ],
)
def test_wrong_arguments_are_refused(
    leaking: Diagnosis,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    root: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    words = [word.format(run=leaking.folder, empty=tmp_path) for word in arguments]
    words = [str(root / word) if word.endswith(".yaml") else word for word in words]
    assert diagnose.main(words) == code
    assert message in capsys.readouterr().err
