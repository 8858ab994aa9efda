"""Runs in this process, from the configuration to the run folder: what they write, and the errors they report."""

import json
import os
import pkgutil
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from quell.configs import loader
from quell.configs.schema import DataConfig
from quell.launch import evaluate, train
from quell.launch.data import splits
from quell.shards.building.writer import write_split
from tests.support.checkpoints import forget_checksums
from tests.support.runs import checkpoint_of, read_events, read_summary, read_weights
from tests.support.small_runs import Sample, TrainSmall, pd_pdfs_sample, single_error


def test_a_run_writes_a_complete_folder(train_small: TrainSmall, tmp_path: Path) -> None:
    code, output = train_small("tracking.tensorboard=true", "loop.ema_decay=0.9")
    run = tmp_path / "run"
    assert code == 0 and "data wait" in output and "ETA" in output
    config = loader.load(run / "config.yaml")
    assert config.loop.max_steps == 4 and config.optimizer.name == "adamw"
    summary = read_summary(run)
    assert (summary["status"], summary["step"], summary["exit_code"]) == ("finished", 4, 0)
    assert summary["metrics"]["noisy_psnr"] == pytest.approx(20, abs=0.5)
    assert {file.name for file in checkpoint_of(run, 4).iterdir()} == {
        "weights.safetensors",
        "ema.safetensors",
        "state.pt",
        "rank-0.pt",
        "meta.json",
    }
    assert json.loads((run / "checkpoints" / "best.json").read_text())["metric"] == "psnr"
    kinds = [event["event"] for event in read_events(run)]
    assert kinds[0] == "start" and kinds[-1] == "end" and kinds.count("train") == 2


@pytest.mark.parametrize(
    "function",
    [
        "quell.launch.checkpoints.store.publish",
        "quell.launch.training.run.finish",
        "quell.launch.runs.tracker.Tracker.close",
        "quell.launch.machine.acceleration.close",
    ],
)
def test_a_signal_while_the_last_files_are_written_is_ignored(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """After the last step there is nothing left to interrupt: the run must still end as finished."""
    unhandled: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: unhandled.append(number))
    module, _, name = function.rpartition(".")
    target = pkgutil.resolve_name(module)
    original = getattr(target, name)

    def with_a_signal(*arguments: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    monkeypatch.setattr(target, name, with_a_signal)
    try:
        code, output = train_small("loop.max_steps=1", "evaluation.every_epochs=null")
        assert code == 0 and unhandled == [], output
        assert read_summary(tmp_path / "run")["status"] == "finished"
        os.kill(os.getpid(), signal.SIGTERM)
        assert unhandled == [signal.SIGTERM], "the caller's handler is restored"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_tensorboard_shows_losses_diagnostics_and_images(train_small: TrainSmall, tmp_path: Path) -> None:
    train_small("tracking.tensorboard=true")
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    scalars = set(board.Tags()["scalars"])
    assert {
        "train/cross",
        "train/lr_denoiser",
        "train/data_wait",
        "train/images_per_s",
        "val/psnr",
        "val/floor",
        "val/latent_spread",
        "val/leak_target",
        "val/cross_over_floor",
    } <= scalars
    assert [scalar.step for scalar in board.Scalars("train/cross")] == [2, 4]
    assert {"pd_cross/val000", "pdfs_cross/val000", "pd_same/val001"} <= set(board.Tags()["images"])
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


def test_missing_shards_are_reported_with_the_command_that_builds_them(train_small: TrainSmall, tmp_path: Path) -> None:
    code, output = train_small(f"data.root={tmp_path / 'nowhere'}")
    assert code == 4
    assert f"no shards at {tmp_path / 'nowhere' / 'train'}: build them with" in single_error(output)


def test_missing_fields_are_reported_with_the_members_that_exist(train_small: TrainSmall) -> None:
    code, output = train_small("pipeline={name: supervised}")
    assert (
        code == 4
        and "does not hold noisy (member 'noisy'), clean" in single_error(output)
        and "it holds pd, " in output
    )


def test_an_unknown_name_is_refused_before_the_first_step(train_small: TrainSmall, mini: Path, tmp_path: Path) -> None:
    """Otherwise a typo in the name of an optional field would go unnoticed."""
    code, output = train_small("data.fields.pd_clean=pd_claen")
    assert code == 4 and "data.fields.pd_clean names the member 'pd_claen'" in single_error(output)
    assert "did you mean 'pd_clean'?" in output
    code, output = train_small("data.fields.pd_clea=pd_clean")
    assert (
        code == 4
        and "data.fields.pd_clea: the method has no such field" in single_error(output)
        and "mean 'pd_clean'?" in output
    )
    code, output = train_small("optimizer.phases.denoisr.lr=1e-5")
    assert code == 2 and "optimizer.phases.denoisr" in single_error(output) and "did you mean 'denoiser'?" in output
    code, output = train_small("evaluation.metric=psrn")
    assert code == 2 and "evaluation.metric: no metric 'psrn'; did you mean 'psnr'?" in single_error(output)
    code, output = train_small("data.val_split=vall")
    assert (
        code == 4
        and f"no shards at {mini / 'vall'} (that folder has: test, train, val; choose with data.val_split"
        in single_error(output)
    )
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_member_may_exist_in_the_validation_split_only(tmp_path: Path) -> None:
    sample = pd_pdfs_sample(np.random.default_rng(0), "a")
    for split, members in (("train", {}), ("val", {"truth.npy": sample["pd_clean.npy"]})):
        write_split(tmp_path / split, [sample | members], name="mini", meta={"data_range": 1.0})
    config = DataConfig(root=str(tmp_path), fields={"pd_clean": "truth"})
    assert splits.open_training(config).path == tmp_path / "train"


@pytest.mark.parametrize(
    ("meta", "channels", "message"),
    [
        ({}, 1, "data_range is missing; PSNR and SSIM need it"),
        ({"data_range": "wide"}, 1, "data_range must be a number > 0, got 'wide';"),
        ({"data_range": 1.0}, 3, "the images of field 'clean' are colour, but those of "),
    ],
)
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_validation_split_that_cannot_be_evaluated_is_refused_before_training(
    train_small: TrainSmall,
    tmp_path: Path,
    meta: dict,
    channels: int,
    message: str,
    options: tuple[str, ...],
) -> None:
    pair = {name: np.random.default_rng(0).random((24, 24, 3), np.float32) for name in ("noisy.npy", "clean.npy")}
    for split, count, split_meta in (("train", 1, {"data_range": 1.0}), ("val", channels, meta)):
        images = {name: image[..., 0] if count == 1 else image for name, image in pair.items()}
        write_split(tmp_path / split, [{"__key__": "a", **images}], name="mini", meta=split_meta)
    code, output = train_small(
        "pipeline={name: supervised, network: {name: dncnn, depth: 3, width: 4}}",
        f"data.root={tmp_path}",
        options=options,
    )
    assert code == 4 and message in single_error(output) and "step 2/4" not in output


def test_a_truncated_shard_is_named(train_small: TrainSmall, mini: Path, tmp_path: Path) -> None:
    shutil.copytree(mini, tmp_path / "truncated")
    tar = tmp_path / "truncated" / "train" / "mini-000000.tar"
    os.truncate(tar, tar.stat().st_size // 2)
    code, output = train_small(f"data.root={tmp_path / 'truncated'}")
    assert code == 4 and "mini-000000.tar" in single_error(output)


def mini_with_a_changed_sample(folder: Path, change: Callable[[Sample], None]) -> Path:
    """Write shards like `mini`, with a change to training sample 5."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 9), ("val", 2)):
        samples = [pd_pdfs_sample(rng, f"{split}{i:03d}") for i in range(count)]
        if split == "train":
            change(samples[5])
        write_split(folder / split, samples, name="mini", meta={"data_range": 1.0})
    return folder


def test_an_image_with_nan_is_named(train_small: TrainSmall, tmp_path: Path) -> None:
    def change(sample: Sample) -> None:
        sample["pdfs.npy"][3, 3] = np.nan

    code, output = train_small(f"data.root={mini_with_a_changed_sample(tmp_path / 'bad', change)}")
    assert code == 4 and "train005" in single_error(output) and "NaN" in output


def test_a_member_of_another_shape_is_named(train_small: TrainSmall, tmp_path: Path) -> None:
    def change(sample: Sample) -> None:
        sample["pd.npy"] = sample["pd.npy"][:, :20]

    code, output = train_small(f"data.root={mini_with_a_changed_sample(tmp_path / 'bad', change)}", "data.crop=null")
    assert code == 4 and "pd" in single_error(output)


def test_unknown_keys_and_wrong_types_are_reported(train_small: TrainSmall) -> None:
    code, output = train_small("pipeline.wieghts.cross=1", "loop.max_steps=many")
    assert code == 2 and "did you mean 'weights'" in output and "loop.max_steps" in output and "Traceback" not in output


def test_a_run_folder_that_cannot_be_written_is_reported(train_small: TrainSmall, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, output = train_small(run_dir=tmp_path / "file" / "run")
    assert code == 6 and "cannot write the run folder" in single_error(output)


def test_checkpoints_of_another_model_or_configuration_are_refused(train_small: TrainSmall, tmp_path: Path) -> None:
    train_small(run_dir=tmp_path / "other")
    code, output = train_small("pipeline.latent_channels=6", options=("--resume", str(tmp_path / "other")))
    assert code == 5 and "pipeline.latent_channels was 4 and is 6" in single_error(output)
    code, output = train_small(
        "pipeline.latent_channels=6", f"init_from.run={tmp_path / 'other'}", run_dir=tmp_path / "warm"
    )
    assert code == 5 and "holds another model's weights" in single_error(output)
    code, output = train_small(f"init_from.run={tmp_path / 'nowhere'}", run_dir=tmp_path / "warm")
    assert code == 5 and "init_from.run: no checkpoint in" in single_error(output)
    code, output = train_small("optimizer.lr=1e-5", run_dir=tmp_path / "other")
    assert code == 5 and "optimizer.lr was 0.0015 and is 1e-05" in single_error(output), (
        "finished, but with another configuration"
    )
    code, output = train_small("tracking.log_every=1", run_dir=tmp_path / "other")
    assert code == 0 and "is finished (step 4): nothing to do" in output
    code, output = train_small("loop.max_steps=3", run_dir=tmp_path / "other")
    assert code == 0 and "is finished (step 4): nothing to do" in output, "its results are kept"
    checkpoint_of(tmp_path / "other", 4).rename(tmp_path / "copy")
    code, output = train_small(
        "loop.max_steps=6", options=("--resume", str(tmp_path / "copy")), run_dir=tmp_path / "on"
    )
    assert code == 0 and "at step 4 of 6" in output, "a checkpoint's folder may have any name"


def test_resume_never_refuses_to_overwrite_checkpoints(train_small: TrainSmall) -> None:
    assert train_small()[0] == 0
    code, output = train_small(options=("--resume", "never"))
    assert code == 5 and "already has checkpoints" in single_error(output)


def test_selected_parts_can_start_from_another_run(train_small: TrainSmall, tmp_path: Path) -> None:
    train_small(run_dir=tmp_path / "stage1")
    code, output = train_small(
        f"init_from.run={tmp_path / 'stage1'}", "init_from.parts=[encoder, decoder_a]", run_dir=tmp_path / "stage2"
    )
    assert code == 0 and "starting from encoder, decoder_a of" in output
    code, output = train_small(
        f"init_from.run={tmp_path / 'stage1'}", "init_from.parts=[encodr]", run_dir=tmp_path / "stage3"
    )
    assert code == 5 and "names 'encodr', but" in single_error(output)


def test_steps_with_nonfinite_gradients_are_skipped_and_too_many_end_the_run(
    train_small: TrainSmall, tmp_path: Path
) -> None:
    code, output = train_small("loop.max_skips=2", "optimizer={name: sgd, lr: 1e12}", "loop.clip_norm=null")
    assert code == 3 and "the gradient was not finite in 3 steps in a row" in single_error(output)
    assert read_summary(tmp_path / "run")["status"] == "diverged"


def test_a_batch_that_cannot_be_split_evenly_is_refused(train_small: TrainSmall) -> None:
    code, output = train_small("data.batch_size=6", "loop.accumulate=4")
    assert code == 2 and "data.batch_size must be a multiple of 4" in output and "got 6" in output


def test_evaluation_writes_rows_a_table_and_a_picture(
    train_small: TrainSmall, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_small()
    options = ["--baseline", "noisy", "--baseline", "nlm", "--metrics", "psnr", "ssim", "nmse"]
    output_file = tmp_path / "out" / "r.json"
    assert evaluate.main(["--run", str(tmp_path / "run"), *options, "--output", str(output_file)]) == 0
    report = json.loads(output_file.read_text())
    assert len(report["rows"]) == 3 and report["data_range"] == 1.0 and report["fingerprint"].startswith("1:")
    assert report["outputs"]["pd_cross"] == {"noisy": "pd", "clean": "pd_clean", "primary": True}
    assert report["means"]["pd/noisy/psnr"] == pytest.approx(report["means"]["pd_cross/noisy_psnr"])
    assert report["means"]["pd/nlm/psnr"] > report["means"]["pd/noisy/psnr"] + 3
    output = capsys.readouterr().out
    assert "| pd | nlm |" in output and "| pdfs | dual_domain cross |" in output
    assert "| pd | noisy | " in (tmp_path / "out" / "r.md").read_text()
    assert (tmp_path / "out" / "r.png").stat().st_size > 1000


def test_evaluation_refuses_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["--run", str(tmp_path)]) == 5
    assert "is not a run folder" in single_error(capsys.readouterr().err)
    assert evaluate.main(["--run", str(tmp_path), "--output", "table.md"]) == 2, "the table would overwrite the rows"
    assert "--output must name the JSON file, got 'table.md': the .md and .png are written beside" in single_error(
        capsys.readouterr().err
    )
    for option in (["--limit", "0"], ["--tune", "-1"], ["--pictures", "many"]):
        with pytest.raises(SystemExit) as exit_:
            evaluate.main(["--run", str(tmp_path), *option])
        assert exit_.value.code == 2 and f"argument {option[0]}: expected a whole number of" in capsys.readouterr().err


def test_without_clean_images_a_second_noisy_copy_is_the_reference(train_small: TrainSmall, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for split in ("train", "val", "test"):
        samples = []
        for i in range(9):
            sample = pd_pdfs_sample(rng, f"{split}{i}")
            for name in ("pd", "pdfs"):
                clean = sample.pop(f"{name}_clean.npy")
                sample[f"{name}_second.npy"] = (clean + 0.1 * rng.normal(size=clean.shape)).astype(np.complex64)
            samples.append(sample)
        write_split(tmp_path / "second" / split, samples, name="mini", meta={"data_range": 1.0})
    code, output = train_small(f"data.root={tmp_path / 'second'}")
    assert code == 0 and "noisy_psnr" in output and "leak_target" not in output
    assert evaluate.main(["--run", str(tmp_path / "run")]) == 0
    assert "against a second noisy copy" in (tmp_path / "run" / "report.md").read_text()


def test_a_noise_level_measured_before_the_first_step_is_saved_with_the_weights(mini: Path, tmp_path: Path) -> None:
    arguments = [
        "--config",
        "configs/quickstart.yaml",
        f"data.root={mini}",
        "data.crop=16",
        "loop.threads=1",
        "pipeline.network.widths=[4]",
        "pipeline.network.blocks=[1]",
        "pipeline.passes=1",
        "loop.max_steps=2",
        "tracking.tensorboard=false",
        "--run-dir",
        str(tmp_path / "run"),
    ]
    assert train.main(arguments) == 0
    for name in ("weights", "ema"):
        file = checkpoint_of(tmp_path / "run", 2) / f"{name}.safetensors"
        weights = load_file(file)
        assert weights.pop("levels").tolist() == pytest.approx([0.1, 0.1], rel=0.15)  # estimated on images of 24 px
        save_file(weights, file)  # as in checkpoints from before levels were saved
    forget_checksums(checkpoint_of(tmp_path / "run", 2))
    assert evaluate.main(["--run", str(tmp_path / "run"), "--limit", "1", "--pictures", "0"]) == 0
    assert train.main([*arguments, "loop.max_steps=3"]) == 0
    assert read_weights(tmp_path / "run", 3, "ema")["levels"].tolist() == [0, 0]
