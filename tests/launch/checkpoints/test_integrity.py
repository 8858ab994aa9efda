"""Every kind of damage to any file of a checkpoint is named, never trained on, and never evaluated unnoticed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from quell.configs.errors import CheckpointError
from quell.launch import denoise, evaluate
from quell.launch.checkpoints import integrity, resume, store
from tests.support.checkpoints import forget_checksums, save
from tests.support.runs import checkpoint_of, read_events, read_summary, read_weights, same_bits
from tests.support.small_runs import TrainSmall, single_error

FILES = ("weights.safetensors", "ema.safetensors", "state.pt", "rank-0.pt", "meta.json")


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) * 2 // 3] ^= 0x10
    file.write_bytes(content)


def zero_a_block(file: Path) -> None:
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(len(content[middle : middle + 64]))
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def take_from_the_step_before(file: Path) -> None:
    shutil.copyfile(file.parent.with_name("step-00000001") / file.name, file)


DAMAGES: tuple[Callable[[Path], object], ...] = (
    flip_a_bit,
    zero_a_block,
    truncate,
    empty,
    lengthen,
    take_from_the_step_before,
    Path.unlink,
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_taken(
    tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    folder = tmp_path / "checkpoints"
    first, second = save(folder, 1), save(folder, 2)
    damage(second / name)
    assert len(integrity.problems(second)) == 1 and integrity.problems(second)[0].startswith(name)
    resumption = resume.find_checkpoint(tmp_path, "auto")
    assert resumption.checkpoint == first
    (warning,) = resumption.warnings
    assert f"{second} is damaged ({name} " in warning and "continuing from step-00000001" in warning
    with pytest.raises(CheckpointError, match=rf"step-00000002 is damaged: {name} .*use another .*step-00000001"):
        resume.find_checkpoint(tmp_path, str(second))


def test_nothing_but_damaged_checkpoints_is_refused_rather_than_begun_again(tmp_path: Path) -> None:
    empty(save(tmp_path / "checkpoints", 1) / "state.pt")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is intact: .*state\.pt has 0 bytes"):
        resume.find_checkpoint(tmp_path, "auto")


def test_every_reader_compares_the_file_it_reads(tmp_path: Path) -> None:
    save(tmp_path, 1)
    for name in FILES[:-1]:
        checkpoint = save(tmp_path, 2)
        flip_a_bit(checkpoint / name)
        with pytest.raises(
            CheckpointError, match=rf"step-00000002 is damaged: {name} is damaged: its checksum differs"
        ):
            if name.endswith(".pt"):
                store.read_state(checkpoint, name)
            else:
                store.read_weights(checkpoint, averaged=name.startswith("ema"))


def test_a_missing_average_is_not_replaced_by_the_weights(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, 1)
    (checkpoint / "ema.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"ema\.safetensors is missing"):
        store.read_weights(checkpoint, averaged=True)


def test_an_added_file_is_named_and_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hidden = store.begin(tmp_path, 1)
    store.write_weights(hidden, {"a": torch.ones(1)}, None)
    checkpoint = store.publish(hidden, {"step": 1})
    store.write_weights(tmp_path, {"a": torch.zeros(1)}, None)
    (tmp_path / "weights.safetensors").rename(checkpoint / "ema.safetensors")
    store.warn_of_damage(checkpoint)
    assert "ema.safetensors was not written with this checkpoint and is ignored" in caplog.text
    assert store.read_weights(checkpoint, averaged=True)["a"].item() == 1


def test_another_format_is_refused_with_the_commit_that_wrote_it(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, 1)
    (checkpoint / "meta.json").write_text(json.dumps({"format": 99, "step": 1, "commit": "abc"}))
    with pytest.raises(CheckpointError, match=r"has format 99, expected one of \(1, 2\): use the code of commit abc"):
        store.read_meta(checkpoint)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("weights.safetensors", truncate, "weights.safetensors is damaged"),
        ("ema.safetensors", Path.unlink, "ema.safetensors is missing"),
        ("state.pt", truncate, "state.pt is damaged"),
        ("state.pt", take_from_the_step_before, "state.pt is of step 1"),
        ("rank-0.pt", Path.unlink, "rank-0.pt is missing"),
    ],
)
def test_damage_that_shows_without_checksums_is_noticed_in_checkpoints_of_format_1(
    tmp_path: Path, name: str, damage: Callable[[Path], object], words: str
) -> None:
    folder = tmp_path / "checkpoints"
    for step in (1, 2):
        checkpoint = save(folder, step)
        meta = {"format": 1, "step": step, "world": 1, "config": {"loop": {"ema_decay": 0.9}}}
        (checkpoint / "meta.json").write_text(json.dumps(meta))
    assert resume.find_checkpoint(tmp_path, "auto").checkpoint == checkpoint
    damage(checkpoint / name)
    resumption = resume.find_checkpoint(tmp_path, "auto")
    assert resumption.checkpoint == folder / "step-00000001" and words in resumption.warnings[0]


def test_a_run_goes_on_from_an_intact_checkpoint_and_ends_in_the_same_weights(
    train_small: TrainSmall, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("loop.ema_decay=0.9", "checkpoint.every_steps=2", "evaluation.every_epochs=null", "loop.max_steps=4")
    run, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    assert train_small(*options, run_dir=undisturbed)[0] == 0
    shutil.copytree(undisturbed, run)
    flip_a_bit(checkpoint_of(run, 4) / "weights.safetensors")

    # measured with the average, which is intact: the result is right, and the damage is named
    assert evaluate.main(["--run", str(run), "--which", "last", "--limit", "1"]) == 0
    assert "weights.safetensors is damaged: its checksum differs; it is not used here" in capsys.readouterr().err
    flip_a_bit(checkpoint_of(run, 4) / "ema.safetensors")
    assert evaluate.main(["--run", str(run), "--which", "last", "--limit", "1"]) == 5
    words = f"{checkpoint_of(run, 4)} is damaged: ema.safetensors is damaged"
    assert words in (error := single_error(capsys.readouterr().err)) and str(checkpoint_of(run, 2)) in error
    image = tmp_path / "pd.npy"
    np.save(image, np.ones((24, 24), np.complex64))
    arguments = ["--run", str(run), "--which", "last", f"pd={image},pdfs={image}", "--output", str(tmp_path / "out")]
    assert denoise.main(arguments) == 5 and words in single_error(capsys.readouterr().err)
    code, output = train_small(f"init_from.run={run}", run_dir=tmp_path / "other")
    assert code == 5 and words in single_error(output)

    (run / "summary.json").write_text("{}")
    code, output = train_small(*options, run_dir=run)
    assert code == 0 and "weights.safetensors is damaged: its checksum differs" in output
    assert "continuing from step-00000002" in output and "at step 2 of 4" in output
    assert "damaged checkpoint" in read_summary(run)["warnings"]
    for name in ("weights", "ema"):
        assert same_bits(read_weights(run, 4, name), read_weights(undisturbed, 4, name))
    assert (run / "checkpoints" / "aside-after-step-00000002" / "step-00000004").is_dir(), "kept for the user"
    assert [event["step"] for event in read_events(run, "train")] == [2, 4]


def test_a_finished_run_whose_result_is_damaged_is_trained_to_its_end_again(
    train_small: TrainSmall, tmp_path: Path
) -> None:
    options = ("checkpoint.every_steps=2", "evaluation.every_epochs=null")
    assert train_small(*options)[0] == 0
    before = read_weights(tmp_path / "run", 4)
    empty(checkpoint_of(tmp_path / "run", 4) / "state.pt")
    code, output = train_small(*options)
    assert code == 0 and "state.pt has 0 bytes" in output and "nothing to do" not in output
    assert same_bits(read_weights(tmp_path / "run", 4), before)


@pytest.mark.parametrize(
    ("key", "value"),
    [("config", None), ("config", 5), ("world", None), ("world", "1"), ("samples", None), ("metrics", [1])],
)
def test_a_meta_json_without_checksum_whose_values_changed_their_type_is_damaged(
    tmp_path: Path, key: str, value: object
) -> None:
    intact, path = save(tmp_path, 1), save(tmp_path, 2)
    forget_checksums(path)
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps({**meta, key: value}))
    assert integrity.problems(path) == [f"meta.json is damaged: '{key}' is {str(value)!r}"]
    assert store.intact(tmp_path) == intact
    with pytest.raises(CheckpointError, match=f"'{key}' is"):
        store.read_weights(path, averaged=True)
