"""In which legs a run is trained again, and under which terms."""

from pathlib import Path

import pytest

from quell.configs.support.json_files import Record
from quell.launch.repeating import environment, training
from quell.launch.repeating.history import Leg, legs
from quell.launch.repeating.training import Repetition


def start(step: int, **facts: object) -> Record:
    return {"step": step, "time": float(step), "world": 1, **facts}


def spans(starts: list[Record], end: int) -> list[tuple[int, int]]:
    return [(leg.begin, leg.end) for leg in legs(starts, end)]


def test_interruptions_that_changed_nothing_are_not_repeated() -> None:
    assert spans([start(0), start(0), start(40), start(60)], 100) == [(0, 100)]


def test_another_number_of_processes_begins_a_leg() -> None:
    starts = [start(0, world=2), start(40, world=2), start(60), start(80, world=2)]
    assert spans(starts, 100) == [(0, 60), (60, 80), (80, 100)]
    assert spans(starts, 70) == [(0, 60), (60, 70)] and spans(starts, 60) == [(0, 60)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"code": {"fingerprint": "a"}}, {"code": {"fingerprint": "b"}}),
        ({"code": {"commit": "a"}}, {"code": {"commit": "b"}}),
        ({"own_modules": "a"}, {"own_modules": "b"}),
        ({"data": {"train": {"fingerprint": "a"}}}, {"data": {"train": {"fingerprint": "b"}}}),
    ],
)
def test_other_code_or_data_begin_a_leg(before: Record, after: Record) -> None:
    assert spans([start(0, **before), start(30, **before), start(50, **after)], 100) == [(0, 50), (50, 100)]


def test_a_leg_knows_every_start_that_is_in_it() -> None:
    (leg,) = legs([start(0, packages="a"), start(40, packages="b"), start(40, packages="c")], 100)
    assert [(begin, end, at["packages"]) for begin, end, at in leg.spans()] == [(0, 40, "a"), (40, 100, "c")]


def test_what_was_left_by_a_return_to_an_older_checkpoint_is_not_repeated() -> None:
    starts = [start(0), start(90, world=4), start(50, world=2)]
    assert spans(starts, 100) == [(0, 50), (50, 100)]


def test_a_setting_that_changed_is_set_back_for_the_legs_before() -> None:
    starts = [start(0), start(30), start(60, config_changes={"loop.max_steps": [60, 90], "tracking.log_every": [1, 2]})]
    first, second = legs(starts, 90)
    assert (first.begin, first.end, first.settings) == (0, 60, {"loop.max_steps": 60})
    assert second.settings == {}, "and what has no effect begins no leg"


def test_a_run_that_began_with_another_ones_checkpoint_does_so_again(tmp_path: Path) -> None:
    (leg,) = legs([start(20, continues={"checkpoint": "/other/step-20", "identity": "a"})], 40)
    config = {"data": {"root": "shards"}, "loop": {"precision": "auto", "threads": 0}, "init_from": None}
    repetition = Repetition(tmp_path / "config.yaml", config, tmp_path / "new")
    words = training.command_of(leg, repetition, tmp_path, is_first=True)
    assert words[words.index("--resume") + 1] == "/other/step-20"
    assert "--resume" not in training.command_of(leg, repetition, tmp_path, is_first=False)


def test_what_was_left_to_auto_is_given_as_it_was_chosen(tmp_path: Path) -> None:
    leg = Leg(
        0, 10, start(0, arithmetic={"precision": "bf16", "threads": 3, "channels_last": True}), {"loop.epochs": 4}
    )
    loop = {"precision": "auto", "threads": 0, "channels_last": "auto", "epochs": 5}
    config = {
        "data": {"root": "/shards"},
        "loop": loop,
        "tracking": {"wandb_project": "mine", "trackers": ["wandb", "mlflow"]},
    }
    words = training.command_of(leg, Repetition(tmp_path / "c.yaml", config, tmp_path / "n"), tmp_path, is_first=True)
    assert {"loop.precision=bf16", "loop.threads=3", "loop.channels_last=true", "loop.epochs=4"} < set(words)
    assert {"tracking.wandb_project=null", "tracking.trackers=[]"} < set(words)
    assert not [word for word in words if word.startswith("data.root")]


def test_variables_that_change_numbers_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MKL_CBWR": "AVX2", "RANK": "3", "ACCELERATE_MIXED_PRECISION": "bf16", "HOME": "/me"}.items():
        monkeypatch.setenv(name, value)
    recorded = {"OMP_NUM_THREADS": "7", "CUDA_VISIBLE_DEVICES": "5", "TORCH_HOME": "/theirs", "ACCELERATE_KEY": "***"}
    found = environment.environment_of(start(0, variables=recorded, device="cpu:0"))
    assert found["OMP_NUM_THREADS"] == "7" and found["HOME"] == "/me" and found["ACCELERATE_USE_CPU"] == "true"
    assert not {"MKL_CBWR", "RANK", "ACCELERATE_MIXED_PRECISION", "ACCELERATE_KEY"} & found.keys()
    assert found.get("CUDA_VISIBLE_DEVICES") != "5" and found.get("TORCH_HOME") != "/theirs"
    older = environment.environment_of(start(0, device="cuda:0"))
    assert older["MKL_CBWR"] == "AVX2" and "ACCELERATE_USE_CPU" not in older
