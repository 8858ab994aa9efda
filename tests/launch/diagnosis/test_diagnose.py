"""Diagnoses of runs that were actually trained: problems are found and named, with the recipe that works instead."""

import json
import shutil
from pathlib import Path

import pytest

from launch import diagnose
from launch.diagnosis import examine
from launch.diagnosis.diagnosis import Diagnosis
from launch.diagnosis.general_rules import METHOD_GROUP
from pipelines.common.dual_domain.symptoms import RECOMMENDED
from pipelines.reporting.checks import Check
from pipelines.reporting.documents import FINAL_SOLUTION, NOISE_LEAKAGE, QUICK_REFERENCE, SOLUTION_SUMMARY
from tests.support.small_runs import SMALL_CONFIG

FREQUENT = ["schedule.name=constant", "evaluation.every_steps=4"]


@pytest.fixture(scope="module")
def make(mini: Path, root: Path, tmp_path_factory: pytest.TempPathFactory):
    """Train a small dual-domain run for some steps and diagnose it."""

    def train_and_diagnose(steps: int, *overrides: str) -> Diagnosis:
        folder = tmp_path_factory.mktemp("run")
        examine.train_for_diagnosis(
            root / SMALL_CONFIG, [f"data.root={mini}", *FREQUENT, *overrides], folder, steps=steps
        )
        return examine.diagnose_run(folder)

    return train_and_diagnose


@pytest.fixture(scope="module")
def collapsed(make) -> Diagnosis:
    """Content weight 1, as the documents require."""
    return make(
        120,
        "pipeline.weights.content=1",
        "pipeline.weights.recon=0.05",
        "optimizer.lr=2e-2",
        "data.batch_size=4",
        "evaluation.every_steps=60",
    )


@pytest.fixture(scope="module")
def leaking(make) -> Diagnosis:
    """Identity mapping with the target's skips, which passes the target's own noisy image through."""
    return make(12, "pipeline.cross_domain_strategy=use_target_skip", "pipeline.identity_mapping=true")


@pytest.fixture(scope="module")
def broken(make) -> Diagnosis:
    """The original setup that all other configurations try to fix."""
    return make(
        12,
        "pipeline.cross_domain_strategy=use_source_skip",
        "pipeline.identity_mapping=true",
        "pipeline.weights.content=0",
        "pipeline.weights.recon=0",
        "pipeline.sigma_a=0.25",
    )


def find(result: Diagnosis, name: str) -> Check:
    (match,) = [check for check in result.checks if check.name == name]
    return match


def supported(result: Diagnosis, question: str) -> str:
    (answer,) = [dispute.supports for dispute in result.disputes if question in dispute.question]
    return answer


def test_a_collapsed_encoder_is_found_where_the_documents_see_success(collapsed: Diagnosis) -> None:
    assert find(collapsed, "collapse").verdict == "problem"
    assert find(collapsed, "flat").verdict == "problem"
    assert find(collapsed, "content about 0.01").verdict == "ok"
    assert "small, but so it is with a collapsed encoder" in find(collapsed, "content about 0.01").advice
    content = find(collapsed, "1 content loss")
    assert content.verdict == "problem"
    assert "takes a content loss of" in content.advice
    assert supported(collapsed, "content loss near 0.01").startswith("collapse")
    assert supported(collapsed, "weight of recon").startswith("neither: the encoder has collapsed")
    assert supported(collapsed, "Skips within a contrast").startswith("neither: the encoder has collapsed")
    text = collapsed.text()
    assert f"Recommended instead: {RECOMMENDED}" in text
    assert "Evidence here: flat" in text


def test_a_leak_is_found_although_the_cross_loss_is_small(leaking: Diagnosis) -> None:
    assert find(leaking, "leak").verdict == "problem"
    assert find(leaking, "leak_target").verdict == "problem"
    assert find(leaking, "cross flat? try target_skip").verdict == "problem"
    assert supported(leaking, "use_target_skip") == f"{NOISE_LEAKAGE}: the target's noise is copied"
    assert RECOMMENDED in leaking.text()


def test_decoders_of_zeros_are_found_by_where_gradients_arrive(broken: Diagnosis) -> None:
    assert find(broken, "gradient reaches encoder").value == 0
    assert find(broken, "gradient reaches encoder").verdict == "problem"
    reached = broken.facts.probe["reached_decoder_a"]
    assert 0 < reached < 0.01
    assert f"{reached:.1%} of the decoder's parameters get a gradient" in find(broken, "identity mapping").advice
    added = find(broken, "noise added to the inputs")
    assert (added.value, added.verdict) == (0.25, "problem")
    assert "the data's own noise is 0.1" in added.advice
    assert find(broken, "cross flat? strategy").verdict == "problem"


def test_every_rule_and_criterion_of_the_documents_is_checked(collapsed: Diagnosis) -> None:
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
    assert len(collapsed.disputes) == 7
    assert all(check.advice and check.threshold for check in collapsed.checks)


def test_paired_slices_are_distinguished_from_unrelated_ones(collapsed: Diagnosis) -> None:
    assert find(collapsed, "cross flat? pairs").verdict == "ok"
    assert collapsed.facts.probe["paired"] > 0.3
    gap = find(collapsed, "train/validation gap (dB)")
    assert gap.verdict == "ok"
    assert gap.value == pytest.approx(collapsed.facts.probe["gain_train"] - collapsed.facts.probe["gain_val"])
    gained = collapsed.facts.metric("psnr") - collapsed.facts.metric("noisy_psnr")
    assert collapsed.facts.probe["gain_val"] == pytest.approx(gained, abs=1e-3)
    assert collapsed.facts.probe["median_pd"] == pytest.approx(1, abs=0.02)


def test_other_methods_get_the_general_checks(make, mini: Path, tmp_path: Path) -> None:
    config = tmp_path / "plain.yaml"
    config.write_text(
        "pipeline: {name: noise2noise, others: [other], network: {name: dncnn, depth: 3, width: 4}}\n"
        f"data: {{root: {mini}, crop: 16, fields: {{noisy: pd, other: pdfs}}}}\nloop: {{threads: 1}}\n"
    )
    examine.train_for_diagnosis(config, [], tmp_path / "run", steps=10)
    result = examine.diagnose_run(tmp_path / "run")
    assert result.disputes == []
    assert {check.group for check in result.checks} <= {"Training", METHOD_GROUP}
    assert find(result, "gradient reaches network").verdict == "ok"


def test_the_command_writes_what_it_prints_and_is_strict_only_when_asked(
    leaking: Diagnosis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "new" / "report.json"
    assert diagnose.main(["--run", str(leaking.folder), "--output", str(report)]) == 0
    assert capsys.readouterr().out == leaking.text()
    written = json.loads(report.read_text())
    assert "leak" in written["problems"]
    assert written["recommended"] == RECOMMENDED
    assert {check["verdict"] for check in written["checks"]} <= {"ok", "problem", "cannot tell"}
    assert diagnose.main(["--run", str(leaking.folder), "--strict"]) == 3


def test_a_configuration_is_trained_for_its_diagnosis_and_forgotten(
    mini: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert diagnose.main(["--config", str(root / SMALL_CONFIG), "--steps", "3", f"data.root={mini}"]) == 0
    out = capsys.readouterr().out
    assert "step 3 of 3" in out
    assert "Decision tree (Quick reference)" in out
    assert list(tmp_path.iterdir()) == []


def test_without_data_the_log_is_still_read(leaking: Diagnosis, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(leaking.folder, run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(f"root: {leaking.facts.config.data.root}", f"root: {tmp_path}/gone"))
    result = examine.diagnose_run(run)
    assert any("no shards at" in note for note in result.notes)
    assert find(result, "cross flat? pairs").verdict == "cannot tell"
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
def test_wrong_requests_are_refused(
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
