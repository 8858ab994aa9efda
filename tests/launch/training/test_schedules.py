"""Learning-rate schedules: functions of the step alone, except for `plateau`, which has a state."""

import math

import pytest

from configs.schema import ScheduleConfig
from launch.training.schedules import Plateau, factor


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
    plateau = Plateau(ScheduleConfig(name="plateau", patience=1, gamma=0.1, min_lr=5e-5), higher_is_better=True)
    factors = []
    for value in (20.0, 19.0, 18.0, 21.0, 20.0, 20.0):
        plateau.update(value)
        factors.append(plateau.factor(1e-3))
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.05])
