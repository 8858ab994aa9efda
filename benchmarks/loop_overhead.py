"""Time of one step around a network so small that the loop counts: ours, raw PyTorch, Fabric, accelerate, Lightning.

All train the same network with the same loss on the same batches with the same fused AdamW and clip the gradient, once
with a step for each batch and once with the gradients of two. Ours also keeps a moving average of the weights, counts
throughput, checks that the gradient is finite, agrees on signals, and writes its log. Turns are short, for a machine's
speed drifts within seconds. Fabric and Lightning are measured where they are installed: pip install -e '.[bench]'.
"""

import contextlib
import copy
import importlib.util
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from benchmarks.support import common
from launch.machine import acceleration
from launch.runs.folder import RunFolder
from launch.runs.tracker import Tracker
from launch.training import loop
from launch.training.trainer import assemble
from pipelines.base import Batch, Pipeline

LR, CLIP = 1e-3, 1.0


def ours(folder: Path, root: Path, steps: int, accumulate: int) -> Callable[[], object]:
    """`launch/training/loop.py` itself, with everything on, logging every 20 steps."""
    words = [
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
    config = common.configured("supervised", root, *words)
    accelerator = acceleration.make_accelerator(config.loop)
    run = RunFolder(folder)
    run.create()
    trainer = assemble(config, accelerator, run, Tracker(run, active=True, tensorboard=False))
    with trainer.batches() as batches:
        ready = [next(iter(batches)) for _ in range(8)]

    def go() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            loop.train(trainer, (ready[i % 8] for i in range(steps)))

    go.batches = ready  # type: ignore[attr-defined]
    go.pipeline = trainer.state.pipeline  # type: ignore[attr-defined]
    return go


class Loss(nn.Module):
    """The method's loss of a batch as a module's forward: what every rival trains."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        self.pipeline = copy.deepcopy(pipeline)

    def forward(self, batch: Batch) -> Tensor:
        """A scalar."""
        return self.pipeline.loss("restorer", batch, {}).loss


def fresh(like: Pipeline) -> tuple[nn.Module, torch.optim.Optimizer]:
    """An equal network and its optimizer."""
    network = Loss(like)
    return network, torch.optim.AdamW(network.parameters(), lr=LR, fused=True)


def raw(like: Pipeline, batches: list[list[Batch]], steps: int) -> Callable[[], object]:
    """The loop of a tutorial."""
    network, optimizer = fresh(like)

    def go() -> None:
        for i in range(steps):
            micro_batches = batches[i % 8]
            optimizer.zero_grad()
            for batch in micro_batches:
                loss = network(batch) / len(micro_batches)
                loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()

    return go


def with_accelerate(like: Pipeline, batches: list[list[Batch]], steps: int) -> Callable[[], object]:
    """The loop of accelerate's documentation."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=len(batches[0]))
    network, optimizer = accelerator.prepare(*fresh(like))

    def go() -> None:
        for i in range(steps):
            for batch in batches[i % 8]:
                with accelerator.accumulate(network):
                    loss = network(batch)
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(network.parameters(), CLIP)
                    optimizer.step()
                    optimizer.zero_grad()

    return go


def with_fabric(like: Pipeline, batches: list[list[Batch]], steps: int) -> Callable[[], object]:
    """The loop of Fabric's documentation."""
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    network, optimizer = fabric.setup(*fresh(like))

    def go() -> None:
        for i in range(steps):
            micro_batches = batches[i % 8]
            optimizer.zero_grad()
            for number, batch in enumerate(micro_batches, 1):
                with fabric.no_backward_sync(network, enabled=number < len(micro_batches)):
                    loss = network(batch) / len(micro_batches)
                    fabric.backward(loss)
            fabric.clip_gradients(network, optimizer, max_norm=CLIP, error_if_nonfinite=False)
            optimizer.step()

    return go


def with_lightning(like: Pipeline, batches: list[list[Batch]], steps: int) -> Callable[[], object]:
    """The Lightning Trainer, without logger, checkpoints and progress bar."""
    from lightning.pytorch import LightningModule, Trainer

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.made = fresh(like)

        def training_step(self, batch: Batch, _: int) -> Tensor:
            return self.network(batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return self.made

    class Batches(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[Batch]:
            for i in range(steps):
                yield from batches[i % 8]

    module = Module()

    def go() -> None:
        trainer = Trainer(
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

    return go


def measured(accumulate: int, *, steps: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of `steps` steps of each loop, in each round."""
    with common.temporary() as folder:
        root = common.shards(Path(folder) / "data", side=8, count=64)
        mine = ours(Path(folder) / "run", root, steps, accumulate)
        like, batches = mine.pipeline, mine.batches  # type: ignore[attr-defined]
        rivals: dict[str, Callable[[], object]] = {
            "raw PyTorch": raw(like, batches, steps),
            "Quell, all on": mine,
            "accelerate": with_accelerate(like, batches, steps),
        }
        if importlib.util.find_spec("lightning"):
            rivals["Lightning Fabric"] = with_fabric(like, batches, steps)
            rivals["Lightning Trainer"] = with_lightning(like, batches, steps)
        return common.in_turns(rivals, rounds=rounds)


def main() -> None:
    quick = common.options(__doc__ or "").quick
    steps, rounds = (40, 2) if quick else (80, 15)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if not importlib.util.find_spec("lightning"):
        print("Fabric and Lightning are not installed here: pip install -e '.[bench]'")
    rows = []
    for accumulate in (1, 2):
        seconds = measured(accumulate, steps=steps, rounds=rounds)
        base = seconds["raw PyTorch"]
        rows += [
            [
                accumulate,
                name,
                f"{1e6 * common.middle(s) / steps:.0f}",
                common.spread(s),
                f"{common.times_faster(s, base):.2f}",
            ]
            for name, s in sorted(seconds.items(), key=lambda item: common.times_faster(item[1], base))
        ]
    common.table(["batches a step", "loop", "µs a step", "spread", "of the raw loop"], rows)


if __name__ == "__main__":
    main()
