"""The names of evaluation.metric: every metric has a direction, and mistakes are answered."""

import importlib
import re
from pathlib import Path

import pytest

from quell.configs import loader, metric_names, registry
from quell.configs.errors import ConfigError


@pytest.mark.parametrize("name", registry.names("losses/metrics"))
def test_the_direction_of_every_metric_is_what_its_docstring_says(name: str) -> None:
    text = (getattr(importlib.import_module(f"quell.losses.metrics.{name}"), name).__doc__ or "").lower()
    said = re.search(r"(larger|smaller) is better", text)
    if said is not None:
        assert metric_names.direction_of(name) == said[1]
    if metric_names.can_rank(name):
        assert metric_names.direction_of(f"pd/{name}") == metric_names.direction_of(name)


def test_a_metric_of_one_output_and_the_risk_are_names_too() -> None:
    assert metric_names.problem("pd_cross/ms_ssim") == metric_names.problem("pd/risk") == ""
    assert (metric_names.base_name("pd/psnr"), metric_names.output_of("pd/psnr")) == ("psnr", "pd")
    assert (metric_names.base_name("psnr"), metric_names.output_of("psnr")) == ("psnr", None)
    assert metric_names.direction_of("pd/risk") == "smaller"


def test_what_costs_less_is_better() -> None:
    for name, values in (("psnr", (31.0, 30.0)), ("pd/rmse", (0.1, 0.2)), ("epi", (1.1, 0.7)), ("epi", (0.9, 1.4))):
        better, worse = (metric_names.cost(name, value) for value in values)
        assert better < worse


@pytest.mark.parametrize("name", ["enl", "out/msr"])
def test_runs_that_chose_by_what_blur_improves_can_still_be_read(name: str, root: Path) -> None:
    config = loader.load(root / "configs/quickstart.yaml", [f"evaluation.metric={name}"])
    assert config.evaluation.metric == name


def test_an_unknown_metric_is_refused_with_the_closest_name(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.metric: no metric 'pnsr'; did you mean 'psnr'"):
        loader.load(root / "configs/quickstart.yaml", ["evaluation.metric=pnsr"])
