"""What stays the same while a run trains."""

from dataclasses import dataclass

import torch
from accelerate import Accelerator

from quell.configs.schema import RunConfig
from quell.launch.data.fields import ImageKind
from quell.launch.data.training_levels import TrainingData
from quell.launch.runs.folder import RunFolder
from quell.launch.runs.tracker import Tracker
from quell.shards.reading.order import SampleOrder


@dataclass(frozen=True)
class RunContext:
    """One process's view of a run: configuration, world, folder, log, sample order, length."""

    config: RunConfig
    accelerator: Accelerator
    folder: RunFolder
    tracker: Tracker
    order: SampleOrder
    images: dict[str, ImageKind]
    """What the training data hold, by field."""
    training_data: TrainingData
    """The level of the training data, and the builder's notes on it."""
    steps: int
    """Optimizer steps of the whole run."""
    epochs: float
    """The same in epochs."""
    precision: str
    """Autocast type as accelerate names it: no, bf16 or fp16."""
    commit: str
    """Of the code; empty on all ranks but the first."""

    @property
    def device(self) -> torch.device:
        """This process's device."""
        return self.accelerator.device

    @property
    def rank(self) -> int:
        """This process among all."""
        return self.accelerator.process_index

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.accelerator.num_processes

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which alone writes to the run folder."""
        return self.rank == 0
