"""`quell repeat`: a run that was interrupted twice is trained again, and every difference is found."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from quell.configs.support.json_files import Record
from quell.launch import train
from quell.launch.capsule import files
from quell.launch.checkpoints import integrity
from quell.launch.repeating import command, differences
from tests.support.runs import checkpoint_of, read_events, read_summary
from tests.support.small_runs import SMALL_CONFIG, single_error


@pytest.fixture(scope="module")
def resumed(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps in three starts."""
    run = tmp_path_factory.mktemp("repeat") / "run"
    words = ["--config", SMALL_CONFIG, f"data.root={mini}", "loop.max_steps=6", "checkpoint.every_steps=2"]
    for stop in (["--stop-at", "3"], ["--stop-at", "4"], []):
        assert train.main([*words, "--run-dir", str(run), *stop]) == 0
    return run


@pytest.fixture(scope="module")
def repeated(resumed: Path) -> Path:
    """Its repetition, in a process of its own."""
    assert command.main([str(resumed)]) == 0
    return resumed.with_name("run-repeat")


def report_of(run: Path) -> Record:
    report: Record = json.loads((run / "repeat.json").read_text())
    return report


def copy_of(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / run.name))


def change_weights(checkpoint: Path, name: str) -> None:
    """Change the last bits of one tensor of an intact checkpoint, which is intact afterwards too."""
    weights = load_file(checkpoint / "weights.safetensors")
    weights[name] = weights[name] * (1 + 1e-6)
    save_file(weights, checkpoint / "weights.safetensors")
    meta = {
        key: value for key, value in json.loads((checkpoint / "meta.json").read_text()).items() if key != "checksum"
    }
    (checkpoint / "meta.json").write_text(integrity.to_json({**meta, "files": integrity.describe(checkpoint)}))


def test_a_run_that_was_resumed_twice_is_repeated_bit_for_bit_in_one_go(resumed: Path, repeated: Path) -> None:
    assert read_summary(repeated)["status"] == "finished" and len(files.read_starts(repeated)) == 1
    report = report_of(repeated)
    assert report["identical"] and report["weights_compared"] and report["same_initial_weights"]
    assert report["legs"] == [[0, 6]] and report["tensors"] == {"weights": [], "average": []}
    assert report["trained"] and report["numbers_compared"] > 50 and report["first_difference"] is None
    assert [event["step"] for event in read_events(resumed, "resume")] == [3, 4], "or nothing was shown"


def test_a_single_changed_tensor_is_named(
    resumed: Path, repeated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = copy_of(repeated, tmp_path)
    weights = load_file(checkpoint_of(again, 6) / "weights.safetensors")
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point() and tensor.any())
    change_weights(checkpoint_of(again, 6), name)
    assert command.main([str(resumed), "--run-dir", str(again)]) == 7
    report = report_of(again)
    assert not report["identical"] and [row["name"] for row in report["tensors"]["weights"]] == [name]
    assert 0 < report["tensors"]["weights"][0]["largest"] < 1e-5 and report["tensors"]["average"] == []
    assert f"| {name} |" in capsys.readouterr().out


def test_logs_that_part_are_named_by_their_first_step(
    resumed: Path, repeated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = copy_of(repeated, tmp_path)
    lines = [json.loads(line) for line in (again / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if line["event"] == "train" and line["step"] >= 2:
            line["loss_denoiser"] += 1e-3
    (again / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command.main([str(resumed), "--run-dir", str(again)])
    assert report_of(again)["first_difference"]["step"] == 2
    assert "first logged difference: train loss_denoiser at step 2" in capsys.readouterr().out


def test_an_earlier_step_is_identical_by_its_checkpoint_and_never_by_the_log_alone(
    resumed: Path, repeated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = copy_of(repeated, tmp_path)
    assert command.main([str(resumed), "--run-dir", str(again), "--steps", "4"]) == 0
    assert report_of(again)["weights_compared"] and report_of(again)["step"] == 4
    shutil.rmtree(checkpoint_of(copy_of(resumed, tmp_path), 4))
    assert command.main([str(tmp_path / "run"), "--run-dir", str(again), "--steps", "4"]) == 8
    report, out = report_of(again), capsys.readouterr().out
    assert report["identical"] is None and not report["weights_compared"] and report["numbers_compared"] > 0
    assert "kept no checkpoint of step 4" in out and "not known: whether the weights are the same" in out


def test_without_weights_and_logs_nothing_is_called_identical(
    resumed: Path, repeated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again, run = copy_of(repeated, tmp_path), copy_of(resumed, tmp_path)
    shutil.rmtree(checkpoint_of(run, 4))
    (again / "metrics.jsonl").write_text("")
    words = [str(run), "--run-dir", str(again), "--steps", "4"]
    assert command.main(words) == 8
    assert "logs: not compared, there is no number that both have" in capsys.readouterr().out
    (first,) = files.read_starts(again)
    rewrite_starts(again, {**first, "weights": "other"})
    assert command.main(words) == 7, "the initial weights differ"
    assert report_of(again)["identical"] is False


def rewrite_starts(run: Path, *starts: Record) -> None:
    (files.folder_of(run) / files.STARTS).unlink()
    for start in starts:
        files.append(run, start)


def test_a_complete_repetition_is_said_to_be_compared_only(
    resumed: Path, repeated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    again = copy_of(repeated, tmp_path)
    machine = differences.machine.describe
    monkeypatch.setattr(differences.machine, "describe", lambda device: {**machine(device), "cpu": "another"})
    assert command.main([str(resumed), "--run-dir", str(again)]) == 0, "a login node may compare"
    report, out = report_of(again), capsys.readouterr().out
    assert not report["trained"] and "nothing is trained" in out
    assert [sentence for sentence in report["unknown"] if "trained on another machine: cpu " in sentence]


def other_packages(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = differences.packages.installed()
    monkeypatch.setattr(differences.packages, "installed", lambda: {**here, "torch": "9.9"})


def other_code(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differences.code_files, "fingerprint", lambda _: "0123456789ab")


def no_capsule(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(files.folder_of(run))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_packages, "package torch "),
        (other_code, "now commit "),
        (no_capsule, "did not record with what code and packages"),
    ],
)
def test_a_repetition_that_says_nothing_of_what_is_here_is_refused(
    resumed: Path,
    repeated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path, pytest.MonkeyPatch], None],
    message: str,
) -> None:
    again = copy_of(repeated, tmp_path)
    change(again, monkeypatch)
    assert command.main([str(resumed), "--run-dir", str(again)]) == 5
    error = single_error(capsys.readouterr().err)
    assert message in error and "give another folder with --run-dir" in error


def test_a_copy_of_the_run_is_no_repetition(resumed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(resumed), "--run-dir", str(copy_of(resumed, tmp_path))]) == 5
    assert "is a copy of" in single_error(capsys.readouterr().err)


def test_an_unfinished_repetition_does_not_continue_on_another_machine(
    resumed: Path, repeated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    again = copy_of(repeated, tmp_path)
    shutil.rmtree(checkpoint_of(again, 6))
    machine = differences.machine.describe
    monkeypatch.setattr(differences.machine, "describe", lambda device: {**machine(device), "cpu": "another"})
    assert command.main([str(resumed), "--run-dir", str(again)]) == 5
    assert "now another" in single_error(capsys.readouterr().err)


def test_every_start_of_a_run_is_compared_with_what_is_here(
    resumed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(resumed, tmp_path)
    first, second, third = files.read_starts(run)
    first["code"] = {**first["code"], "fingerprint": "0123456789ab"}
    listed = (files.read_part(run, second["packages"]) or b"") + b"old-package==0.1\n"
    second["packages"] = files.keep(run, "packages", "txt", listed)
    rewrite_starts(run, first, second, third)
    assert command.main([str(run), "--check-only"]) == 7
    out = capsys.readouterr().out
    assert "| code, steps 0 to 3 |" in out and "| package old-package, steps 3 to 4 | 0.1 |" in out
    assert "its code changed at step 3: only --code" in out
    assert out.count("--stop-at 3 ") == 1 and out.count("--stop-at 6 ") == 1 and "--stop-at 4 " not in out
    assert command.main([str(run), "--check-only", "--steps", "3"]) == 7
    assert "| code |" in capsys.readouterr().out, "and later starts do not count"


def test_a_run_that_was_resumed_with_other_data_is_repeated_only_as_far_as_that(
    resumed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(resumed, tmp_path)
    first, *others = files.read_starts(run)
    other = {**first["data"]["train"], "fingerprint": first["data"]["train"]["fingerprint"][:-4] + "0000"}
    rewrite_starts(run, {**first, "data": {**first["data"], "train": other}}, *others)
    assert command.main([str(run), "--check-only"]) == 4
    message = single_error(capsys.readouterr().err)
    assert "resumed with other data of the split train at step 3" in message and "--steps 3" in message
    assert command.main([str(run), "--check-only", "--steps", "3"]) == 4
    assert "does not hold the data" in single_error(capsys.readouterr().err)


def test_other_data_are_refused(resumed: Path, mini: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(mini / "train", tmp_path / "train")
    shutil.copytree(mini / "test", tmp_path / "val")
    assert command.main([str(resumed), "--check-only", "--data-root", str(tmp_path)]) == 4
    message = single_error(capsys.readouterr().err)
    assert f"{tmp_path}/val does not hold the data" in message and "mini-000000.tar differs" in message


def test_a_copy_of_the_data_is_the_same_data(
    resumed: Path, mini: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(mini, tmp_path / "moved")
    assert command.main([str(resumed), "--check-only", "--data-root", str(tmp_path / "moved")]) == 0
    assert f"data.root={tmp_path}/moved" in capsys.readouterr().out


def test_a_relative_folder_of_data_is_found_where_it_was(
    resumed: Path, mini: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(resumed, tmp_path)
    text = (run / "config.yaml").read_text()
    assert str(mini) in text
    (run / "config.yaml").write_text(text.replace(str(mini), "some/folder"))
    assert command.main([str(run), "--check-only"]) == 0
    assert f"data.root={mini}" in capsys.readouterr().out


def test_other_code_packages_and_machine_are_reported(
    resumed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = differences.packages.installed()
    monkeypatch.setattr(differences.packages, "installed", lambda: {**here, "torch": "9.9", "new": "1"})
    monkeypatch.setattr(differences.code_files, "fingerprint", lambda _: "0123456789ab")
    machine = differences.machine.describe
    monkeypatch.setattr(differences.machine, "describe", lambda device: {**machine(device), "cpu": "another"})
    assert command.main([str(resumed), "--check-only"]) == 7
    out = capsys.readouterr().out
    assert f"| package torch | {here['torch']} | 9.9 |" in out and "| package new | not installed | 1 |" in out
    assert "(0123456789ab) |" in out and "| another |" in out


def test_what_an_older_run_did_not_record_is_said(
    resumed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = copy_of(resumed, tmp_path)
    shutil.rmtree(files.folder_of(old))
    assert command.main([str(old), "--check-only"]) in (0, 7), "the commit may have changed since"
    out = capsys.readouterr().out
    for unknown in ("packages were not recorded", "the machine was not recorded", "the split val were not recorded"):
        assert f"not known: {unknown}" in out or f"not known: the data of {unknown}" in out
    assert out.count("--stop-at") == 1


def test_a_changed_module_of_the_users_own_is_reported(
    resumed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, module = copy_of(resumed, tmp_path), tmp_path / "mine.py"
    *earlier, last = files.read_starts(run)
    part = files.keep(run, "modules", "json", json.dumps({str(module): "WIDTH = 3\n"}).encode())
    rewrite_starts(run, *earlier, {**last, "own_modules": part})
    module.write_text("WIDTH = 3\n")
    assert command.main([str(run), "--check-only"]) == 0
    module.write_text("WIDTH = 4\n")
    assert command.main([str(run), "--check-only"]) == 7
    assert f"| {module}, steps 4 to 6 | in the capsule | changed |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--steps", "9"], 2, "was trained to step 6 only"),
        (["--run-dir", "{run}"], 2, "is the run itself"),
    ],
)
def test_what_cannot_be_repeated_is_refused_in_a_sentence(
    resumed: Path, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(resumed), *(word.format(run=resumed) for word in words)]) == code
    assert message in single_error(capsys.readouterr().err)


def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(tmp_path)]) == 5
    assert "is not a run folder" in single_error(capsys.readouterr().err)
