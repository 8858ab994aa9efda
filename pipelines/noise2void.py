"""Noise2Void: a network learns to predict pixels of a noisy image that it does not see."""

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quell.configs.fields import FieldSpec
from quell.configs.schema import Count, Section
from quell.losses.noise.model import FieldNoise
from quell.pipelines.base import Batch, PhaseOutput, detached
from quell.pipelines.common.random_numbers.image_draws import ImageDraws
from quell.pipelines.common.self_supervised import blind_spots
from quell.pipelines.common.self_supervised.base import SelfSupervisedConfig, SelfSupervisedPipeline
from quell.pipelines.common.self_supervised.blind_spots import Extent
from quell.pipelines.reporting.assumed_noise import AssumedNoise
from quell.pipelines.reporting.checks import Finding

MASK = "mask_extent"
"""Name of the buffer with the mask's rows and columns, where they are measured."""
CORRELATED = 0.1
"""Correlation up to which a pixel may be visible beside a hidden centre."""
WIDEST_PX = 8
"""Largest extent that is chosen for a mask; a wider one leaves nothing to predict from."""
COPIES_NOISE = 0.9
"""RMS of what the restoration of a visible image changes over what it changes at blind spots, below which the network
copies noise that it sees."""


class Mask(Section):
    """Neighbours hidden with every pixel that is predicted."""

    rows: Count = 0
    """Rows above and below."""
    columns: Count = 0
    """Columns to the left and to the right."""


class Noise2Void(SelfSupervisedPipeline["Noise2Void.Config"]):
    """Blind-spot training, for noise with zero mean that is independent beyond the mask; its level may be anything.

    One pixel of every cell of the image is hidden, with its neighbours as far as the noise is correlated, and replaced
    by visible ones; the network learns its noisy value, whose noise it cannot know. Sources: Krull, Buchholz and Jug,
    CVPR 2019; Broaddus et al., ISBI 2020 (masks for correlated noise); Hoeck et al., ECCV Workshops 2022 (replacement
    by medians).
    """

    class Config(SelfSupervisedConfig):
        """Settings of Noise2Void."""

        mask: Mask | Literal["auto"] = "auto"
        """Neighbours hidden with every predicted pixel; auto hides as many as the noise of the training images is
        correlated with, none for white noise."""
        hidden: Annotated[float, Field(gt=0, le=0.5)] = 0.1
        """Share of the pixels that a training step hides, at most."""
        replacement: blind_spots.Replacement = "neighbour"
        """What stands in for a hidden pixel: a visible neighbour, chosen at random; or the median of all of them."""
        passes: Count = 0
        """Restorations with blind spots at inference, of which every pixel takes the mean where it was predicted
        unseen; pixels that never were are taken from the restoration of the visible image. 0 takes them all from
        there, as published."""

    normals: ClassVar[dict[str, str]] = {"spots": "noisy", "replacement": "noisy"}

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        self._mask = self.host_copy(MASK, read=lambda mask: Extent(*map(int, mask.tolist())), absent=Extent(1, 1))
        if config.mask == "auto":
            self.register_buffer(MASK, torch.zeros(2))

    @property
    def extent(self) -> Extent:
        """The mask, given or measured."""
        if self.config.mask == "auto":
            return self._mask.value
        return Extent(self.config.mask.rows, self.config.mask.columns)

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Measure how far the noise of whole training images is correlated, for mask `auto` and for `warnings`."""
        super().calibrate(batches)
        if self.config.mask == "auto":
            self.get_buffer(MASK).copy_(torch.tensor([min(lag, WIDEST_PX) for lag in self._correlated_px()]))

    def assumed_noise(self, field: str, found: FieldNoise) -> AssumedNoise | None:
        """Correlated noise where the mask is as wide as it, else white noise."""
        hidden, (rows, columns) = self.extent, found.correlation_length(CORRELATED)
        return AssumedNoise("spectrum" if hidden.rows >= rows and hidden.columns >= columns else "white")

    def warnings(self) -> list[str]:
        """Whether the noise is correlated beyond the mask."""
        hidden, correlated = self.extent, self._correlated_px()
        if hidden.rows >= correlated[0] and hidden.columns >= correlated[1]:
            return []
        return [
            f"the noise of 'noisy' is correlated over {correlated[0]} rows and {correlated[1]} columns, but the mask "
            f"hides {hidden.rows} and {hidden.columns}: the network predicts the noise of hidden pixels from visible "
            "ones, and keeps it. Set pipeline.mask to auto, or use r2r with pipeline.noise auto"
        ]

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """The mean squared error between the restored and the noisy image at the hidden centres."""
        noisy = batch["noisy"]
        seen, centre = self._with_spots(noisy, batch["spots"], batch["replacement"])
        mask = centre.to(noisy.dtype)
        loss = self.distance(mask * self.network(seen), mask * noisy) / mask.mean()
        return PhaseOutput(loss, detached({"l2": loss}), {})

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """The restored image; the blind spots depend on the sample's index alone."""
        noisy = batch["noisy"]
        restored = self.network(noisy)
        if not self.config.passes:
            return {"restored": restored}
        total, count = torch.zeros_like(restored), torch.zeros_like(restored[:, :1])
        for draw in range(self.config.passes):
            predicted, centre = self._predicted(batch, draw)
            total += torch.where(centre, predicted, 0)
            count += centre
        return {"restored": torch.where(count > 0, total / count.clamp(min=1), restored)}

    def diagnostics(self, batch: Batch, restored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Per image: what the restoration of the visible image changes over what it changes at blind spots.

        About 1 for a network that does not use the pixel it restores; 0 for one that copies it. Needs no clean image.
        """
        noisy = batch["noisy"]
        predicted, centre = self._predicted(batch, 0)
        visible = self.network(noisy)
        at_spots, all_visible = (
            (torch.where(centre, image - noisy, 0).square().flatten(1).sum(1)) for image in (predicted, visible)
        )
        return {"visible_over_blind": (all_visible / at_spots).sqrt()}

    def findings(self, metrics: dict[str, float]) -> list[Finding]:
        """Whether the network copies the noise of pixels that it sees; needs no clean images."""
        value = metrics.get("visible_over_blind")
        if value is None or self.config.passes:
            return []
        message = f"restoring visible pixels changes them by {value:.2f} of what predicting unseen ones does: "
        is_ok = value >= COPIES_NOISE
        message += (
            "their own noise is hardly used" if is_ok else "the network copies noise it sees; set pipeline.passes"
        )
        return [Finding("visible_over_blind", value, COPIES_NOISE, is_ok, message)]

    def _correlated_px(self) -> tuple[int, int]:
        """Rows and columns over which the noise of the training images is correlated."""
        noise = self.found.fields.get("noisy") if self.found is not None else None
        return (0, 0) if noise is None else noise.correlation_length(CORRELATED)

    def _predicted(self, batch: Batch, draw: int) -> tuple[Tensor, Tensor]:
        """The restored image of one draw of blind spots, and where it was predicted unseen."""
        noisy, draws = batch["noisy"], ImageDraws(batch["index"], self.draws)
        spots, replacement = (draws.normals(noisy, 2 * draw + i) for i in (0, 1))
        seen, centre = self._with_spots(noisy, spots, replacement)
        return self.network(seen), centre

    def _with_spots(self, noisy_NCHW: Tensor, spots_NCHW: Tensor, replacement_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The image with blind spots, and their centres (N, 1, H, W), from standard-normal numbers."""
        places, choices = (torch.special.ndtr(normal[:, :1].float()) for normal in (spots_NCHW, replacement_NCHW))
        spots = blind_spots.draw(places, self.extent, self.config.hidden)
        how = self.config.replacement
        return blind_spots.replaced(noisy_NCHW, spots.hidden, self.extent, how, choices), spots.centre
