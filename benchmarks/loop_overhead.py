"""Overhead of training loops, with a network so small that it shows: ours, raw PyTorch, accelerate, Fabric, Lightning.

All train the same network on the same batches with the same loss and fused AdamW, and clip the gradient; once with a
step per batch, and once accumulating the gradients of two batches. Ours also keeps a moving average of the weights,
counts throughput, checks that gradients are finite, synchronises stop signals between ranks, and writes its log. Timed
stretches are short, because a machine's speed drifts within seconds. Fabric and Lightning are measured where they are
installed (pip install -e '.[bench]').
"""

import contextlib
import copy
import importlib.util
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from benchmarks.support import common
from quell.launch.machine import acceleration
from quell.launch.runs.folder import RunFolder
from quell.launch.runs.tracker import Tracker
from quell.launch.training import loop
from quell.launch.training.trainer import Trainer, assemble
from quell.pipelines.base import Batch, Pipeline

LR, CLIP = 1e-3, 1.0

BATCHES = 8
"""Number of global batches, which every loop trains on again and again."""


@dataclass(frozen=True)
class OurLoop:
    """`launch/training/loop.py` itself with everything enabled, logging every 20 steps."""

    trainer: Trainer
    batches: list[list[Batch]]
    steps: int

    @property
    def pipeline(self) -> Pipeline:
        """What is trained."""
        return self.trainer.state.pipeline

    def __call__(self) -> None:
        """Train for `steps` steps."""
        with contextlib.redirect_stdout(io.StringIO()):
            loop.train(self.trainer, (self.batches[i % BATCHES] for i in range(self.steps)))


def ours(folder: Path, root: Path, steps: int, accumulate: int) -> OurLoop:
    """Set up our loop in a new run folder."""
    overrides = [
        "pipeline.network={name: dncnn, depth: 3, width: 4}",
        "pipeline.losses={l2: 1.0}",
        "data.crop=8",
        "data.batch_size=4",
        "loop.ema_decay=0.99",
        f"loop.clip_norm={CLIP}",
        "loop.epochs=null",
        "loop.max_steps=100000000",
        f"loop.accumulate={accumulate}",
        "optimizer.name=adamw",
        f"optimizer.lr={LR}",
        "schedule.name=cosine",
        "evaluation.every_epochs=null",
        "checkpoint.every_steps=99999999",
    ]
    config = common.load_config("supervised", root, *overrides)
    accelerator = acceleration.make_accelerator(config.loop)
    run = RunFolder(folder)
    run.create()
    trainer = assemble(config, accelerator, run, Tracker(run, active=True, tensorboard=False))
    with trainer.batches() as batches:
        return OurLoop(trainer, [next(iter(batches)) for _ in range(BATCHES)], steps)


class Loss(nn.Module):
    """The method's loss as the forward pass of a module: what the other loops train."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        self.pipeline = copy.deepcopy(pipeline)

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar."""
        return self.pipeline.loss("restorer", batch, {}).loss


def network_and_optimizer(pipeline: Pipeline) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A copy of the pipeline's network, and an optimizer for it."""
    network = Loss(pipeline)
    return network, torch.optim.AdamW(network.parameters(), lr=LR, fused=True)


def raw_pytorch(pipeline: Pipeline, batches: list[list[Batch]], steps: int) -> Callable[[], object]:
    """A plain PyTorch loop, as in tutorials."""
    network, optimizer = network_and_optimizer(pipeline)

    def run() -> None:
        for i in range(steps):
            micro_batches = batches[i % BATCHES]
            optimizer.zero_grad()
            for batch in micro_batches:
                loss = network(batch) / len(micro_batches)
                loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()

    return run


def with_accelerate(pipeline: Pipeline, batches: list[list[Batch]], steps: int) -> Callable[[], object]:
    """The loop in accelerate's documentation."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=len(batches[0]))
    network, optimizer = accelerator.prepare(*network_and_optimizer(pipeline))

    def run() -> None:
        for i in range(steps):
            for batch in batches[i % BATCHES]:
                with accelerator.accumulate(network):
                    loss = network(batch)
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(network.parameters(), CLIP)
                    optimizer.step()
                    optimizer.zero_grad()

    return run


def with_fabric(pipeline: Pipeline, batches: list[list[Batch]], steps: int) -> Callable[[], object]:
    """The loop in Fabric's documentation."""
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    network, optimizer = fabric.setup(*network_and_optimizer(pipeline))

    def run() -> None:
        for i in range(steps):
            micro_batches = batches[i % BATCHES]
            optimizer.zero_grad()
            for number, batch in enumerate(micro_batches, 1):
                with fabric.no_backward_sync(network, enabled=number < len(micro_batches)):
                    loss = network(batch) / len(micro_batches)
                    fabric.backward(loss)
            fabric.clip_gradients(network, optimizer, max_norm=CLIP, error_if_nonfinite=False)
            optimizer.step()

    return run


def with_lightning(pipeline: Pipeline, batches: list[list[Batch]], steps: int) -> Callable[[], object]:
    """The Lightning Trainer, without logger, checkpoints and progress bar."""
    from lightning.pytorch import LightningModule
    from lightning.pytorch import Trainer as LightningTrainer

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.optimizer = network_and_optimizer(pipeline)

        def training_step(self, batch: Batch, _: int) -> Tensor:
            return self.network(batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return self.optimizer

    class Batches(torch.utils.data.IterableDataset[Batch]):
        def __iter__(self) -> Iterator[Batch]:
            for i in range(steps):
                yield from batches[i % BATCHES]

    module = Module()

    def run() -> None:
        trainer = LightningTrainer(
            accelerator="cpu",
            devices=1,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            gradient_clip_val=CLIP,
            accumulate_grad_batches=len(batches[0]),
        )
        trainer.fit(module, torch.utils.data.DataLoader(Batches(), batch_size=None))

    return run


def time_loops(accumulate: int, *, steps: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of `steps` steps of each loop, in each round."""
    with common.temporary_folder() as folder:
        root = common.write_shards(Path(folder) / "data", side=16, count=64)
        our_loop = ours(Path(folder) / "run", root, steps, accumulate)
        arguments = (our_loop.pipeline, our_loop.batches, steps)
        candidates: dict[str, Callable[[], object]] = {
            "raw PyTorch": raw_pytorch(*arguments),
            "Quell, all on": our_loop,
            "accelerate": with_accelerate(*arguments),
        }
        if importlib.util.find_spec("lightning"):
            candidates["Lightning Fabric"] = with_fabric(*arguments)
            candidates["Lightning Trainer"] = with_lightning(*arguments)
        return common.time_interleaved(candidates, rounds=rounds)


def main() -> None:
    quick = common.parse_options(__doc__ or "").quick
    steps, rounds = (40, 2) if quick else (80, 15)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if not importlib.util.find_spec("lightning"):
        print("not measured, because not installed: Fabric and Lightning; pip install -e '.[bench]'")
    rows = []
    for accumulate in (1, 2):
        seconds = time_loops(accumulate, steps=steps, rounds=rounds)
        base = seconds["raw PyTorch"]
        rows += [
            [
                accumulate,
                name,
                f"{1e6 * common.median(values) / steps:.0f}",
                common.spread(values),
                f"{common.speedup(values, base):.2f}",
            ]
            for name, values in sorted(seconds.items(), key=lambda item: common.speedup(item[1], base))
        ]
    common.print_table(["batches per step", "loop", "µs per step", "spread", "relative to the raw loop"], rows)


if __name__ == "__main__":
    main()
