"""The average of checkpoints: exact, atomic, read by every command that takes a checkpoint, and never resumed."""

import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from quell.configs.errors import CheckpointError
from quell.configs.schema import RunConfig
from quell.configs.support.json_files import read_json
from quell.launch import evaluate
from quell.launch.averaging import batch_norm, command, weights
from quell.launch.checkpoints import integrity, store
from quell.launch.checkpoints.layout import step_folders
from quell.launch.data import splits
from quell.launch.inference import trained_model
from tests.support.checkpoints import save
from tests.support.fault_points import killed_at, points_of
from tests.support.small_runs import SmallRun, TrainSmall, single_error

OPTIONS = ("evaluation.every_epochs=null", "evaluation.every_steps=1", "checkpoint.keep_best=3", "loop.ema_decay=0")


def saved(folder: Path, step: int, tensors: dict[str, torch.Tensor]) -> Path:
    hidden = store.begin(folder, step)
    store.write_weights(hidden, tensors, None)
    return store.publish(
        hidden, {"step": step, "world": 1, "samples": 1, "config": {}, "metrics": {"psnr": float(step)}}
    )


def test_the_mean_is_summed_in_float64_and_counts_are_the_newest(tmp_path: Path) -> None:
    values = [1e8, 1.0, 1.0, 1.0]
    paths = [
        saved(
            tmp_path,
            step,
            {
                "a": torch.tensor([value]),
                "z": torch.tensor([1j * step]),
                "n": torch.tensor(step),
                "h": torch.ones(2).half(),
            },
        )
        for step, value in enumerate(values, 1)
    ]
    mean = weights.mean_weights(paths)
    assert mean["a"].dtype == torch.float32 and mean["a"].item() == torch.tensor((1e8 + 3) / 4).item()
    assert mean["z"].item() == 2.5j and mean["n"].item() == 4 and mean["h"].dtype == torch.float16
    other = saved(tmp_path, 9, {"a": torch.zeros(2)})
    with pytest.raises(CheckpointError, match="another model's weights"):
        weights.mean_weights([paths[0], other])


def test_the_best_or_the_last_are_chosen_and_too_few_are_refused(tmp_path: Path, small_run: SmallRun) -> None:
    config: RunConfig = small_run("checkpoint.keep_best=2")
    for step, value in ((1, 9.0), (2, 7.0), (3, 8.0)):
        save(tmp_path / "checkpoints", step, psnr=value)

    def steps(best_count: int | None = None, last_count: int | None = None) -> list[int]:
        paths = weights.choose(tmp_path, config, best_count=best_count, last_count=last_count)
        return [int(path.name[-1]) for path in paths]

    assert (steps(), steps(best_count=3), steps(last_count=2)) == ([1, 3], [1, 2, 3], [2, 3])
    with pytest.raises(
        CheckpointError, match="has 3 checkpoints with a value of psnr; train with checkpoint.keep_best=4"
    ):
        steps(best_count=4)


def test_it_is_compared_evaluated_and_denoised_but_not_resumed(
    train_small: TrainSmall, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train_small(*OPTIONS)[0] == 0
    assert evaluate.main(["--run", str(run), "--which", "average"]) == 5
    assert "no average in" in single_error(capsys.readouterr().err)
    before = [path.name for path in step_folders(run / "checkpoints")]
    assert command.main([str(run), "--best", "2"]) == 0
    printed = capsys.readouterr().out
    assert "| average |" in printed and "psnr of the average minus that of the best (higher is better):" in printed
    average = store.choose(run, "average")
    assert integrity.problems(average) == [] and [path.name for path in step_folders(run / "checkpoints")] == before
    meta = store.read_meta(average)
    model = trained_model.load(run, which="average")
    expected = weights.mean_weights([run / "checkpoints" / name for name in meta["average_of"]])
    assert all(torch.equal(value, expected[name]) for name, value in model.pipeline.checkpoint_state().items())
    assert evaluate.main(["--run", str(run), "--which", "average"]) == 0
    assert read_json(run / "report.json")["checkpoint"] == "average"
    code, output = train_small(*OPTIONS, run_dir=tmp_path / "other", options=("--resume", str(average)))
    assert code == 5 and "is an average of checkpoints" in single_error(output)
    warm = (f"init_from.run={run}", "init_from.which=average")
    code, output = train_small(*OPTIONS, *warm, run_dir=tmp_path / "warm")
    assert code == 0 and f"of {average}" in output
    assert train_small(*OPTIONS, "loop.max_steps=6")[0] == 0, "the run itself goes on"
    assert average.is_dir()


def test_a_kill_while_it_is_written_leaves_the_old_one_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # processes are killed here, not machines
    template = tmp_path / "template"
    paths = [saved(template / "checkpoints", step, {"a": torch.tensor([float(step)])}) for step in (1, 2)]
    weights.write(template, paths, {"a": torch.tensor([1.0])}, {})

    def write_again(run: Path) -> None:
        weights.write(run, paths, {"a": torch.tensor([2.0])}, {})

    counted = shutil.copytree(template, tmp_path / "counted")
    points = points_of(lambda: write_again(counted), counted)
    assert len(points) > 10
    seen = set()
    for at in range(len(points)):
        run = shutil.copytree(template, tmp_path / f"killed-{at}")
        assert killed_at(at, partial(write_again, run), run)
        store.recover(run / "checkpoints")
        seen.add(store.read_weights(store.choose(run, "average"))["a"].item())
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
            "average",
            "step-00000001",
            "step-00000002",
        ]
    assert seen == {1.0, 2.0}


def test_statistics_of_batch_normalisation_are_computed_anew(
    mini: Path, train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("loop.precision=no", "data.batch_size=4")
    assert train_small(*OPTIONS, *options)[0] == 0
    model = trained_model.load(tmp_path / "run", losses=True)
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(1)
    seen = []
    loss = model.pipeline.loss

    def watched(phase, batch, carry):
        image = batch["pd"].abs().mean(1, keepdim=True)
        seen.append(image)
        layer(image)
        return loss(phase, batch, carry)

    model.pipeline.add_module("watched", layer)
    monkeypatch.setattr(model.pipeline, "loss", watched)
    assert layer.running_mean is not None and layer.running_var is not None
    layer.running_mean.fill_(99.0)
    model.pipeline.eval()
    shards = splits.open_training(model.config.data)
    count = batch_norm.recompute(model.pipeline, model.config, shards, batches=3, device=torch.device("cpu"), step=0)
    assert count == 1 and len(seen) == 3 and not layer.training and layer.momentum == 0.1
    expected = torch.stack([image.mean() for image in seen]).mean()
    assert torch.allclose(layer.running_mean, expected.expand(1), atol=1e-6)
    assert batch_norm.layers_with_statistics(trained_model.load(tmp_path / "run").pipeline) == []
