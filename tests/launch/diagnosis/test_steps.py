"""Single steps in a diagnosis: what the batch holds, what the networks make of it, losses and gradient norms."""

import json
import math
from pathlib import Path

import pytest
import torch

from quell.configs.support.event_log import read_events
from quell.launch import diagnose
from quell.launch.checkpoints import store
from quell.launch.diagnosis import examine, step_report
from quell.launch.diagnosis.steps import Steps, examine_steps
from quell.launch.training import run
from tests.support.small_runs import SmallRun

PARTS = ("encoder", "decoder_a", "decoder_b")
EVERY_STEP = (
    "tracking.log_every=1",
    "schedule.name=constant",
    "loop.max_steps=4",
    "pipeline.sigma_a=0",
    "pipeline.sigma_b=0",
)


@pytest.fixture(scope="module")
def folder(small_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps that logged the gradients of every network."""
    folder = tmp_path_factory.mktemp("run")
    run.train(small_run(*EVERY_STEP, "tracking.gradients=true"), folder)
    return folder


@pytest.fixture(scope="module")
def steps(folder: Path) -> Steps:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    steps = examine_steps(folder, 2)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return steps


def train_events(folder: Path) -> list[dict[str, float]]:
    return [event for event in read_events(folder / "metrics.jsonl") if event["event"] == "train"]


def test_the_further_steps_are_those_that_the_run_would_take(
    steps: Steps, small_run: SmallRun, folder: Path, tmp_path: Path
) -> None:
    run.train(small_run(*EVERY_STEP, "tracking.gradients=true", "loop.max_steps=6"), tmp_path)
    events = train_events(tmp_path)
    assert [row["step"] for row in steps.further] == [5, 6]
    for row, event in zip(steps.further, events[4:], strict=True):
        assert row == {name: event[name] for name in row}


def test_the_norms_of_the_networks_are_those_of_the_gradient(folder: Path) -> None:
    for event in train_events(folder):
        squares = [event[f"grad_norm_{part}"] ** 2 for part in PARTS]
        assert min(squares) > 0
        assert math.sqrt(sum(squares)) == pytest.approx(event["grad_norm_denoiser"], rel=1e-5)


def test_logging_them_changes_nothing_that_is_learned(folder: Path, small_run: SmallRun, tmp_path: Path) -> None:
    run.train(small_run(*EVERY_STEP), tmp_path)
    assert not any(f"grad_norm_{PARTS[0]}" in event for event in train_events(tmp_path))
    with_norms, without = (store.read_weights(store.choose(path)) for path in (folder, tmp_path))
    assert all(torch.equal(with_norms[name], without[name]) for name in without)


def test_the_batch_and_the_latents_are_described(steps: Steps) -> None:
    assert [(field.name, field.shape, field.dtype) for field in steps.fields] == [
        (name, (8, 2, 16, 16), "float32") for name in ("pd", "pdfs")
    ]
    assert all(field.scale is not None and 0.3 < field.scale < 1.2 for field in steps.fields)
    networks = steps.networks
    assert (networks["skips"], networks["same path"], networks["cross path"]) == (
        "1 per contrast",
        "own skips",
        "no_skip",
    )
    stored, seen = networks["pd_cross error, stored"], networks["pd_cross error"]
    assert isinstance(stored, float) and isinstance(seen, float) and steps.fields[0].scale is not None
    assert stored == pytest.approx(seen * steps.fields[0].scale, rel=0.1)  # the mean of products
    assert steps.checkpoint == 4
    distance = networks["|z_pd - z_pdfs|"]
    assert distance == pytest.approx(
        steps.further[0]["content"], rel=1e-5
    )  # the weights of training, not their average


def test_the_report_shows_them_as_text_and_as_json(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diagnose.main(["--run", str(folder), "--output", str(tmp_path / "report.json")]) == 0
    text = capsys.readouterr().out
    section = text[text.index("Steps\n-----") : text.index("Training\n--------")]
    header = next(line for line in section.splitlines() if "encoder" in line)
    assert header.split() == ["step", "denoiser", *PARTS]
    for line in ("(8, 2, 16, 16) float32", "z_pdfs std", "loss terms (steps of the run", "not saved)"):
        assert line in section
    content = json.loads((tmp_path / "report.json").read_text())["steps"]
    assert [row["step"] for row in content["logged"]] == ["1", "2", "3", "4"]
    assert [row["step"] for row in content["further"]] == [5, 6, 7]
    assert content["fields"][0]["shape"] == [8, 2, 16, 16]
    norm = content["further"][0]["grad_norm_decoder_b"]
    assert f"{norm:.4g}" in section


def test_a_run_that_is_trained_for_its_diagnosis_shows_its_own_steps(mini: Path, root: Path, tmp_path: Path) -> None:
    examine.train_for_diagnosis(root / "tests/launch/small.yaml", [f"data.root={mini}"], tmp_path, steps=60)
    diagnosis = examine.diagnose_run(tmp_path, further_steps=0)
    assert diagnosis.steps is not None and diagnosis.steps.further == []
    rows = step_report.logged_steps(diagnosis.facts.train_events)
    assert [rows[0]["step"], rows[-1]["step"]] == ["1-2", "59-60"] and len(rows) == step_report.SHOWN_ROWS
    assert all(row[f"grad_norm_{part}"] > 0 for row in rows for part in PARTS)


def test_methods_with_several_phases_show_each_network(mini: Path, tmp_path: Path) -> None:
    config = tmp_path / "gan.yaml"
    config.write_text(
        "pipeline: {name: tcfl, generator: {name: dncnn, depth: 3, width: 4, residual: false}, clip: null,\n"
        "  critic: {name: patch_discriminator, width: 4}, pool_size: 2}\n"
        f"data: {{root: {mini}, crop: null, resize: 32, batch_size: 2, representation: magnitude,\n"
        "  fields: {noisy: pd, noisy_other: pd, unpaired_clean: pd_clean, clean: pd_clean}}\nloop: {threads: 1}\n"
    )
    examine.train_for_diagnosis(config, ["data.crop=null"], tmp_path / "run", steps=2)
    steps = examine_steps(tmp_path / "run", 1)
    assert steps.networks == {} and {"noisy", "noisy_other", "unpaired_clean"} <= {f.name for f in steps.fields}
    assert {"grad_norm_generator", "grad_norm_critic", "loss_critic", "identity"} <= set(steps.further[0])


def test_a_wide_table_is_continued_within_the_width() -> None:
    events = [{"step": 5, **{f"a_rather_long_name_of_a_loss_{i}": float(i) for i in range(12)}}]
    lines = step_report.lines(events, None)
    assert sum("continued" in line for line in lines) >= 2
    assert all(len(line) <= step_report.WIDTH for line in lines)
    assert step_report.lines([], None) == []
