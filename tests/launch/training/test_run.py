"""A run from its configuration to its folder, in this process: what it writes, and how it refuses what cannot work."""

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

from configs import loader
from configs.schema import DataConfig
from launch import evaluate, train
from launch.data import splits
from shards.building.writer import write_split
from tests.launch.conftest import one_sentence, sample


def test_a_run_leaves_a_complete_folder(go, tmp_path: Path) -> None:
    code, said = go("tracking.tensorboard=true", "loop.ema_decay=0.9")
    run = tmp_path / "run"
    assert code == 0 and "data wait" in said and "ETA" in said
    config = loader.load(run / "config.yaml")
    assert config.loop.max_steps == 4 and config.optimizer.name == "adamw"
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["step"], summary["exit_code"]) == ("finished", 4, 0)
    assert summary["metrics"]["noisy_psnr"] == pytest.approx(20, abs=0.5)
    checkpoint = run / "checkpoints" / "step-00000004"
    assert {f.name for f in checkpoint.iterdir()} == {
        "weights.safetensors",
        "ema.safetensors",
        "state.pt",
        "rank-0.pt",
        "meta.json",
    }
    assert json.loads((run / "checkpoints" / "best.json").read_text())["metric"] == "psnr"
    kinds = [json.loads(line)["event"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert kinds[0] == "start" and kinds[-1] == "end" and kinds.count("train") == 2


@pytest.mark.parametrize(
    "place",
    [
        "launch.checkpoints.store.publish",
        "launch.training.run.finish",
        "launch.runs.tracker.Tracker.close",
        "launch.machine.acceleration.close",
    ],
)
def test_a_signal_while_the_last_files_are_written_ends_nothing(go, tmp_path: Path, monkeypatch, place: str) -> None:
    """After the last step there is nothing left to stop: a signal must neither kill the process nor change its end."""
    missed: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: missed.append(number))
    module, _, name = place.rpartition(".")
    target = pkgutil.resolve_name(module)
    original = getattr(target, name)

    def with_a_signal(*arguments: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    monkeypatch.setattr(target, name, with_a_signal)
    try:
        code, said = go("loop.max_steps=1", "evaluation.every_epochs=null")
        assert code == 0 and missed == [], said
        assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "finished"
        os.kill(os.getpid(), signal.SIGTERM)
        assert missed == [signal.SIGTERM], "the caller's own handler is back"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_tensorboard_shows_losses_instruments_and_images(go, tmp_path: Path) -> None:
    go("tracking.tensorboard=true")
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
    assert [e.step for e in board.Scalars("train/cross")] == [2, 4]
    assert {"pd_cross/val000", "pdfs_cross/val000", "pd_same/val001"} <= set(board.Tags()["images"])
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


def test_missing_shards(go, tmp_path: Path) -> None:
    code, said = go(f"data.root={tmp_path / 'nowhere'}")
    assert code == 4
    assert f"no shards at {tmp_path / 'nowhere' / 'train'}: build them with" in one_sentence(said)


def test_missing_members(go) -> None:
    code, said = go("pipeline={name: supervised}")
    assert code == 4 and "does not hold noisy (member 'noisy'), clean" in one_sentence(said) and "it holds pd, " in said


def test_a_name_nobody_has_is_refused_before_the_first_step(go, mini: Path, tmp_path: Path) -> None:
    """A mistyped name of something optional would otherwise be left out without a word."""
    code, said = go("data.fields.pd_clean=pd_claen")
    assert code == 4 and "data.fields.pd_clean names the member 'pd_claen'" in one_sentence(said)
    assert "did you mean 'pd_clean'?" in said
    code, said = go("data.fields.pd_clea=pd_clean")
    assert (
        code == 4
        and "data.fields.pd_clea: the method has no such field" in one_sentence(said)
        and "mean 'pd_clean'?" in said
    )
    code, said = go("optimizer.phases.denoisr.lr=1e-5")
    assert code == 2 and "optimizer.phases.denoisr" in one_sentence(said) and "did you mean 'denoiser'?" in said
    code, said = go("evaluation.metric=psrn")
    assert code == 2 and "evaluation.metric: Input should be 'psnr', 'ssim' or 'rmse'" in one_sentence(said)
    code, said = go("data.val_split=vall")
    assert (
        code == 4
        and f"no shards at {mini / 'vall'} (that folder has: test, train, val; choose with data.val_split"
        in one_sentence(said)
    )
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_member_may_be_in_the_validation_split_alone(tmp_path: Path) -> None:
    one = sample(np.random.default_rng(0), "one")
    for split, held in (("train", one), ("val", one | {"truth.npy": one["pd_clean.npy"]})):
        write_split(tmp_path / split, [held], name="mini", meta={"data_range": 1.0})
    named = DataConfig(root=str(tmp_path), fields={"pd_clean": "truth"})
    assert splits.open_training(named).path == tmp_path / "train"


@pytest.mark.parametrize(
    ("meta", "channels", "says"),
    [
        ({}, 1, "data_range is missing; PSNR and SSIM need it"),
        ({"data_range": "wide"}, 1, "data_range must be a number > 0, got 'wide';"),
        ({"data_range": 1.0}, 3, "the images of field 'clean' are colour, but those of "),
    ],
)
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_validation_split_that_cannot_be_measured_costs_no_training(
    go,
    tmp_path: Path,
    meta: dict,
    channels: int,
    says: str,
    options: tuple[str, ...],
) -> None:
    pair = {name: np.random.default_rng(0).random((24, 24, 3), np.float32) for name in ("noisy.npy", "clean.npy")}
    for split, count, notes in (("train", 1, {"data_range": 1.0}), ("val", channels, meta)):
        images = {name: image[..., 0] if count == 1 else image for name, image in pair.items()}
        write_split(tmp_path / split, [{"__key__": "one", **images}], name="mini", meta=notes)
    code, said = go(
        "pipeline={name: supervised, network: {name: dncnn, depth: 3, width: 4}}",
        f"data.root={tmp_path}",
        options=options,
    )
    assert code == 4 and says in one_sentence(said) and "step 2/4" not in said


def test_a_truncated_shard(go, mini: Path, tmp_path: Path) -> None:
    shutil.copytree(mini, tmp_path / "cut")
    tar = tmp_path / "cut" / "train" / "mini-000000.tar"
    os.truncate(tar, tar.stat().st_size // 2)
    code, said = go(f"data.root={tmp_path / 'cut'}")
    assert code == 4 and "mini-000000.tar" in one_sentence(said)


def broken(folder: Path, change: Callable[[dict], None]) -> Path:
    """Shards like the small ones whose 6th training sample was changed."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 9), ("val", 2)):
        samples = [sample(rng, f"{split}{i:03d}") for i in range(count)]
        if split == "train":
            change(samples[5])
        write_split(folder / split, samples, name="mini", meta={"data_range": 1.0})
    return folder


def test_an_image_with_nan_is_named(go, tmp_path: Path) -> None:
    def spoil(one: dict) -> None:
        one["pdfs.npy"][3, 3] = np.nan

    code, said = go(f"data.root={broken(tmp_path / 'bad', spoil)}")
    assert code == 4 and "train005" in one_sentence(said) and "NaN" in said


def test_a_member_of_another_shape_is_named(go, tmp_path: Path) -> None:
    def spoil(one: dict) -> None:
        one["pd.npy"] = one["pd.npy"][:, :20]

    code, said = go(f"data.root={broken(tmp_path / 'bad', spoil)}", "data.crop=null")
    assert code == 4 and "pd" in one_sentence(said)


def test_unknown_keys_and_wrong_types(go) -> None:
    code, said = go("pipeline.wieghts.cross=1", "loop.max_steps=many")
    assert code == 2 and "did you mean 'weights'" in said and "loop.max_steps" in said and "Traceback" not in said


def test_an_unwritable_run_folder(go, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = go(run_dir=tmp_path / "file" / "run")
    assert code == 6 and "cannot write the run folder" in one_sentence(said)


def test_a_checkpoint_of_another_model(go, tmp_path: Path) -> None:
    go(run_dir=tmp_path / "other")
    code, said = go("pipeline.latent_channels=6", options=("--resume", str(tmp_path / "other")))
    assert code == 5 and "pipeline.latent_channels was 4 and is 6" in one_sentence(said)
    code, said = go("pipeline.latent_channels=6", f"init_from.run={tmp_path / 'other'}", run_dir=tmp_path / "warm")
    assert code == 5 and "holds another model's weights" in one_sentence(said)
    code, said = go(f"init_from.run={tmp_path / 'nowhere'}", run_dir=tmp_path / "warm")
    assert code == 5 and "init_from.run: no checkpoint in" in one_sentence(said)
    code, said = go("optimizer.lr=1e-5", run_dir=tmp_path / "other")
    assert code == 5 and "optimizer.lr was 0.0015 and is 1e-05" in one_sentence(said), "finished, but not this run"
    code, said = go("tracking.log_every=1", run_dir=tmp_path / "other")
    assert code == 0 and "is finished (step 4): nothing to do" in said
    code, said = go("loop.max_steps=3", run_dir=tmp_path / "other")
    assert code == 0 and "is finished (step 4): nothing to do" in said, "its results stay"
    (tmp_path / "other" / "checkpoints" / "step-00000004").rename(tmp_path / "copy")
    code, said = go("loop.max_steps=6", options=("--resume", str(tmp_path / "copy")), run_dir=tmp_path / "on")
    assert code == 0 and "at step 4 of 6" in said, "a checkpoint is known by its content"


def test_resume_never_does_not_overwrite(go) -> None:
    assert go()[0] == 0
    code, said = go(options=("--resume", "never"))
    assert code == 5 and "already has checkpoints" in one_sentence(said)


def test_named_parts_start_from_another_run(go, tmp_path: Path) -> None:
    go(run_dir=tmp_path / "stage1")
    code, said = go(
        f"init_from.run={tmp_path / 'stage1'}", "init_from.parts=[encoder, decoder_a]", run_dir=tmp_path / "stage2"
    )
    assert code == 0 and "starting from encoder, decoder_a of" in said
    code, said = go(f"init_from.run={tmp_path / 'stage1'}", "init_from.parts=[encodr]", run_dir=tmp_path / "stage3")
    assert code == 5 and "names 'encodr', but" in one_sentence(said)


def test_gradients_that_are_not_finite_are_skipped_and_then_end_the_run(go, tmp_path: Path) -> None:
    code, said = go("loop.max_skips=2", "pipeline.sigma_a=1e38", "loop.max_steps=6")
    assert code == 3 and "the gradient was not finite in 4 steps in a row" in one_sentence(said)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "diverged"


def test_uneven_shares_are_refused(go) -> None:
    code, said = go("data.batch_size=6", "loop.accumulate=4")
    assert code == 2 and "data.batch_size must be a multiple of 4" in said and "got 6" in said


def test_evaluation_writes_rows_table_and_picture(go, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go()
    code = evaluate.main(
        [
            "--run",
            str(tmp_path / "run"),
            "--baseline",
            "noisy",
            "--baseline",
            "nlm",
            "--metrics",
            "psnr",
            "ssim",
            "nmse",
            "--output",
            str(tmp_path / "out" / "r.json"),
        ]
    )
    assert code == 0
    report = json.loads((tmp_path / "out" / "r.json").read_text())
    assert len(report["rows"]) == 3 and report["data_range"] == 1.0
    assert report["means"]["pd/noisy/psnr"] == pytest.approx(report["means"]["pd_cross/noisy_psnr"])
    assert report["means"]["pd/nlm/psnr"] > report["means"]["pd/noisy/psnr"] + 3
    said = capsys.readouterr().out
    assert "| pd | nlm |" in said and "| pdfs | dual_domain cross |" in said
    assert "| pd | noisy | " in (tmp_path / "out" / "r.md").read_text()
    assert (tmp_path / "out" / "r.png").stat().st_size > 1000


def test_evaluation_of_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["--run", str(tmp_path)]) == 5
    assert "is not a run folder" in one_sentence(capsys.readouterr().err)
    assert evaluate.main(["--run", str(tmp_path), "--output", "table.md"]) == 2, "the table would overwrite the rows"
    assert "--output must name the JSON file, got 'table.md': the .md and .png are written beside" in one_sentence(
        capsys.readouterr().err
    )
    for wrong in (["--limit", "0"], ["--tune", "-1"], ["--pictures", "many"]):
        with pytest.raises(SystemExit) as refused:
            evaluate.main(["--run", str(tmp_path), *wrong])
        assert refused.value.code == 2 and f"argument {wrong[0]}: expected a whole number of" in capsys.readouterr().err


def test_without_clean_images_a_second_noisy_copy_stands_in(go, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for split in ("train", "val", "test"):
        samples = []
        for i in range(9):
            one = sample(rng, f"{split}{i}")
            for name in ("pd", "pdfs"):
                clean = one.pop(f"{name}_clean.npy")
                one[f"{name}_second.npy"] = (clean + 0.1 * rng.normal(size=clean.shape)).astype(np.complex64)
            samples.append(one)
        write_split(tmp_path / "second" / split, samples, name="mini", meta={"data_range": 1.0})
    code, said = go(f"data.root={tmp_path / 'second'}")
    assert code == 0 and "noisy_psnr" in said and "leak_target" not in said
    assert evaluate.main(["--run", str(tmp_path / "run")]) == 0
    assert "against a second noisy copy" in (tmp_path / "run" / "report.md").read_text()


def test_a_noise_level_measured_before_the_first_step_is_kept_with_the_weights(mini: Path, tmp_path: Path) -> None:
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
        file = tmp_path / "run" / "checkpoints" / "step-00000002" / f"{name}.safetensors"
        held = load_file(file)
        assert held.pop("levels").tolist() == pytest.approx([0.1, 0.1], rel=0.15)  # of images of 24 px
        save_file(held, file)  # as it was before levels were kept
    assert evaluate.main(["--run", str(tmp_path / "run"), "--limit", "1", "--pictures", "0"]) == 0
    assert train.main([*arguments, "loop.max_steps=3"]) == 0
    averaged = load_file(tmp_path / "run" / "checkpoints" / "step-00000003" / "ema.safetensors")
    assert averaged["levels"].tolist() == [0, 0]
