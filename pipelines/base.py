"""The contract between a method and the one loop that trains them all, and nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import TypeVar

from configs.errors import ConfigError
from configs.fields import FieldSpec, Needs
from configs.schema import PipelineConfig
from pipelines.reporting.checks import Finding, MethodDiagnosis
from pipelines.reporting.columns import FollowedLoss, ReportColumn
from pipelines.reporting.facts import RunFacts

ConfigT = TypeVar("ConfigT", bound=PipelineConfig, default=Any)
"""The method's own `Config`. `Pipeline` without it is any method, as the training loop sees it."""

Batch = dict[str, Any]
"""Fields by name: NCHW tensors, `<field>_scale` (N, 1, 1, 1), `index` (N,), `key` (list); see shards/reading/."""


class PhaseOutput(NamedTuple):
    """What one phase made of a batch."""

    loss: Tensor
    """Scalar to be minimised, mean over the batch."""
    parts: dict[str, Tensor]
    """Detached scalars for the log, by name."""
    carry: dict[str, Tensor]
    """Detached tensors handed to the phases that follow on the same batch."""


@dataclass(frozen=True)
class Output:
    """One restored image a method gives: what it restores and what it is measured against."""

    noisy: str
    """Field it is a restoration of; shares this field's units and scale."""
    clean: str
    """Field with the truth, where it is known."""
    primary: bool = True
    """Counts towards the run's headline metric."""


class Pipeline(nn.Module, ABC, Generic[ConfigT]):
    """A training method: networks as submodules, and the losses they learn from.

    A subclass `Method(Pipeline["Method.Config"])` has a frozen `Config`, sets `phases` and `outputs` in its
    constructor, and implements `needs`, `loss` and `restore`. It never sees the accelerator, an optimizer, a file or a
    rank; it may use the device of its batch.
    Everything random comes with the batch (`Needs.normals`) so that a step is a pure function of weights and batch.
    """

    Config: ClassVar[type[PipelineConfig]] = PipelineConfig

    config: ConfigT
    """The settings it was built with."""

    phases: dict[str, tuple[str, ...]]
    """Phase -> names of the submodules or parameters it trains, in the order in which phases run on a batch."""

    outputs: dict[str, Output]
    """The images `restore` gives."""

    calibrates: bool = False
    """Whether it measures something once on whole training images, see `calibrate`."""

    followed_loss: ClassVar[FollowedLoss | None] = None
    """The loss term by which comparisons follow a run; None for the total loss of the first phase."""

    report_columns: ClassVar[tuple[ReportColumn, ...]] = ()
    """Metrics of the method's own that comparisons of runs show, in order."""

    paired_fields: ClassVar[tuple[str, ...]] = ()
    """Two noisy fields that show the same structure, which a diagnosis verifies (`RunFacts.probe["paired"]`)."""

    def __init__(self, config: ConfigT, fields: dict[str, FieldSpec]) -> None:
        """Build the networks. `fields` says what each field asked for in `needs` looks like in this data."""
        super().__init__()
        self.config = config
        self.fields = fields

    @classmethod
    @abstractmethod
    def needs(cls, config: ConfigT) -> Needs:
        """Fields and noise draws that `loss` reads."""

    @abstractmethod
    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """The loss of one phase; `carry` holds what earlier phases made of this batch."""

    @abstractmethod
    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """Restored images by output name, any height and width, in the units of their noisy field."""

    def image_statistics(self, batch: Batch) -> dict[str, Tensor]:
        """What `restore` measures on whole images, (N, 1, 1, 1) by name; joins the batch of every tile cut from them.

        Tiles that measured themselves (their mean, for one) would differ in it, and that would show as seams.
        """
        return {}

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Told whole training images before the first step, for what is measured once and kept in a buffer."""

    def is_active(self, phase: str, step: int) -> bool:
        """Whether a phase runs at this step (a critic may run less often than its generator)."""
        return True

    def on_step_start(self, step: int, epoch: float) -> None:
        """Told before each step where training stands, for weights that follow a schedule."""

    def after_step(self, phase: str) -> None:
        """Called after the phase's optimizer step, e.g. to clip a critic's weights in place."""

    def on_epoch_end(self, means: dict[str, float]) -> list[str]:
        """Told each logged part's mean over the epoch, equal on all ranks; returns messages about what it changed."""
        return []

    def diagnostics(self, batch: Batch, restored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Instruments on a validation batch: per-image values (N,), NaN where one cannot be measured."""
        return {}

    def findings(self, metrics: dict[str, float]) -> list[Finding]:
        """Verdicts on the means of metrics and instruments of one evaluation (leak, collapse, ...)."""
        return []

    @classmethod
    def diagnose(cls, facts: RunFacts) -> MethodDiagnosis:
        """Apply the method's own rules to the facts about a run, for launch/diagnose.py."""
        return MethodDiagnosis()

    def rank_state(self) -> dict[str, Any]:
        """State of this rank that is neither parameter nor buffer (image pools), for the checkpoint."""
        return {}

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Take back what `rank_state` gave."""

    def checkpoint_state(self) -> dict[str, Tensor]:
        """Every tensor a checkpoint must hold, by name: parameters, and buffers that are not rebuilt from files or
        settings.
        """
        return dict(self.state_dict())

    def migrate_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """What `checkpoint_state` gave in an older version of this method, as this one names it."""
        return tensors

    def load_checkpoint_state(self, tensors: dict[str, Tensor]) -> None:
        """Copy back what `checkpoint_state` gave; names and shapes must be equal (checked by the caller)."""
        own = self.checkpoint_state()
        assert own.keys() == tensors.keys(), "the caller compares names first"
        with torch.no_grad():
            for name, value in tensors.items():
                own[name].copy_(value)

    def trained_parameters(self, phase: str) -> list[nn.Parameter]:
        """The parameters a phase trains, in a stable order."""
        found: list[nn.Parameter] = []
        for name in self.phases[phase]:
            part = getattr(self, name)
            found += [part] if isinstance(part, nn.Parameter) else list(part.parameters())
        return found


def real_channels(fields: dict[str, FieldSpec], *alike: str, otherwise: str) -> int:
    """Channels of fields that a method compares or adds; those that the data do not hold are not looked at.

    Raises ConfigError saying `otherwise` unless they are real and have equal channels.
    """
    specs = {fields[name] for name in alike if name in fields}
    if len(specs) != 1 or any(spec.is_complex for spec in specs):
        raise ConfigError(otherwise)
    return next(iter(specs)).channels


def detached(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers, cut from the graph, for `PhaseOutput.parts`."""
    return {name: torch.as_tensor(value).detach() for name, value in parts.items()}
