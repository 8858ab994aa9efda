"""What is measured during training: the usual metrics, and the one that the best checkpoint is chosen by."""

from collections.abc import Mapping

from quell.configs import metric_names
from quell.configs.errors import ConfigError
from quell.configs.schema import EvaluationConfig
from quell.configs.support.suggestions import did_you_mean
from quell.launch.evaluation.evaluator import DEFAULT_METRICS
from quell.launch.evaluation.measuring import metrics
from quell.launch.evaluation.measuring.metrics import Metric
from quell.pipelines.base import Output


def measured(evaluation: EvaluationConfig, outputs: Mapping[str, Output]) -> dict[str, Metric]:
    """The metrics of an evaluation during training, by name.

    Raises:
        ConfigError: evaluation.metric names an output that the method does not have, or a metric that blur improves.
    """
    if not metric_names.can_rank(evaluation.metric):
        raise ConfigError(
            f"evaluation.metric: '{metric_names.base_name(evaluation.metric)}' grows with blur, so no checkpoint can "
            "be chosen by it: choose psnr, ssim or another metric"
        )
    _refuse_unknown_output(evaluation, outputs)
    name = metric_names.base_name(evaluation.metric)
    if name == metric_names.RISK or name in DEFAULT_METRICS:
        return DEFAULT_METRICS
    return DEFAULT_METRICS | metrics.find([name])


def _refuse_unknown_output(evaluation: EvaluationConfig, outputs: Mapping[str, Output]) -> None:
    output = metric_names.output_of(evaluation.metric)
    if output is None:
        return
    # the risk is estimated of primary outputs only
    by_risk = metric_names.base_name(evaluation.metric) == metric_names.RISK
    known = [name for name, kind in outputs.items() if kind.primary or not by_risk]
    if output not in known:
        raise ConfigError(
            f"evaluation.metric: no output '{output}'; {did_you_mean(output, known)}; without one it is the mean over "
            "the primary outputs"
        )
