"""The interface between a training method and the loop, which is the same for all methods."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from typing_extensions import TypeVar

from quell.configs.errors import ConfigError
from quell.configs.fields import DRAWS, FieldSpec, Needs
from quell.configs.schema import PipelineConfig
from quell.losses.noise.model import FieldNoise, NoiseModel
from quell.pipelines.reporting.assumed_noise import AssumedNoise
from quell.pipelines.reporting.checks import CheckValue, Finding, MethodDiagnosis
from quell.pipelines.reporting.columns import FollowedLoss, ReportColumn
from quell.pipelines.reporting.facts import RunFacts
from quell.pipelines.reporting.noise_range import NoiseRange
from quell.pipelines.state.host_copy import HostCopy


class NoiseInputs(Protocol):
    """The noise levels that `restore` reads, which whoever restores may give instead."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The noisy fields concerned."""

    def model(self) -> NoiseModel:
        """The noise that counts where no level is given; a level of 0 is estimated from each image."""

    def told(self, batch: "Batch", levels: dict[str, Tensor]) -> dict[str, Tensor]:
        """What a batch, complete with `image_statistics`, holds instead where levels (1,) above 0 are given."""


ConfigT = TypeVar("ConfigT", bound=PipelineConfig, default=Any)
"""The method's own `Config`. Plain `Pipeline` is any method, as the training loop sees it."""

T = TypeVar("T")

State = dict[str, Any]
"""Plain values and tensors, as torch.save writes and torch.load(weights_only=True) reads them."""

Batch = dict[str, Any]
"""Tensors by name: fields (N, C, H, W), `<field>_scale` (N, 1, 1, 1), `index` (N,), and `key`, a list; see
shards/reading/."""


class PhaseOutput(NamedTuple):
    """What the loss of one phase returns."""

    loss: Tensor
    """Scalar to minimise, averaged over the batch."""
    scalars: dict[str, Tensor]
    """Detached scalars to log, by name."""
    carry: dict[str, Tensor]
    """Detached tensors for the later phases of the same batch."""


@dataclass(frozen=True)
class Output:
    """A restored image: the field it is restored from and the field it is measured against."""

    noisy: str
    """Field it is restored from, and whose units and scale it has."""
    clean: str
    """Field of the ground truth, where there is one."""
    primary: bool = True
    """Whether it counts towards the run's headline metric."""

    @property
    def references(self) -> tuple[str, str]:
        """The fields it may be compared with, the better one first: the clean image, or a second noisy copy."""
        return self.clean, self.clean.removesuffix("_clean") + "_second"


class Pipeline(nn.Module, ABC, Generic[ConfigT]):
    """A training method: its networks, as submodules, and the losses that train them.

    A subclass `Method(Pipeline["Method.Config"])` defines a frozen `Config`, sets `phases` and `outputs` in its
    constructor, and implements `needs`, `loss` and `restore`. It never sees the accelerator, an optimizer, a file or a
    rank; it may use the device of its batch. All randomness comes with the batch (`Needs.normals`), so that a step is a
    pure function of weights and batch.
    """

    Config: ClassVar[type[PipelineConfig]] = PipelineConfig

    config: ConfigT
    """The settings the method was built with."""

    phases: dict[str, tuple[str, ...]]
    """Phase -> the submodules or parameters it trains, by name; phases run on a batch in this order."""

    outputs: dict[str, Output]
    """The images that `restore` returns, by name."""

    draws: int = DRAWS
    """Version of the random draws; that of the checkpoint, where a run has one."""

    calibrates: bool = False
    """Whether `calibrate` has something to measure before training."""

    followed_loss: ClassVar[FollowedLoss | None] = None
    """The loss term by which comparisons follow a run; None for the total loss of the first phase."""

    report_columns: ClassVar[tuple[ReportColumn, ...]] = ()
    """Metrics of the method's own that comparisons of runs show, in order."""

    paired_fields: ClassVar[tuple[str, ...]] = ()
    """Two noisy fields that show the same structure, which a diagnosis verifies (`RunFacts.probe["paired"]`)."""

    def __init__(self, config: ConfigT, fields: dict[str, FieldSpec]) -> None:
        """Build the networks for images as `fields` describes them, the fields of `needs` that the data hold."""
        super().__init__()
        self.config = config
        self.fields = fields
        self._host_copies: list[HostCopy[Any]] = []

    @classmethod
    @abstractmethod
    def needs(cls, config: ConfigT) -> Needs:
        """Fields and random numbers that `loss` and `restore` read from a batch."""

    def training_needs(self) -> Needs:
        """`needs` for training batches, once the method is calibrated or its checkpoint loaded."""
        return type(self).needs(self.config)

    @abstractmethod
    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """The loss of one phase; `carry` collects what earlier phases of this batch returned to carry over."""

    @abstractmethod
    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """Restored images (N, C, H, W) by output name, for any H and W, in the units of their noisy field."""

    def image_statistics(self, batch: Batch) -> dict[str, Tensor]:
        """Statistics of whole images that `restore` needs, by name; each tile's batch gets its image's.

        (N, 1, 1, 1), or (N, 1, H, W) for a value per pixel, of which a tile's batch gets the tile's part.

        If every tile were restored with its own statistics (its mean, for example), seams would show between them.
        """
        return {}

    def noise_inputs(self) -> NoiseInputs | None:
        """The noise levels that `restore` reads from its batch; None where it reads none."""
        return None

    def export_obstacle(self) -> str:
        """Why `restore` cannot be written as a program for other runtimes, "" where it can (launch/exporting/)."""
        return ""

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Measure, once before the first step and on whole training images, what is kept in a buffer."""

    def noise_model(self) -> NoiseModel | None:
        """The noise that `calibrate` found in the training images, which is saved with the run."""
        return None

    def assumed_noise(self, field: str, found: FieldNoise) -> AssumedNoise | None:
        """What a field's noise was taken for where it is `found` in the images; None where no setting says."""
        return None

    def noise_ranges(self, found: NoiseModel | None) -> dict[str, NoiseRange]:
        """Field -> the noise that it can be asked to restore; `found` is that of the training images, where saved.

        A field that is not named has no limits.
        """
        return {} if found is None else {name: NoiseRange(n.sigma, n.sigma) for name, n in found.fields.items()}

    def warnings(self) -> list[str]:
        """What a user should know before the first step, a sentence each; called once, after `calibrate`."""
        return []

    def host_copy(self, *buffers: str, read: Callable[..., T], absent: T) -> HostCopy[T]:
        """What `read` makes of these buffers, by name, for a loss that needs it on the host; see HostCopy."""
        copy = HostCopy(self, *buffers, read=read, absent=absent)
        self._host_copies.append(copy)
        return copy

    def refresh_host_copies(self) -> None:
        """Read again, for a compiled loss, the buffers that have changed."""
        for copy in self._host_copies:
            copy.refresh()

    def is_active(self, phase: str, step: int) -> bool:
        """Whether a phase runs at this step; a critic may run less often than its generator."""
        return True

    def on_step_start(self, step: int, epoch: float) -> None:
        """Called before each step, e.g. for loss weights that follow a schedule."""

    def after_step(self, phase: str) -> None:
        """Called after the optimizer step of a phase, e.g. to clip a critic's weights in place."""

    def on_epoch_end(self, means: dict[str, float]) -> list[str]:
        """Called with the epoch's mean of each logged scalar, equal on all ranks; returns messages for the log."""
        return []

    def diagnostics(self, batch: Batch, restored: dict[str, Tensor]) -> dict[str, Tensor]:
        """The method's own measurements on a validation batch, on its device: (N,) by name, NaN where there is none."""
        return {}

    def describe_batch(self, batch: Batch) -> dict[str, CheckValue]:
        """What a diagnosis shows of the networks inside, on one training batch: numbers and words by name."""
        return {}

    def findings(self, metrics: dict[str, float]) -> list[Finding]:
        """Verdicts (leak, collapse, ...) on the means of an evaluation's metrics and diagnostics."""
        return []

    @classmethod
    def diagnose(cls, facts: RunFacts) -> MethodDiagnosis:
        """Apply the method's own rules to the facts about a run, for launch/diagnose.py."""
        return MethodDiagnosis()

    def rank_state(self) -> State:
        """State of this rank beyond parameters and buffers (image pools), for the checkpoint."""
        return {}

    def load_rank_state(self, state: State) -> None:
        """Restore what `rank_state` returned."""

    def checkpoint_state(self) -> dict[str, Tensor]:
        """The tensors a checkpoint holds: parameters, and the buffers that files or settings do not determine."""
        return dict(self.state_dict())

    def migrate_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert the tensors of a checkpoint written by an older version of this method, before they are loaded.

        A method whose buffers depend on its data may here register those that the checkpoint has.
        """
        return tensors

    def load_checkpoint_state(self, tensors: dict[str, Tensor]) -> None:
        """Copy in what `checkpoint_state` returned; the caller has checked that names and shapes match."""
        own = self.checkpoint_state()
        assert own.keys() == tensors.keys(), "the caller checks the names first"
        with torch.no_grad():
            for name, value in tensors.items():
                own[name].copy_(value)

    def trained_parameters(self, phase: str) -> list[nn.Parameter]:
        """The parameters a phase trains, in a stable order."""
        return [parameter for parameters in self.trained_parts(phase).values() for parameter in parameters]

    def trained_parts(self, phase: str) -> dict[str, list[nn.Parameter]]:
        """The same by the names in `phases`."""
        parts = {name: getattr(self, name) for name in self.phases[phase]}
        return {n: [part] if isinstance(part, nn.Parameter) else list(part.parameters()) for n, part in parts.items()}


def real_channels(fields: dict[str, FieldSpec], *names: str, error: str) -> int:
    """The common number of channels of fields that a method compares or adds, ignoring those missing from the data.

    Raises ConfigError with the message `error` unless they are real and alike.
    """
    specs = {fields[name] for name in names if name in fields}
    if len(specs) != 1 or any(spec.is_complex for spec in specs):
        raise ConfigError(error)
    return next(iter(specs)).channels


def detached(scalars: dict[str, Tensor]) -> dict[str, Tensor]:
    """The scalars without their graph, for `PhaseOutput.scalars`."""
    return {name: torch.as_tensor(value).detach() for name, value in scalars.items()}
