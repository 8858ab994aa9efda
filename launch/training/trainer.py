"""The parts of a training run, assembled: what the loop works with."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator

from quell.configs.errors import DivergedError
from quell.configs.schema import RunConfig
from quell.configs.support.git import git_commit
from quell.configs.support.paths import ROOT
from quell.launch.checkpoints import resume, store
from quell.launch.checkpoints.capture import TrainingState
from quell.launch.data import fields, loading, splits, training_levels
from quell.launch.data.device_batches import DeviceBatches
from quell.launch.data.finishing import Finisher
from quell.launch.evaluation import chosen_metric, fitness
from quell.launch.machine import devices, memory_layout, precision
from quell.launch.machine.acceleration import uses_deepspeed
from quell.launch.machine.arithmetic import set_tf32
from quell.launch.machine.description import describe
from quell.launch.machine.rng import seed_everything
from quell.launch.runs.folder import RunFolder
from quell.launch.runs.tracker import Tracker, progress_line
from quell.launch.training import build, schedules
from quell.launch.training.checkpointer import Checkpointer
from quell.launch.training.context import RunContext
from quell.launch.training.ema import Average
from quell.launch.training.metric_log import MetricLog
from quell.launch.training.phases import Phase
from quell.launch.training.schedules import EarlyStop, Plateau
from quell.launch.training.stop_signal import StopSignal
from quell.launch.training.validator import Validator
from quell.pipelines.base import Batch, Pipeline
from quell.shards.reading.loaders import Loader
from quell.shards.reading.streaming import StreamLoader, TrainingSplit


@dataclass
class Trainer:
    """One process's parts of a run; launch/training/loop.py runs them."""

    context: RunContext
    state: TrainingState
    phases: list[Phase]
    """The same objects as `state.phases`, with all they can do."""
    average: Average | None
    log: MetricLog
    plateau: Plateau
    early_stop: EarlyStop
    validator: Validator
    checkpointer: Checkpointer
    stop: StopSignal
    shards: TrainingSplit
    loader: Loader | StreamLoader | None = None
    finisher: Finisher | None = None
    """Of the loader's batches."""
    speeds: list[dict[str, float]] = field(default_factory=list)
    """Of every logged interval (see metric_log.Interval.speed)."""

    @property
    def epoch(self) -> float:
        """Epochs done so far, as a fraction."""
        return self.context.order.epoch_at(self.state.step)

    def batches(self) -> Loader | StreamLoader:
        """The training batches from the current step on; to be used as a context manager."""
        context, config = self.context, self.context.config
        pipeline = self.state.pipeline
        recipe = loading.training_recipe(pipeline.training_needs(), config.data, self.shards, pipeline.draws)
        self.finisher = Finisher(recipe, self.shards, context.order.seed)
        self.loader = loading.training_loader(
            recipe,
            config.data,
            self.shards,
            context.order,
            start_step=self.state.step,
            steps=context.steps - self.state.step,
            pin=devices.pins_memory(context.device),
        )
        return self.loader

    def on_device(self, batches: Loader | StreamLoader) -> Iterator[list[Batch]]:
        """The loader's batches on the device, each copied there before its step begins where the device allows that."""
        assert self.finisher is not None, "batches() comes first"
        return iter(DeviceBatches(batches, self.context.device, self.finisher.seeds))

    def finish(self, batch: Batch) -> Batch:
        """A batch of the loader, on the device or not, as the method reads it there."""
        assert self.finisher is not None, "batches() comes first"
        return self.finisher(loading.to_device(batch | self.finisher.seeds(batch), self.context.device))

    @property
    def waited_s(self) -> float:
        """Seconds the training thread has waited for data so far."""
        return self.loader.wait_s if self.loader is not None else 0.0

    def set_learning_rates(self) -> None:
        """Give every phase the learning rate of the coming step."""
        context = self.context
        for phase in self.phases:
            factor = schedules.factor(
                context.config.schedule,
                step=self.state.step,
                steps=context.steps,
                epoch=self.epoch,
                epochs=context.epochs,
                lr=phase.base_lr,
            )
            phase.set_rate(self.plateau.factor(phase.base_lr) * factor)

    def log_interval(self) -> None:
        """Log the means since the last log line; DivergedError when too many steps in a row were skipped."""
        context, step = self.context, self.state.step
        interval = self.log.end_interval(step=step, waited_s=self.waited_s)
        speed = interval.speed(context.config.data.batch_size)
        self.speeds.append(speed)
        rates = {f"lr_{phase.name}": phase.optimizer.param_groups[0]["lr"] for phase in self.phases}
        values = {**interval.means, **rates, "epoch": self.epoch, **speed}
        context.tracker.event("train", step, values)
        losses = {name: value for name, value in interval.means.items() if name.startswith("loss_")}
        context.tracker.info(
            progress_line(
                step,
                context.steps,
                losses="  ".join(f"{name.removeprefix('loss_')} {value:.4g}" for name, value in losses.items()),
                rate=speed["images_per_s"],
                wait=speed["data_wait"],
                seconds_left=(context.steps - step) * interval.seconds / interval.steps,
            )
        )
        if interval.skipped:
            context.tracker.warning(
                "skipped steps",
                f"{interval.skipped} of the {interval.steps} steps before step {step} had a gradient that was not "
                "finite and were skipped",
                step,
            )
        self._stop_if_diverged()
        self.log.start(step=step, waited_s=self.waited_s)

    def end_epoch(self) -> None:
        """Pass the epoch's means to the pipeline, and log what it changes because of them."""
        for message in self.state.pipeline.on_epoch_end(self.log.end_epoch()):
            self.context.tracker.info(message)
            self.context.tracker.event("note", self.state.step, {"message": message})

    def _stop_if_diverged(self) -> None:
        """Gradients are averaged over ranks: every rank counts the same skips and stops at the same step."""
        worst, tolerated = self.log.worst_skip_streak, self.context.config.loop.max_skips
        scaler = self.state.scaler
        if worst > tolerated and not (scaler.is_enabled() and scaler.get_scale() > 1):
            raise DivergedError(
                f"the gradient was not finite in {worst} steps in a row (loop.max_skips is {tolerated}), last at step "
                f"{self.state.step}: lower optimizer.lr, set loop.clip_norm, or use loop.precision no"
            )


def assemble(
    config: RunConfig, accelerator: Accelerator, folder: RunFolder, tracker: Tracker, *, checkpoint: Path | None = None
) -> Trainer:
    """Build every part of a run from its configuration, with freshly initialised weights. Collective.

    What a method calibrates is measured unless the run continues from a `checkpoint`: then it comes with that, and so
    does the precision.

    Raises:
        ConfigError: Settings that the method, the device or the launch target does not support.
        DataError: Shards that are missing, damaged, or lack what the method needs.
        MachineError: The device or the process group computes wrong results.
    """
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    seed_everything(config.seed)
    shards = splits.open_training(config.data)
    for note in shards.notes:
        tracker.info(f"note: {note}")
    pipeline = build.make_pipeline(config, shards)
    chosen = _set_arithmetic(config, pipeline, accelerator, tracker, checkpoint)
    needs = type(pipeline).needs(config.pipeline)
    if checkpoint is None:
        _calibrate(pipeline, config, shards, folder, tracker)
    build.synchronise_batch_norm(pipeline, device, world, config.loop, tracker)
    memory_layout.place(pipeline, device, config.loop)
    splits.refuse_unfit_validation(needs, config.data, shards)
    validation = splits.open_split(config.data, config.data.val_split)
    for note in validation.notes:
        tracker.info(f"note: {note}")
    metrics = chosen_metric.measured(config.evaluation, pipeline.outputs)
    fitness.refuse_small_images(pipeline.outputs, metrics, needs, config.data, validation)
    order = build.make_order(config, splits.size(shards, config.data.limit), rank, world)
    steps, epochs = build.length(config, order)
    context = RunContext(
        config=config,
        accelerator=accelerator,
        folder=folder,
        tracker=tracker,
        order=order,
        images=fields.image_kinds(needs, config.data, shards),
        training_data=training_levels.measure(needs, config.data, shards),
        steps=steps,
        epochs=epochs,
        precision=chosen,
        commit=git_commit(ROOT) if rank == 0 else "",
    )
    _warn_of_slow_precision(context)
    scaler = torch.amp.GradScaler(device.type, enabled=context.precision == "fp16")
    phases = build.make_phases(accelerator, pipeline, config, chosen)
    with phases[0].gathered_parameters():
        average = Average(pipeline, config.loop.ema_decay) if config.loop.ema_decay else None
    plateau = Plateau(config.schedule, metric := config.evaluation.metric)
    early_stop = EarlyStop(config.loop.patience, metric, config.loop.min_delta, config.checkpoint.keep_best)
    log = MetricLog(device, world=world)
    state = TrainingState(pipeline, phases, scaler, plateau, early_stop, average, log)
    validator = Validator(context, state, plateau, early_stop, average, shards, needs)
    checkpointer = Checkpointer(context, state, validator, data=shards.fingerprint)
    return Trainer(
        context, state, phases, average, log, plateau, early_stop, validator, checkpointer, StopSignal(), shards
    )


def _set_arithmetic(
    config: RunConfig, pipeline: Pipeline, accelerator: Accelerator, tracker: Tracker, checkpoint: Path | None
) -> str:
    """Choose the run's precision, set TF32 accordingly, and say what the run computes with. Collective."""
    device, world, loop = accelerator.device, accelerator.num_processes, config.loop
    began_with = resume.precision_of(checkpoint) if checkpoint is not None else None
    chosen = precision.choose_together(
        loop,
        device,
        world,
        complex_numbers=config.data.representation == "complex",
        scales_loss=not uses_deepspeed(),
        began_with=began_with,
    )
    channels_last = memory_layout.takes_channels_last(pipeline, device, loop) and not uses_deepspeed()
    tf32 = set_tf32(loop, chosen.name)
    tracker.info(describe(loop, device, world, chosen, tf32=tf32, channels_last=channels_last))
    if checkpoint is not None and began_with is not None and chosen.name != began_with:
        tracker.warning(
            "other precision",
            f"the run began with precision {began_with} and continues with {chosen.name} on {devices.describe(device)}",
            int(store.read_meta(checkpoint)["step"]),
        )
    return chosen.name


def _calibrate(
    pipeline: Pipeline, config: RunConfig, shards: TrainingSplit, folder: RunFolder, tracker: Tracker
) -> None:
    """Measure what the method asks for, warn of what does not fit it, and save the noise that was found."""
    loading.calibrate(pipeline, config, shards)
    for warning in pipeline.warnings():
        tracker.warning("noise", warning, 0)
    if tracker.active and (noise := pipeline.noise_model()) is not None:
        noise.save(folder.noise)


def _warn_of_slow_precision(context: RunContext) -> None:
    if context.precision == "bf16" and context.device.type == "cpu" and not precision.multiplies_bf16():
        context.tracker.warning(
            "slow precision",
            "this processor emulates bfloat16 multiplication, many times slower than float32: set loop.precision to "
            "auto or no",
            0,
        )
