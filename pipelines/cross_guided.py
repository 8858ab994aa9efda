"""Contrasts that help each other: one network restores all contrasts of a slice from noisy images alone."""

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from configs import registry
from configs.errors import ConfigError
from configs.fields import FieldSpec, Needs, Source
from configs.schema import Count, Network, PipelineConfig, Rate
from losses.l2 import L2
from pipelines.base import Batch, Output, PhaseOutput, Pipeline, detached
from pipelines.common import guided_views, noise_calibration, recorruption, rician
from pipelines.common.dual_domain.instruments import correlation
from pipelines.reporting.checks import Finding

KEEPS_NOISE, REMOVES_STRUCTURE = 0.8, 1.1
"""What a restoration took away, over the noise level: below, or above, a finding says so. The best ones measured take
0.94 to 0.98; below 1 because the best restoration is no perfect one."""

ORIENTATIONS = 8
"""Quarter turns and mirror images of a square lattice."""


class CrossGuided(Pipeline["CrossGuided.Config"]):
    """Recorrupted-to-Recorrupted over the stacked contrasts of a slice: each is restored from its own pixels and the
    other's at once, and no clean image, second copy or alignment of latents is asked for.

    Each contrast's noise must be Gaussian, white, of known (or estimated) level, and independent between contrasts. For
    the stack y and z ~ N(0, I) of its shape the network learns y - sigma z / alpha from y + alpha sigma z: the two
    noises are independent in every channel, so the squared error's minimiser is E[clean | input], of all contrasts.
    Nothing of a target can leak, and nothing can collapse. Theory: Pang et al., CVPR 2021; measured in
    docs/dual_domain.md.
    """

    class Config(PipelineConfig):
        """Settings of cross-guided restoration."""

        network: Network = {"name": "residual_unet"}
        """Network from the stacked contrasts to the stacked restored ones."""
        contrasts: tuple[str, ...] = ("pd", "pdfs")
        """Fields of one slice, registered to each other; `<field>_clean` holds the truth where it is known."""
        together: bool = True
        """Stack the contrasts; false restores each alone with the same network (the control that shows their worth)."""
        scheme: guided_views.Scheme = "stack"
        """What a step hides: stack recorrupts all contrasts at once; own recorrupts one and shows the others as they
        are, for each in turn; masked hides pixels of one and shows the others (pipelines/common/guided_views.py)."""
        sigma: Rate | dict[str, Rate] | Literal["estimate", "estimate_each"] = "estimate"
        """Noise standard deviation in stored units (per component of complex images), one for all or one per contrast;
        or `estimate`: one per contrast, the median over whole training images, measured once and kept with the
        weights; or `estimate_each`: from each image itself, in training from each crop (where the noise differs)."""
        alpha: Rate = 0.5
        """Noise added to the input, in sigmas; the target gets 1 / alpha of it, taken away."""
        antithetic: bool = True
        """Train on z and on -z: twice the images of a step, half the noise in its gradient."""
        passes: Count = 8
        """Restorations averaged at inference, each of a recorrupted copy in another of the eight flips and turns; 0
        restores the noisy image itself once."""
        magnitude: Literal["as_is", "koay", "square"] = "as_is"
        """For magnitude images, whose noise lifts the dark: how the restored ones are corrected (common/rician.py);
        koay inverts the mean of Rician noise, square takes its mean square away."""

        @model_validator(mode="after")
        def _fits(self) -> "CrossGuided.Config":
            problems = []
            if not self.contrasts or len(set(self.contrasts)) < len(self.contrasts):
                problems.append("contrasts must name one or more fields, each once")
            if isinstance(self.sigma, dict) and set(self.sigma) != set(self.contrasts):
                problems.append(f"sigma must have one value for each of {', '.join(self.contrasts)}, or be one number")
            if not self.together and self.scheme != "stack":
                problems.append("together false needs scheme stack: there is no other contrast to show")
            if problems:
                raise registry.SettingsError(problems)
            return self

    levels: Tensor

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        specs = [fields[name] for name in config.contrasts]
        if any(spec.is_complex for spec in specs):
            raise ConfigError("cross_guided trains real networks: set data.representation to ri (two channels)")
        if not config.together and len({spec.channels for spec in specs}) > 1:
            raise ConfigError("together=false shares one network: the contrasts must have the same channels")
        if config.magnitude != "as_is" and any(spec.layout == "ri" for spec in specs):
            raise ConfigError(
                f"magnitude {config.magnitude} would set every negative real or imaginary part to 0: set "
                "data.representation to magnitude, or pipeline.magnitude to as_is"
            )
        self.widths = [spec.channels for spec in specs]
        channels = sum(self.widths) if config.together else self.widths[0]
        self.network = registry.build("models", config.network, in_channels=channels, out_channels=channels)
        self.distance = L2()
        self.calibrates = config.sigma == "estimate"
        if self.calibrates:
            self.register_buffer(noise_calibration.BUFFER, torch.zeros(len(config.contrasts)))
        self._known = noise_calibration.HostCopy()
        self.phases = {"restorer": ("network",)}
        self.outputs = {name: Output(name, f"{name}_clean") for name in config.contrasts}

    @classmethod
    def needs(cls, config: Config) -> Needs:
        """The noisy contrasts and a noise draw each; clean images and second copies only to measure."""
        fields: dict[str, Source] = {name: Source() for name in config.contrasts}
        for name in config.contrasts:
            for known in (f"{name}_clean", f"{name}_second"):
                fields[known] = Source(scale_of=name, optional=True, evaluation=True)
        return Needs(fields, {f"{name}_normal": name for name in config.contrasts})

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """Mean squared error between the restored first stack and the second one.

        The part `mse_to_clean` is what the mean squared error to the clean images is expected to be, from noisy images
        alone (the loss with every square of noise replaced by its mean); chance can make it negative.
        """
        noisy, sigma = self._stack(batch, ""), self._sigmas(batch)
        normal = self._stack(batch, "_normal")
        if self.config.antithetic:
            noisy, sigma, normal = torch.cat([noisy, noisy]), torch.cat([sigma, sigma]), torch.cat([normal, -normal])
        seen, target, counts = guided_views.training(
            self.config.scheme, noisy, normal, sigma=sigma, alpha=self.config.alpha, widths=self.widths
        )
        restored = self._restored(seen)
        if counts is None:
            loss = self.distance(restored, target)
        else:
            loss = self.distance(counts * restored, counts * target) / counts.mean()
        with torch.no_grad():
            times = len(seen) // len(noisy)
            change = restored.float() - noisy.repeat(times, 1, 1, 1)
            hidden = noisy.repeat(times, 1, 1, 1) - target
            expected = change.square() + 2 * change * hidden - sigma.square().repeat(times, 1, 1, 1)
            expected = expected.mean() if counts is None else (counts * expected).mean() / counts.mean()
        levels = sigma.detach().split(self.widths, dim=1)
        parts = {"l2": loss, "mse_to_clean": expected}
        for name, level in zip(self.config.contrasts, levels, strict=True):
            parts[f"sigma_{name}"] = (level[: len(batch[name]), :1] * batch[f"{name}_scale"]).mean()
        return PhaseOutput(loss, detached(parts), {})

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """Each contrast by its name; the recorruption depends on the sample's index alone."""
        noisy, sigma = self._stack(batch, ""), self._sigmas(batch)
        if self.config.passes == 0:
            total = self._restored(noisy).float()
        else:
            indices = [int(index) for index in batch["index"]]
            total = torch.zeros_like(noisy)
            for draw in range(self.config.passes):
                normal = recorruption.seeded_normals(noisy, indices, draw)
                first, _ = recorruption.gaussian(noisy, normal, sigma=sigma, alpha=self.config.alpha)
                shown = guided_views.shown(self.config.scheme, noisy, first, self.widths)
                one = _back(self._restored(_turned(shown, draw)), draw).float()
                total += guided_views.restored(self.config.scheme, one, self.widths) / self.config.passes
        if self.config.magnitude != "as_is":
            total = (rician.from_mean if self.config.magnitude == "koay" else rician.from_square)(total, sigma)
        return dict(zip(self.config.contrasts, total.split(self.widths, dim=1), strict=True))

    def image_statistics(self, batch: Batch) -> dict[str, Tensor]:
        """Noise of each contrast in the units of the batch, where it is estimated from the image itself."""
        return {
            f"{name}_sigma": recorruption.estimated_sigma(batch[name])
            for name, known in zip(self.config.contrasts, self._levels(), strict=True)
            if name in batch and not known
        }

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Take each contrast's noise level, in stored units, from whole training images: the median over them."""
        needed = self.config.scheme != "masked"  # which learns without it
        self.levels.copy_(noise_calibration.measured(batches, self.config.contrasts, needed=needed))

    def migrate_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Noise levels were not always kept."""
        return noise_calibration.migrate_state(tensors, len(self.config.contrasts)) if self.calibrates else tensors

    def diagnostics(self, batch: Batch, restored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Per image: what was taken away over the noise level, and how the error correlates with own and other noise.

        The correlations need clean images. Some correlation with the own noise is right: an error is noise not removed.
        """
        names = self.config.contrasts
        sigmas = self._sigmas(batch).split(self.widths, dim=1)
        taken = [
            ((batch[n] - restored[n]).square().flatten(1).mean(1) / s.square().flatten(1).mean(1)).sqrt()
            for n, s in zip(names, sigmas, strict=True)
        ]
        out = {"removed_over_sigma": torch.stack(taken).mean(0).cpu()}
        if all(f"{n}_clean" in batch for n in names):
            noise = {n: batch[n] - batch[f"{n}_clean"] for n in names}
            error = {n: restored[n] - batch[f"{n}_clean"] for n in names}
            out["leak_own"] = torch.stack([correlation(error[n], noise[n]) for n in names]).mean(0)
            pairs = [(n, o) for n in names for o in names if n != o and error[n].shape == noise[o].shape]
            if pairs:
                out["leak_other"] = torch.stack([correlation(error[n], noise[o]) for n, o in pairs]).mean(0)
        return out

    def findings(self, metrics: dict[str, float]) -> list[Finding]:
        """Whether about the noise's own power was taken away; needs no clean image."""
        value = metrics.get("removed_over_sigma")
        if value is None:
            return []
        said = f"what was taken from the noisy images is {value:.2f} of the noise level: "
        if value < KEEPS_NOISE:
            said += "noise is left in the result; train longer, or sigma is larger than given"
        elif value > REMOVES_STRUCTURE:
            said += "more than noise was removed; train longer, or sigma is smaller than given"
        else:
            said += "as much as there is noise"
        bound = KEEPS_NOISE if value < KEEPS_NOISE else REMOVES_STRUCTURE
        return [Finding("removed_over_sigma", value, bound, KEEPS_NOISE <= value <= REMOVES_STRUCTURE, said)]

    def _stack(self, batch: Batch, suffix: str) -> Tensor:
        """The contrasts' images or draws as channels of one tensor."""
        return torch.cat([batch[f"{name}{suffix}"] for name in self.config.contrasts], dim=1)

    def _sigmas(self, batch: Batch) -> Tensor:
        """Noise of every channel of the stack in the units of the batch, (N, C, 1, 1)."""
        levels = []
        for name, width, known in zip(self.config.contrasts, self.widths, self._levels(), strict=True):
            if known:
                level = known / batch[f"{name}_scale"]
            elif f"{name}_sigma" in batch:
                level = batch[f"{name}_sigma"]
            else:
                level = recorruption.estimated_sigma(batch[name])
            levels.append(level.expand(-1, width, -1, -1))
        return torch.cat(levels, dim=1)

    def _levels(self) -> list[float]:
        """Each contrast's noise in stored units, 0 where it is to be estimated from the images at hand."""
        names, sigma = self.config.contrasts, self.config.sigma
        if isinstance(sigma, float):
            return [sigma] * len(names)
        if isinstance(sigma, dict):
            return [sigma[name] for name in names]
        if sigma == "estimate_each":
            return [0.0] * len(names)
        return self._known.of(self.levels)

    def _restored(self, stack: Tensor) -> Tensor:
        """The network on the stack, or on each contrast of it alone."""
        if self.config.together:
            return self.network(stack)
        alone = torch.cat(stack.split(self.widths, dim=1))
        return torch.cat(self.network(alone).chunk(len(self.widths)), dim=1)


def _turned(image_NCHW: Tensor, orientation: int) -> Tensor:
    """One of the eight flips and quarter turns."""
    turned = torch.rot90(image_NCHW, orientation % 4, (-2, -1))
    return turned.flip(-1) if orientation % ORIENTATIONS >= 4 else turned


def _back(image_NCHW: Tensor, orientation: int) -> Tensor:
    """What undoes `_turned`."""
    upright = image_NCHW.flip(-1) if orientation % ORIENTATIONS >= 4 else image_NCHW
    return torch.rot90(upright, -(orientation % 4), (-2, -1))
