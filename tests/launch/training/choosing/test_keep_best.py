"""The best checkpoints of a run: kept in the order of their metric, saved where they fall, the same after a resume."""

import json
from pathlib import Path

import pytest

from quell.configs.support.json_files import read_json
from quell.launch.checkpoints import best, store
from quell.launch.checkpoints.layout import complete, folder_name, step_of
from quell.launch.training.schedules import EarlyStop
from tests.support.checkpoints import save
from tests.support.runs import read_events, read_summary
from tests.support.small_runs import TrainSmall, single_error

EVALUATED = ("evaluation.every_epochs=null", "evaluation.every_steps=2", "checkpoint.every_steps=100")


def steps(run: Path) -> list[int | None]:
    return [step_of(path) for path in complete(run / "checkpoints")]


@pytest.mark.parametrize(
    ("keep_best", "kept"), [(1, [2, 5, 6]), (2, [1, 2, 5, 6]), (3, [1, 2, 4, 5, 6]), (9, [1, 2, 3, 4, 5, 6])]
)
def test_retention_keeps_the_best_and_of_equal_ones_the_earlier(
    tmp_path: Path, keep_best: int, kept: list[int]
) -> None:
    for step, value in enumerate((30.0, 31.0, 20.0, 30.0, float("nan"), 10.0), 1):
        path = save(tmp_path, step, psnr=value)
        store.retain(path, 2, "psnr", keep_best=keep_best)
    assert [step_of(path) for path in complete(tmp_path)] == kept
    assert [entry["step"] for entry in best.ranking(tmp_path, "psnr")][:2] == ([2, 6] if keep_best == 1 else [2, 1])


def test_the_checkpoint_of_one_output_is_found(tmp_path: Path) -> None:
    for step, value in ((1, 0.2), (2, 0.1)):
        save(tmp_path, step, line=(), **{"pd/rmse": value, "pd/ssim": value})
    lowest, highest = best.find_best(tmp_path, "pd/rmse"), best.find_best(tmp_path, "pd/ssim")
    assert lowest is not None and highest is not None and (lowest["step"], highest["step"]) == (2, 1)


def test_the_best_edges_are_those_nearest_to_one(tmp_path: Path) -> None:
    for step, value in ((1, 0.7), (2, 1.1), (3, 1.6)):
        save(tmp_path, step, line=(), epi=value)
    assert [entry["step"] for entry in best.ranking(tmp_path, "epi")] == [2, 1, 3]


@pytest.mark.parametrize("key", ["data.val_split", "data.limit", "evaluation.limit"])
def test_values_of_other_images_are_no_rivals(key: str, tmp_path: Path) -> None:
    section, name = key.split(".")
    for step, value in ((1, 40.0), (2, 30.0), (3, 29.0)):
        save(tmp_path, step, line=(), psnr=value)
        meta = tmp_path / folder_name(step) / "meta.json"
        content = json.loads(meta.read_text())
        content["config"] = {section: {name: "other" if step == 1 else "same"}}
        meta.write_text(json.dumps(content))
    assert [entry["step"] for entry in best.ranking(tmp_path, "psnr")] == [2, 3]


@pytest.mark.parametrize(("metric", "sign"), [("psnr", 1), ("rmse", -1)])
def test_an_evaluation_is_among_the_best_unless_enough_are_as_good(metric: str, sign: int) -> None:
    stop = EarlyStop(None, metric, keep_best=2)
    found = []
    for value in (1.0, 1.0, 1.0, 2.0, 1.0, float("nan"), 3.0, 2.0, 2.5):
        stop.update(sign * value)
        found.append(stop.is_among_best)
    assert found == [True, True, False, True, False, False, True, False, True]


def test_an_improvement_below_min_delta_does_not_end_the_waiting_but_is_kept() -> None:
    stop = EarlyStop(3, "psnr", min_delta=0.5)
    seen = []
    for value in (1.0, 1.4, 1.5, 1.6, 1.7):
        stop.update(value)
        seen.append((stop.is_due, stop.is_among_best))
    assert seen == [(False, True), (False, True), (False, True), (False, True), (False, True)]
    stop.update(1.8)
    assert not stop.is_due, "1.6 was more than min_delta better than 1.0"
    stop.update(1.9)
    assert stop.is_due


def test_a_good_evaluation_is_saved_between_checkpoints_and_the_ranking_survives_a_resume(
    train_small: TrainSmall, tmp_path: Path
) -> None:
    options = (
        *EVALUATED,
        "checkpoint.keep_best=2",
        "checkpoint.keep_last=1",
        "evaluation.metric=pd_cross/nmse",
        "schedule.name=constant",
    )
    assert train_small(*options, "loop.max_steps=8", run_dir=tmp_path / "straight")[0] == 0
    code, output = train_small(*options, "loop.max_steps=4")
    assert code == 0 and "best pd_cross/nmse" in output
    assert train_small(*options, "loop.max_steps=8")[0] == 0
    values = {e["step"]: e["pd_cross/nmse"] for e in read_events(tmp_path / "run", "eval")}
    assert sorted(values) == [2, 4, 6, 8]
    lowest = sorted(values, key=lambda step: values[step])
    for run in (tmp_path / "run", tmp_path / "straight"):
        assert steps(run) == sorted({*lowest[:2], 8})
        assert read_summary(run)["best"] == {
            "step": lowest[0],
            "metric": "pd_cross/nmse",
            "value": pytest.approx(values[lowest[0]]),
        }
        assert store.choose(run, "best").name == f"step-{lowest[0]:08d}"


def test_early_stopping_saves_the_best_evaluation_wherever_it_falls(train_small: TrainSmall, tmp_path: Path) -> None:
    options = ("loop.patience=2", "loop.min_delta=100", "loop.max_steps=30")
    code, output = train_small(*EVALUATED, *options)
    assert code == 0 and "stopping early: 2 evaluations without a better psnr" in output
    values = {e["step"]: e["psnr"] for e in read_events(tmp_path / "run", "eval")}
    found = read_summary(tmp_path / "run")["best"]["step"]
    assert sorted(values) == [2, 4, 6] and values[found] == max(values.values()) and found in steps(tmp_path / "run")


def test_without_save_best_only_the_interval_saves(train_small: TrainSmall, tmp_path: Path) -> None:
    assert train_small(*EVALUATED, "checkpoint.keep_best=2", "checkpoint.save_best=false")[0] == 0
    assert steps(tmp_path / "run") == [4]


def test_another_metric_after_a_resume_begins_to_wait_anew(train_small: TrainSmall, tmp_path: Path) -> None:
    options = (*EVALUATED, "loop.patience=9")
    assert train_small(*options)[0] == 0
    assert train_small(*options, "evaluation.metric=rmse", "loop.max_steps=6")[0] == 0
    state = store.read_state(store.choose(tmp_path / "run"), "state.pt")["early_stop"]
    meta = read_json(store.choose(tmp_path / "run") / "meta.json")
    assert state["best"] == meta["metrics"]["rmse"] and state["waited"] == 0


def test_other_images_after_a_resume_begin_to_wait_anew(train_small: TrainSmall, tmp_path: Path) -> None:
    options = (*EVALUATED, "loop.patience=9")
    assert train_small(*options)[0] == 0
    assert train_small(*options, "evaluation.limit=1", "loop.max_steps=6")[0] == 0
    new = {event["step"]: event["psnr"] for event in read_events(tmp_path / "run", "eval") if event["step"] > 4}
    state = store.read_state(store.choose(tmp_path / "run"), "state.pt")["early_stop"]
    assert state["best"] == max(new.values())
    chosen = best.read_best(tmp_path / "run" / "checkpoints")
    assert chosen is not None and chosen["step"] in new


def test_an_output_that_the_method_lacks_is_refused_at_the_start(train_small: TrainSmall) -> None:
    for options in ((), ("--dry-run",)):
        code, output = train_small("evaluation.metric=pd_croos/psnr", options=options)
        assert code == 2 and "evaluation.metric: no output 'pd_croos'; did you mean 'pd_cross'" in single_error(output)
