"""Schedules: functions of the step alone, except for `plateau` and early stopping, which follow the evaluations."""

import math
from pathlib import Path

import numpy as np
import pytest

from quell.configs.schema import ScheduleConfig
from quell.configs.support.json_files import read_json
from quell.launch.training.schedules import EarlyStop, Plateau, factor
from quell.shards.building.writer import write_split
from tests.support.runs import read_events, read_summary
from tests.support.small_runs import TrainSmall

STILL = ("optimizer.lr=1e-30", "loop.patience=2", "evaluation.every_epochs=null", "evaluation.every_steps=3")
"""Nothing is learned at this rate: the first evaluation stays the best, and two more end the run."""


def factor_at(config: ScheduleConfig, step: int, *, steps: int = 100, epochs: float = 10.0) -> float:
    return factor(config, step=step, steps=steps, epoch=step * epochs / steps, epochs=epochs, lr=1e-3)


def test_cosine_follows_the_formula_and_ends_at_min_lr() -> None:
    config = ScheduleConfig(name="cosine", min_lr=1e-4)
    for step in (0, 25, 50, 99, 100):
        assert factor_at(config, step) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * step / 100)) / 2)


def test_a_schedule_per_epoch_is_constant_within_an_epoch() -> None:
    config = ScheduleConfig(name="cosine", per="epoch")
    assert factor_at(config, 10) == factor_at(config, 19) != factor_at(config, 20)


def test_a_cosine_shorter_than_the_run_stays_at_its_end() -> None:
    config = ScheduleConfig(name="cosine", length_epochs=5)
    assert factor_at(config, 50) == pytest.approx(0) == factor_at(config, 90)


def test_step_and_linear_schedules_follow_their_formulas() -> None:
    assert [factor_at(ScheduleConfig(name="step", step_epochs=3, gamma=0.5), s) for s in (0, 29, 30, 60)] == [
        1,
        1,
        0.5,
        0.25,
    ]
    linear = ScheduleConfig(name="linear", hold_epochs=5, decay_epochs=5)
    assert [factor_at(linear, s) for s in (0, 50, 75, 100)] == pytest.approx([1, 1, 0.5, 0])


def test_warmup_rises_to_the_full_rate() -> None:
    config = ScheduleConfig(name="constant", warmup_steps=4)
    assert [factor_at(config, step) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_plateau_waits_for_its_patience_and_never_falls_below_min_lr() -> None:
    plateau = Plateau(ScheduleConfig(name="plateau", patience=1, gamma=0.1, min_lr=5e-5), metric="psnr")
    factors = []
    for value in (20.0, 19.0, 18.0, 21.0, 20.0, 20.0):
        plateau.update(value)
        factors.append(plateau.factor(1e-3))
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.05])


@pytest.mark.parametrize(
    ("metric", "values"),
    [("psnr", [1.0, 2.0, 1.5, 2.0]), ("rmse", [2.0, 1.0, 1.5, 1.0]), ("epi", [1.4, 1.1, 0.7, 1.3])],
)
def test_it_waits_for_a_better_value_and_equal_is_not_better(metric: str, values: list[float]) -> None:
    stop = EarlyStop(2, metric)
    for value in values[:3]:
        stop.update(value)
        assert not stop.is_due
    stop.update(values[3])
    assert stop.is_due


def test_without_patience_it_never_stops() -> None:
    stop = EarlyStop(None, "psnr")
    for value in (3.0, 2.0, 1.0):
        stop.update(value)
    assert not stop.is_due


def test_a_run_stops_early_and_is_finished(train_small: TrainSmall, tmp_path: Path) -> None:
    code, output = train_small(*STILL, "loop.max_steps=30", "loop.ema_decay=0", "checkpoint.every_steps=100")
    assert code == 0 and "stopping early: 2 evaluations without a better psnr" in output
    summary = read_summary(tmp_path / "run")
    assert summary["status"] == "finished" and summary["step"] == 9
    steps = [event["step"] for event in read_events(tmp_path / "run", "eval")]
    assert steps == [3, 6, 9]
    code, output = train_small(*STILL, "loop.max_steps=30", "loop.ema_decay=0", "checkpoint.every_steps=100")
    assert code == 0 and read_summary(tmp_path / "run")["step"] == 9, "a finished run is not trained further"


def test_patience_is_counted_on_after_a_resume(train_small: TrainSmall, tmp_path: Path) -> None:
    arguments = (*STILL, "loop.ema_decay=0", "checkpoint.every_steps=1")
    assert train_small(*arguments, "loop.max_steps=6")[0] == 0
    assert train_small(*arguments, "loop.max_steps=30")[0] == 0
    assert read_summary(tmp_path / "run")["step"] == 9


def test_risk_that_cannot_be_estimated_is_named(train_small: TrainSmall) -> None:
    code, output = train_small("evaluation.metric=risk", "loop.max_steps=2")  # the images have 24 px
    assert code == 0 and "risk could not be computed: the noise of the validation images could not be" in output


def test_risk_chooses_the_best_checkpoint_without_clean_images(train_small: TrainSmall, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2)):
        samples = []
        for i in range(count):
            noise = 0.1 * random.standard_normal((2, 72, 80, 2)).view(complex)[..., 0]
            arrays = {f"{name}.npy": (0.5 + noise[n]).astype(np.complex64) for n, name in enumerate(("pd", "pdfs"))}
            samples.append({"__key__": f"{split}{i}", **arrays})
        write_split(tmp_path / "noisy" / split, samples, name="noisy", meta={"data_range": 1.0})
    code, _ = train_small(
        f"data.root={tmp_path / 'noisy'}",
        "evaluation.metric=risk",
        "evaluation.every_epochs=null",
        "evaluation.every_steps=2",
        "loop.max_steps=6",
    )
    assert code == 0
    risks = {event["step"]: event["risk"] for event in read_events(tmp_path / "run", "eval")}
    best = read_json(tmp_path / "run" / "checkpoints" / "best.json")
    assert best["metric"] == "risk" and best["value"] == min(risks.values())
