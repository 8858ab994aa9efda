"""Everything one process of a run holds, assembled from the configuration; saving and measuring it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from configs.schema import RunConfig
from configs.support import paths
from configs.support.git import git_commit
from launch.checkpoints import store
from launch.checkpoints.async_writer import Saver, snapshot, wait_for
from launch.data import fields, loading, splits
from launch.evaluation import evaluator, images
from launch.machine import acceleration, memory_layout, precision
from launch.machine.rng import random_state, seed_everything
from launch.runs.folder import RunFolder
from launch.runs.tracker import Tracker
from launch.training.build import length, make_phases, make_pipeline, make_plan
from launch.training.ema import Average
from launch.training.metric_log import Meter
from launch.training.schedules import Plateau
from launch.training.stop_signal import Stop
from pipelines.base import Batch, Pipeline
from shards.reading.loaders import Loader
from shards.reading.streaming import StreamLoader

FREE_TO_CHANGE = (
    "name",
    "tracking",
    "profile",
    "checkpoint",
    "evaluation",
    "init_from",
    "loop.epochs",
    "loop.max_steps",
    "loop.threads",
    "loop.accumulate",
    "loop.channels_last",
    "loop.max_skips",
    "data.prefetch",
    "data.verify",
    "data.eval_batch_size",
    "data.root",
    "data.cache",
    "data.val_split",
    "data.test_split",
)
"""Settings a resumed run may differ in; everything else decides what is learned."""


class Session:
    """One process's share of a run: pipeline, phases, readers, counters."""

    def __init__(self, config: RunConfig, accelerator: Accelerator, folder: RunFolder, tracker: Tracker) -> None:
        self.config, self.accelerator, self.folder, self.tracker = config, accelerator, folder, tracker
        self.device, self.world, self.rank = accelerator.device, accelerator.num_processes, accelerator.process_index
        seed_everything(config.seed)
        self.shards = splits.open_training(config.data)
        for note in self.shards.notes:
            tracker.say(f"note: {note}")
        self.pipeline = make_pipeline(config, self.shards)
        loading.calibrate(self.pipeline, config, self.shards)
        memory_layout.place(self.pipeline, self.device, config.loop)
        self.needs = type(self.pipeline).needs(config.pipeline)
        splits.refuse_unfit_validation(self.needs, config.data, self.shards)
        self.images = fields.image_kinds(self.needs, config.data, self.shards)
        self.plan = make_plan(config, splits.size(self.shards, config.data.limit), self.rank, self.world)
        self.steps, self.epochs = length(config, self.plan)
        self.step = 0
        self.precision = (
            "no"
            if config.data.representation == "complex"
            else precision.precision(config.loop, on_cpu=self.device.type == "cpu")
        )
        if self.precision == "bf16" and self.device.type == "cpu" and not precision.multiplies_bf16():
            tracker.warn(
                "slow precision",
                "this processor has no bfloat16 multiplication and emulates it, many times "
                "slower than float32: set loop.precision to auto or no",
                0,
            )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.phases = make_phases(accelerator, self.pipeline, config)
        with self.whole():
            self.average = Average(self.pipeline, config.loop.ema_decay) if config.loop.ema_decay else None
        self.higher_is_better = config.evaluation.metric not in evaluator.LOWER_IS_BETTER
        self.plateau = Plateau(config.schedule, self.higher_is_better)
        self.loader: Loader | StreamLoader | None = None
        self.stop, self.saver = Stop(), Saver()
        self.metrics: dict[str, float] = {}
        self.commit = git_commit(paths.ROOT) if self.rank == 0 else ""
        self.meter = Meter(self)
        self._measured_at = -1

    def batches(self) -> Loader | StreamLoader:
        """The training batches from the session's step on; to be used as a context."""
        recipe = loading.training_recipe(self.needs, self.config.data, self.shards)
        self.loader = loading.training_loader(
            recipe,
            self.config.data,
            self.shards,
            self.plan,
            start_step=self.step,
            steps=self.steps - self.step,
            pin=self.device.type == "cuda",
        )
        return self.loader

    def waited_s(self) -> float:
        """Seconds the training thread has waited for data so far."""
        return self.loader.wait_s if self.loader is not None else 0.0

    @property
    def gathers(self) -> bool:
        """Whether no process holds all weights by itself (ZeRO-3)."""
        return getattr(self.phases[0], "stage", 0) == 3

    def whole(self, *, write: bool = False) -> AbstractContextManager[None]:
        """Inside the block this process holds all weights; with `write` changes to them are kept. Collective."""
        return self.phases[0].whole(write=write)

    def to_device(self, batch: Batch) -> Batch:
        """The batch with its tensors on this process's device."""
        return loading.to_device(batch, self.device)

    def evaluate(self) -> dict[str, float]:
        """Measure the validation split with the averaged weights where they are kept; every rank gets all means."""
        if self._measured_at == self.step:
            return self.metrics
        self._broadcast_buffers()
        with self.meter.elsewhere(), self._measured() as pipeline:
            found, range_ = self._rows(pipeline)
        averages = evaluator.means(found)
        self.metrics = {**evaluator.headline(self.pipeline, averages), **averages}
        self._measured_at = self.step
        self.tracker.event(
            "eval",
            self.step,
            {"epoch": self.plan.epoch_at(self.step), "data_range": range_, **self.metrics},
            scalars="val",
        )
        self._say()
        metric = self.config.evaluation.metric
        if metric in self.metrics:
            self.plateau.update(self.metrics[metric])
        elif self.plateau.config.name == "plateau":
            self.tracker.warn(
                "no metric",
                f"evaluation.metric {metric} was not measured: this data has no clean or "
                "second noisy images; the best checkpoint is the last one",
                self.step,
            )
        return self.metrics

    def save(self, *, wait: bool = False) -> None:
        """Take a checkpoint that all ranks agree on, keep the best one named, delete old ones.

        Training goes on from the snapshot while a thread writes it (checkpoint.asynchronous); with `wait` it is on disk
        when this returns. The next save waits for the last one, and raises what went wrong with it.
        """
        with self.meter.elsewhere():
            self.saver.settle()
            hidden = [str(store.begin(self.folder.checkpoints, self.step))] if self.rank == 0 else [""]
            if self.world > 1:
                broadcast_object_list(hidden)
            self.tracker.flush()
            wait = wait or not self.config.checkpoint.asynchronous
            write = self._writer(self.folder.checkpoints / hidden[0], at_once=wait)
            self.saver.run(write, partial(self._saved, self.step), wait=wait)
            if wait:
                self.accelerator.wait_for_everyone()

    def _writer(self, path: Path, *, at_once: bool) -> Callable[[], None]:
        """What writes this moment's checkpoint to `path`, called at once or while training changes everything."""
        keep = (lambda value: value) if at_once else snapshot
        own = keep({"random": random_state(), "pipeline": self.pipeline.rank_state(), "meter": self.meter.state()})
        state = keep(self._state())
        measured = dict(self.metrics) if self._measured_at == self.step else {}
        meta = {
            "step": self.step,
            "epoch": self.plan.epoch_at(self.step),
            "world": self.world,
            "commit": self.commit,
            "samples": self.plan.size,
            "config": self.config.model_dump(mode="json"),
            "metrics": measured,
            "images": {name: asdict(kind) for name, kind in self.images.items()},
        }
        with self.whole():
            first = self.rank == 0
            weights = (
                snapshot(self.pipeline.checkpoint_state())
                if first and self.gathers
                else keep(self.pipeline.checkpoint_state())
            )
            averaged = keep(self.average.state) if self.average is not None else None

        def write() -> None:
            store.write_state(path, f"rank-{self.rank}.pt", own)
            if not first:
                return
            store.write_weights(path, weights, averaged)
            store.write_state(path, "state.pt", state)
            wait_for([path / f"rank-{rank}.pt" for rank in range(self.world)], acceleration.TIMEOUT.total_seconds())
            store.publish(path, meta)
            metric = self.config.evaluation.metric
            if metric in measured:
                store.note_best(
                    self.folder.checkpoints,
                    meta["step"],
                    metric,
                    measured[metric],
                    higher_is_better=self.higher_is_better,
                )
            store.retain(self.folder.checkpoints, self.config.checkpoint.keep_last)

        return write

    def _saved(self, step: int) -> None:
        """Say that a checkpoint is complete."""
        if self.rank == 0:
            self.tracker.event("checkpoint", step, {})
            self.folder.write_summary(status="running", step=step, steps=self.steps)

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "scaler": self.scaler.state_dict(),
            "plateau": self.plateau.state,
            "optimizers": {phase.name: phase.optimizer_state() for phase in self.phases},
        }

    @contextmanager
    def _measured(self) -> Iterator[Pipeline]:
        """The pipeline that restores the validation images: with averaged weights where they are kept.

        Where no process holds all weights (ZeRO-3) it is a second pipeline: ranks restore different numbers of images,
        and gathering weights while they do would wait for ever.
        """
        if self.gathers:
            with torch.random.fork_rng(devices=[]), self.whole():
                whole = make_pipeline(self.config, self.shards).to(self.device)
                whole.load_checkpoint_state(
                    self.average.state if self.average is not None else self.pipeline.checkpoint_state()
                )
            whole.on_step_start(self.step, self.plan.epoch_at(self.step))
            yield whole
        elif self.average is not None:
            with self.average.swapped_in():
                yield self.pipeline
        else:
            yield self.pipeline

    def _rows(self, pipeline: Pipeline) -> tuple[evaluator.Rows, float]:
        """This split's rows from all ranks, and the data range they were measured with."""
        shards = splits.open_split(self.config.data, self.config.data.val_split)
        size = splits.size(shards, self.config.evaluation.limit or self.config.data.limit)
        recipe = loading.whole_recipe(self.needs, self.config.data, shards)
        range_ = splits.data_range(shards)
        shown: list[str] = []

        def draw(batch: Batch, restored: dict[str, torch.Tensor], i: int) -> dict[str, float]:
            if self.tracker.draws and len(shown) < self.config.evaluation.images:
                shown.append(batch["key"][i])
                for name, strip in images.strips(pipeline, batch, restored, i, range_).items():
                    self.tracker.images(f"{name}/{shown[-1]}", strip, self.step)
            return {}

        rows = evaluator.evaluate_split(
            pipeline,
            shards,
            recipe,
            count=size,
            batch_size=self.config.data.eval_batch_size,
            data_range=range_,
            rank=self.rank,
            world=self.world,
            device=self.device,
            autocast=precision.autocast(self.device, self.precision),
            on_image=draw,
        )
        return rows, range_

    def _say(self) -> None:
        numbers = "  ".join(f"{name} {value:.3f}" for name, value in self.metrics.items() if "/" not in name)
        self.tracker.say(f"validation at step {self.step}:  {numbers}")
        for finding in self.pipeline.findings(self.metrics):
            if not finding.ok:
                self.tracker.warn(finding.name, finding.message, self.step)
        if "psnr" in self.metrics and self.metrics["psnr"] < self.metrics.get("noisy_psnr", float("-inf")):
            self.tracker.warn(
                "worse than noisy",
                f"validation PSNR {self.metrics['psnr']:.2f} dB is below the noisy "
                f"images' {self.metrics['noisy_psnr']:.2f} dB",
                self.step,
            )

    def _broadcast_buffers(self) -> None:
        """Every rank measures with rank 0's running statistics, the ones that are saved."""
        if self.world > 1:
            for _, buffer in self.pipeline.named_buffers():
                torch.distributed.broadcast(buffer, src=0)
