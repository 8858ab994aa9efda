"""The work of `quell average`: average, compare with the best checkpoint on the validation split, write, say so."""

import argparse
from functools import partial
from pathlib import Path

from accelerate import Accelerator

from quell.configs import metric_names
from quell.configs.schema import RunConfig
from quell.configs.support.paths import resolve
from quell.launch.averaging import batch_norm, weights
from quell.launch.checkpoints import best, resume, store
from quell.launch.data import loading, splits
from quell.launch.differences.of_samples import difference_in_words
from quell.launch.evaluation import chosen_metric, evaluator
from quell.launch.evaluation.blind_checks import BlindChecks
from quell.launch.evaluation.evaluator import Rows
from quell.launch.evaluation.measured_data import add_groups
from quell.launch.evaluation.report import markdown_table
from quell.launch.inference import trained_model
from quell.launch.inference.trained_model import TrainedModel
from quell.launch.machine import acceleration, precision
from quell.launch.machine.arithmetic import set_tf32
from quell.launch.runs.folder import RunFolder


def run(options: argparse.Namespace) -> int:
    """Average, compare and write; the exit code."""
    folder = RunFolder(resolve(options.run))
    config = folder.config()
    chosen = weights.choose(folder.path, config, best_count=options.best, last_count=options.last)
    accelerator = acceleration.make_accelerator(config.loop)
    try:
        measure = partial(_measure, config, accelerator, options.limit)
        best_path = _best(folder.path, config, chosen)
        before = trained_model.load(best_path, device=accelerator.device)
        rows = {"best": measure(before)}
        after = trained_model.load(chosen[-1], device=accelerator.device, losses=True)
        mean = after.pipeline.migrate_state(weights.mean_weights(chosen))
        after.pipeline.load_checkpoint_state(mean)
        shards = splits.open_training(config.data)
        step = int(store.read_meta(chosen[-1])["step"])
        layers = batch_norm.recompute(
            after.pipeline, config, shards, batches=options.batches, device=accelerator.device, step=step
        )
        rows["average"] = measure(after)
        means = evaluator.means(rows["average"])
        metrics = {**evaluator.headline(after.pipeline, means), **means}
        state = {name: value.detach().cpu() for name, value in after.pipeline.checkpoint_state().items()}
        written = weights.write(folder.path, chosen, state, metrics)
    finally:
        acceleration.close(accelerator)
    print(f"average of {', '.join(path.name for path in chosen)}: {written}")
    if layers:
        print(
            f"statistics of {layers} layers of batch normalisation computed anew on {options.batches} training batches"
        )
    print(f"\n{_table(rows, after, best_path)}\n{_difference(rows, after, config.evaluation.metric)}")
    return 0


def _best(run_dir: Path, config: RunConfig, chosen: list[Path]) -> Path:
    """What the average is compared with: the best checkpoint; the last one where none has a value."""
    if best.find_best(run_dir / "checkpoints", config.evaluation.metric) is None:
        return chosen[-1]
    return store.choose(run_dir, "best")


def _measure(config: RunConfig, accelerator: Accelerator, limit: int | None, model: TrainedModel) -> Rows:
    """Evaluate the validation split, as training does."""
    shards = splits.open_split(config.data, config.data.val_split)
    needs = type(model.pipeline).needs(config.pipeline)
    chosen = precision.choose_together(
        config.loop,
        accelerator.device,
        1,
        complex_numbers=config.data.representation == "complex",
        began_with=resume.precision_of(model.checkpoint),
    )
    set_tf32(config.loop, chosen.name)
    by_risk = metric_names.base_name(config.evaluation.metric) == metric_names.RISK
    rows = evaluator.evaluate_split(
        model.pipeline,
        shards,
        loading.evaluation_recipe(needs, config.data, shards),
        count=splits.size(shards, limit or config.evaluation.limit or config.data.limit),
        batch_size=config.data.eval_batch_size,
        data_range=splits.data_range(shards),
        rank=0,
        world=1,
        device=accelerator.device,
        autocast=precision.autocast(accelerator.device, chosen.name),
        metrics=chosen_metric.measured(config.evaluation, model.pipeline.outputs),
        noise=BlindChecks.of_split(model.pipeline, shards, needs, config.data).models() if by_risk else None,
    )
    add_groups(rows, shards)
    return rows


def _table(rows: dict[str, Rows], model: TrainedModel, best_path: Path) -> str:
    """Means over the validation images, of the primary outputs."""
    table: list[dict[str, str | None]] = []
    for name, own in rows.items():
        values = evaluator.headline(model.pipeline, evaluator.means(own))
        known = [*evaluator.DEFAULT_METRICS, metric_names.base_name(model.config.evaluation.metric)]
        numbers = {metric: f"{values[metric]:.4g}" for metric in dict.fromkeys(known) if metric in values}
        label = f"{name} ({best_path.name})" if name == "best" else name
        table.append({"weights": label, **numbers})
    return markdown_table(table)


def _difference(rows: dict[str, Rows], model: TrainedModel, metric: str) -> str:
    """How the average compares with the best image by image, in the metric that the best is chosen by."""
    outputs = [metric_names.output_of(metric)] if metric_names.output_of(metric) else model.pipeline.outputs
    base = metric_names.base_name(metric)
    names = [
        str(name) for name in outputs if metric_names.output_of(metric) or model.pipeline.outputs[str(name)].primary
    ]
    samples = {
        after.key: [
            (after.values[value], before.values[value])
            for value in (f"{name}/{base}" for name in names)
            if value in before.values and value in after.values
        ]
        for before, after in zip(rows["best"], rows["average"], strict=True)
    }
    groups = {row.key: row.group for row in rows["average"] if row.group is not None}
    words = difference_in_words(base, samples, groups)
    if not words:
        return f"{metric} cannot be measured on two or more validation images, so the two cannot be compared."
    better = {"larger": "higher is better", "smaller": "lower is better", "nearer to 1": "best near 1"}
    of_two = f"{metric} of the average minus that of the best"
    return f"{of_two} ({better[metric_names.direction_of(metric)]}): {words}."
