"""Evaluating the validation split during training: with which weights, on which images, and what is logged."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from quell.configs import metric_names
from quell.configs.fields import Needs
from quell.launch.checkpoints.capture import TrainingState
from quell.launch.data import loading, splits
from quell.launch.evaluation import blind_checks, chosen_metric, evaluator, images
from quell.launch.evaluation.blind_checks import BlindChecks
from quell.launch.evaluation.measuring.host_work import HostImages
from quell.launch.machine.precision import autocast
from quell.launch.training import build
from quell.launch.training.context import RunContext
from quell.launch.training.ema import Average
from quell.launch.training.schedules import EarlyStop, Plateau
from quell.pipelines.base import Pipeline
from quell.shards.reading.shard_set import ShardSet
from quell.shards.reading.split import Split


class Validator:
    """Evaluates the validation split, at most once per step; every rank gets all means."""

    def __init__(
        self,
        context: RunContext,
        state: TrainingState,
        plateau: Plateau,
        early_stop: EarlyStop,
        average: Average | None,
        shards: Split,
        needs: Needs,
    ) -> None:
        self.metrics: dict[str, float] = {}
        """Means of the latest evaluation: of the primary outputs by plain name, and of each output as `output/name`."""
        self._context, self._state, self._plateau, self._average = context, state, plateau, average
        self._early_stop = early_stop
        self._shards, self._needs = shards, needs
        self._blind_checks: BlindChecks | None = None
        self._evaluated_step = -1
        self._earlier: evaluator.EarlierValues = {}

    @property
    def current_metrics(self) -> dict[str, float]:
        """The metrics of the current weights; empty unless they have been evaluated."""
        return dict(self.metrics) if self._evaluated_step == self._state.step else {}

    def continue_from(self, metrics: dict[str, float]) -> None:
        """Take the metrics of the current weights from the checkpoint that they come from, if it has any."""
        if metrics:
            self.metrics, self._evaluated_step = dict(metrics), self._state.step

    def evaluate(self) -> None:
        """Evaluate the current weights (their moving average, where one is kept), unless that is done already.

        Collective.

        Raises:
            DataError: An image cannot be read, on any rank: all ranks raise it.
        """
        if self._evaluated_step == self._state.step:
            return
        self._broadcast_buffers()
        with self._evaluation_weights() as pipeline:
            rows, data_range = self._rows(pipeline)
        means = evaluator.means(rows)
        self.metrics = {**evaluator.headline(self._state.pipeline, means), **means}
        self._evaluated_step = self._state.step
        self._log(data_range)
        self._update_plateau()

    @contextmanager
    def _evaluation_weights(self) -> Iterator[Pipeline]:
        """The pipeline that restores the validation images, with averaged weights where they are kept.

        Where no process holds all weights (ZeRO-3) it is a second pipeline: ranks restore different numbers of images,
        and gathering weights while they do would deadlock.
        """
        if self._state.shards_parameters:
            with torch.random.fork_rng(devices=[]), self._state.gathered_parameters():
                copy = build.make_pipeline(self._context.config, self._shards).to(self._context.device)
                copy.draws = self._state.pipeline.draws
                own = self._state.pipeline.checkpoint_state()
                copy.load_checkpoint_state(own if self._average is None else self._average.state)
            copy.on_step_start(self._state.step, self._context.order.epoch_at(self._state.step))
            yield copy
        elif self._average is not None:
            with self._average.swapped_in():
                yield self._state.pipeline
        else:
            yield self._state.pipeline

    def _rows(self, pipeline: Pipeline) -> tuple[evaluator.Rows, float]:
        """The rows of all ranks in the order of the split, and the data range they were computed with."""
        context, config = self._context, self._context.config
        shards = splits.open_split(config.data, config.data.val_split)
        data_range = splits.data_range(shards)
        checks = self._checks(shards)
        by_risk = _is_by_risk(config.evaluation.metric)
        drawn: list[str] = []

        def draw(shown: HostImages, i: int) -> None:
            if context.tracker.draws and len(drawn) < config.evaluation.images:
                drawn.append(shown.batch["key"][i])
                for name, strip in images.strips(pipeline, shown.batch, shown.restored, i, data_range).items():
                    context.tracker.images(f"{name}/{drawn[-1]}", strip, self._state.step)

        rows = evaluator.evaluate_split(
            pipeline,
            shards,
            loading.evaluation_recipe(self._needs, config.data, shards),
            count=splits.size(shards, config.evaluation.limit or config.data.limit),
            batch_size=config.data.eval_batch_size,
            data_range=data_range,
            rank=context.rank,
            world=context.world,
            device=context.device,
            autocast=autocast(context.device, context.precision),
            metrics=chosen_metric.measured(config.evaluation, pipeline.outputs),
            verify=config.data.verify,
            on_batch=checks if config.evaluation.blind_checks else None,
            on_image=draw,
            noise=checks.models() if by_risk else None,
            earlier=self._earlier,
        )
        return rows, data_range

    def _checks(self, shards: ShardSet) -> BlindChecks:
        """The checks against the noise of the validation images, which is estimated once."""
        if self._blind_checks is None:
            config, pipeline = self._context.config, self._state.pipeline
            if config.evaluation.blind_checks or _is_by_risk(config.evaluation.metric):
                self._blind_checks = BlindChecks.of_split(pipeline, shards, self._needs, config.data)
            else:
                self._blind_checks = BlindChecks.none(pipeline)
        return self._blind_checks

    def _log(self, data_range: float) -> None:
        tracker, step, metrics = self._context.tracker, self._state.step, self.metrics
        epoch = self._context.order.epoch_at(step)
        tracker.event("eval", step, {"epoch": epoch, "data_range": data_range, **metrics})
        shown = {name: value for name, value in metrics.items() if "/" not in name and not name.startswith("residual_")}
        numbers = "  ".join(f"{name} {value:.3f}" for name, value in shown.items())
        tracker.info(f"validation at step {step}:  {numbers}")
        for finding in (*self._state.pipeline.findings(metrics), *blind_checks.findings(metrics)):
            if not finding.ok:
                tracker.warning(finding.name, finding.message, step)
        if "psnr" in metrics and metrics["psnr"] < metrics.get("noisy_psnr", float("-inf")):
            tracker.warning(
                "worse than noisy",
                f"validation PSNR {metrics['psnr']:.2f} dB is below the noisy images' {metrics['noisy_psnr']:.2f} dB",
                step,
            )

    def _update_plateau(self) -> None:
        metric = self._context.config.evaluation.metric
        if metric in self.metrics:
            self._plateau.update(self.metrics[metric])
            self._early_stop.update(self.metrics[metric])
        elif self._plateau.config.name == "plateau" or self._early_stop.patience is not None or _is_by_risk(metric):
            self._context.tracker.warning(
                "no metric",
                f"evaluation.metric {metric} could not be computed: "
                + (
                    "the noise of the validation images could not be estimated"
                    if _is_by_risk(metric)
                    else "the data have neither clean nor second noisy images (evaluation.metric risk needs none)"
                )
                + "; the best checkpoint is the last one",
                self._state.step,
            )

    def _broadcast_buffers(self) -> None:
        """Every rank evaluates with rank 0's running statistics, which are the ones that are saved."""
        if self._context.world > 1:
            for _, buffer in self._state.pipeline.named_buffers():
                torch.distributed.broadcast(buffer, src=0)


def _is_by_risk(metric: str) -> bool:
    return metric_names.base_name(metric) == metric_names.RISK
