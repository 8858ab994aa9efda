"""The metric that checkpoints are chosen by is measured, and refused where nothing can be chosen by it."""

import pytest

from quell.configs.errors import ConfigError
from quell.configs.schema import EvaluationConfig
from quell.launch.evaluation import chosen_metric
from quell.pipelines.base import Output

OUTPUTS = {"pd": Output("pd", "pd_clean")}


def test_a_further_metric_is_measured_too() -> None:
    assert "epi" in chosen_metric.measured(EvaluationConfig(metric="pd/epi"), OUTPUTS)


@pytest.mark.parametrize("name", ["enl", "pd/msr"])
def test_nothing_is_chosen_by_what_blur_improves(name: str) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.metric: '(enl|msr)' grows with blur"):
        chosen_metric.measured(EvaluationConfig(metric=name), OUTPUTS)
