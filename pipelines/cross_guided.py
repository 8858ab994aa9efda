"""Cross-guided restoration: one network restores all contrasts of a slice jointly, from noisy images alone."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn

from quell.configs import registry
from quell.configs.errors import ConfigError, DataError
from quell.configs.fields import FieldSpec, Needs, Source
from quell.configs.schema import Count, Network, PipelineConfig, Positive, Rate
from quell.losses.l2 import L2
from quell.losses.noise.model import FieldNoise, NoiseModel
from quell.pipelines.base import Batch, Output, PhaseOutput, Pipeline, detached
from quell.pipelines.common import guided_views, recorruption, rician
from quell.pipelines.common.dual_domain.instruments import correlation
from quell.pipelines.common.noise_calibration import FAILS_FROM, NoiseLevel
from quell.pipelines.common.noise_settings import NoiseSetting
from quell.pipelines.common.random_numbers.image_draws import ImageDraws
from quell.pipelines.common.self_ensemble import restored_turned, self_ensembled
from quell.pipelines.common.teacher import Teacher
from quell.pipelines.reporting import removed_noise
from quell.pipelines.reporting.assumed_noise import AssumedNoise
from quell.pipelines.reporting.checks import Finding

SHOWS_HIDDEN = 0.2
"""Correlation between neighbours from which a hidden pixel's noise shows in what is visible."""


class CrossGuided(Pipeline["CrossGuided.Config"]):
    """Recorrupted-to-Recorrupted over the stacked contrasts of a slice.

    Each contrast is restored from its own pixels and the other's at once; no clean images, second copies or aligned
    latents are needed. The noise of each contrast must be Gaussian, of a known or estimated level, spectrum and map,
    and independent between contrasts.

    For the stack y and z of its shape, drawn with the correlation of the noise, the network learns y - sigma z / alpha
    from y + alpha sigma z. Their noises are independent in every channel, so the minimiser of the squared error is
    E[clean | input] for all contrasts: the target's noise cannot leak, and nothing can collapse. Theory: Pang et al.,
    CVPR 2021; measurements: docs/dual_domain.md.
    """

    class Config(PipelineConfig):
        """Settings of cross-guided restoration."""

        network: Network = {"name": "residual_unet"}
        """Network from the stacked contrasts to the stacked restored ones."""
        contrasts: tuple[str, ...] = ("pd", "pdfs")
        """Fields of the contrasts, registered to each other; `<field>_clean` is the ground truth, where there is
        one."""
        together: bool = True
        """Restore the contrasts jointly; false restores each alone, with the same network, as a control experiment."""
        scheme: guided_views.Scheme = "stack"
        """What a training step hides: stack recorrupts all contrasts at once; own recorrupts each contrast in turn and
        shows the others unchanged; masked hides pixels of each contrast in turn and shows the others unchanged
        (pipelines/common/guided_views.py)."""
        sigma: Rate | dict[str, Rate] | Literal["estimate", "estimate_each"] = "estimate"
        """Noise standard deviation in stored units (per component of complex images), one for all contrasts or one
        each; or `estimate`: one per contrast, the median over whole training images, measured once and saved with the
        weights; or `estimate_each`: estimated from each image, in training from each crop (for noise that varies)."""
        noise: NoiseSetting = "auto"
        """What is known of the noise beyond its level (pipelines/common/noise_settings.py): auto, what an audit of the
        training images finds; white; spectrum, map or spectrum_map; from_repeats; or {given: FILE.npz}."""
        alpha: Rate = 0.5
        """Standard deviation of the noise added to the input, as a multiple of sigma; from the target 1 / alpha times
        sigma is subtracted."""
        antithetic: bool = True
        """Train on z and -z in the same step: twice the images per step, half the noise in the gradient."""
        passes: Count = 8
        """Restorations averaged at inference, each of a recorrupted copy in another of the eight orientations (those in
        which the noise looks the same); 0 restores the noisy image itself, once."""
        magnitude: Literal["as_is", "koay", "square"] = "as_is"
        """Correction of restored magnitude images, whose noise floor brightens dark regions (common/rician.py): koay
        inverts the mean of the Rician distribution; square subtracts the noise power from the square."""
        relearn_from: Positive | None = None
        """Number of steps after which the network learns from its own restored images with new noise, instead of from
        recorrupted ones; null: never. For magnitudes, whose noise recorruption does not match and whose correction is
        poor where there is no signal: half of the run's steps, with magnitude koay (pipelines/common/teacher.py)."""

        @model_validator(mode="after")
        def _is_consistent(self) -> "CrossGuided.Config":
            problems = []
            if not self.contrasts or len(set(self.contrasts)) < len(self.contrasts):
                problems.append("contrasts must name one or more fields, each once")
            if isinstance(self.sigma, dict) and set(self.sigma) != set(self.contrasts):
                problems.append(f"sigma must have one value for each of {', '.join(self.contrasts)}, or be one number")
            if self.relearn_from and self.scheme != "stack":
                problems.append("relearn_from needs scheme stack")
            if not self.together and self.scheme != "stack":
                problems.append("together false needs scheme stack: there is no other contrast to show")
            if problems:
                raise registry.SettingsError(problems)
            return self

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        specs = [fields[name] for name in config.contrasts]
        if any(spec.is_complex for spec in specs):
            raise ConfigError("cross_guided trains real networks: set data.representation to ri (two channels)")
        if not config.together and len({spec.channels for spec in specs}) > 1:
            raise ConfigError("together false shares one network: the contrasts must have the same channels")
        if config.magnitude != "as_is" and any(spec.layout == "ri" for spec in specs):
            raise ConfigError(
                f"magnitude {config.magnitude} would set negative real and imaginary parts to 0: set "
                "data.representation to magnitude, or pipeline.magnitude to as_is"
            )
        self.widths = [spec.channels for spec in specs]
        channels = sum(self.widths) if config.together else self.widths[0]
        self.network = registry.build("models", config.network, in_channels=channels, out_channels=channels)
        self.teacher = Teacher(self.network, config.relearn_from) if config.relearn_from else None
        self.distance = L2()
        self.noise_level = NoiseLevel(self, config.sigma, config.contrasts, config.noise)
        self.calibrates = True
        self.phases = {"restorer": ("network",)}
        self.outputs = {name: Output(name, f"{name}_clean") for name in config.contrasts}

    @classmethod
    def needs(cls, config: Config) -> Needs:
        """The noisy contrasts and random numbers for each; clean images and second copies for evaluation only."""
        fields: dict[str, Source] = {name: Source() for name in config.contrasts}
        for name in config.contrasts:
            for reference in (f"{name}_clean", f"{name}_second"):
                fields[reference] = Source(scale_of=name, optional=True, evaluation=True)
        suffixes = ["_normal"]
        if config.relearn_from:
            suffixes += ["_new"] if config.magnitude == "as_is" else ["_new", "_imaginary"]
        return Needs(fields, {f"{name}{suffix}": name for name in config.contrasts for suffix in suffixes})

    def training_needs(self) -> Needs:
        """As `needs`; where the noise has a shape, also the window of each crop, and numbers beyond its borders.

        The random numbers of scheme masked choose pixels, and are not filtered.
        """
        completed = self.noise_level.completed(type(self).needs(self.config))
        return replace(completed, margins={}) if self.config.scheme == "masked" else completed

    def on_step_start(self, step: int, epoch: float) -> None:
        """Tell the teacher."""
        if self.teacher:
            self.teacher.on_step_start(step)

    def after_step(self, phase: str) -> None:
        """Let the teacher follow."""
        if self.teacher:
            self.teacher.after_step(self.network)

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """Mean squared error between the restored first stack and the second one.

        The scalar `mse_to_clean` is the expected squared error to the clean images, from noisy images alone: the loss
        with every square of noise replaced by its mean. By chance it can be negative.
        """
        if self.teacher is not None and self.teacher.teaches:
            return self._taught_loss(batch, self.teacher.network)
        noisy, sigma = self._stack(batch), self._sigma(batch)
        normal = self._coloured(self._stack(batch, "_normal"), batch)
        if self.config.antithetic:
            noisy, sigma, normal = torch.cat([noisy, noisy]), torch.cat([sigma, sigma]), torch.cat([normal, -normal])
        views = guided_views.training(
            self.config.scheme, noisy, normal, sigma=sigma, alpha=self.config.alpha, widths=self.widths
        )
        relative = self._relative(batch)
        if relative is not None:
            relative = relative.repeat(len(views.seen) // len(relative), 1, 1, 1)
        evened = self._restored(_divided(views.seen, relative))
        target = _divided(views.target, relative)
        if views.mask is None:
            loss = self.distance(evened, target)
        else:
            loss = self.distance(views.mask * evened, views.mask * target) / views.mask.mean()
        restored = evened if relative is None else evened * relative
        levels = sigma.detach().split(self.widths, dim=1)
        scalars = {"l2": loss, "mse_to_clean": _expected_error(restored, noisy, sigma, views)}
        for name, level in zip(self.config.contrasts, levels, strict=True):
            scalars[f"sigma_{name}"] = (level[: len(batch[name]), :1] * batch[f"{name}_scale"]).mean()
        return PhaseOutput(loss, detached(scalars), {})

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """The restored contrasts by name; their recorruption depends on the sample's index alone."""
        if self.teacher is not None and self.teacher.has_taught:
            return dict(zip(self.config.contrasts, self._taught(batch).split(self.widths, dim=1), strict=True))
        noisy, sigma, relative = self._stack(batch), self._sigma(batch), self._relative(batch)
        if self.config.passes == 0:
            total = self._restored(_divided(noisy, relative)).float()
        else:
            draws = ImageDraws(batch["index"], self.draws)
            total = torch.zeros_like(noisy)
            orientations = self.noise_level.orientations
            margin = 0 if self.config.scheme == "masked" else self.noise_level.margin_px
            for draw in range(self.config.passes):
                turn = orientations[draw % len(orientations)]
                normal = self._coloured(draws.normals(noisy, draw, margin), batch)
                first, _ = recorruption.gaussian(noisy, normal, sigma=sigma, alpha=self.config.alpha)
                seen = guided_views.inference(self.config.scheme, noisy, first, self.widths)
                if relative is not None:
                    seen = seen / relative.repeat(seen.shape[0] // noisy.shape[0], 1, 1, 1)
                views = restored_turned(self._restored, seen, turn).float()
                total += guided_views.merged(self.config.scheme, views, self.widths) / self.config.passes
        if relative is not None:
            total = total * relative
        return dict(zip(self.config.contrasts, self._corrected(total, batch).split(self.widths, dim=1), strict=True))

    def _corrected(self, restored: Tensor, batch: Batch) -> Tensor:
        """The restored stack without the bias of magnitudes, as far as the settings say."""
        if self.config.magnitude == "as_is":
            return restored
        correct = rician.from_mean if self.config.magnitude == "koay" else rician.from_square
        return correct(restored, self._level(batch))

    def _taught(self, batch: Batch) -> Tensor:
        """The stack restored by a network that has learned from its teacher: the mean over orientations."""
        relative, orientations = self._relative(batch), self.noise_level.orientations[: max(1, self.config.passes)]
        seen = _divided(self._stack(batch), relative)
        total = self_ensembled(self._restored, seen, orientations)
        return total if relative is None else total * relative

    def _taught_loss(self, batch: Batch, teacher: nn.Module) -> PhaseOutput:
        """Mean squared error to the stack that the teacher restores, from that stack with new noise.

        The noise is the one that the images have: Gaussian of the same level, spectrum and map, in both parts of a
        complex image whose magnitude is taken if the images are magnitudes.
        """
        noisy, sigma, relative = self._stack(batch), self._sigma(batch), self._relative(batch)
        with torch.no_grad():
            normal = self._coloured(self._stack(batch, "_normal"), batch)
            pair = [recorruption.gaussian(noisy, n, sigma=sigma, alpha=self.config.alpha)[0] for n in (normal, -normal)]
            mean = torch.stack([self._restored(_divided(y, relative), teacher).float() for y in pair]).mean(0)
            clean, level = self._corrected(mean if relative is None else mean * relative, batch), self._level(batch)
            added = level * self._filtered(self._stack(batch, "_new"), batch, self.noise_level.coloured)
            seen = torch.cat([clean + added, clean - added])
            if self.config.magnitude != "as_is":
                imaginary = level * self._filtered(self._stack(batch, "_imaginary"), batch, self.noise_level.coloured)
                seen = torch.hypot(seen, torch.cat([imaginary, imaginary]))
            twice = None if relative is None else torch.cat([relative, relative])
            target = _divided(torch.cat([clean, clean]), twice)
        loss = self.distance(self._restored(_divided(seen, twice)), target)
        return PhaseOutput(loss, detached({"l2": loss}), {})

    def image_statistics(self, batch: Batch) -> dict[str, Tensor]:
        """The noise level of each contrast, in the units of the batch, where it is estimated from the image itself."""
        return self.noise_level.image_statistics(batch)

    def noise_inputs(self) -> NoiseLevel | None:
        """The levels with which copies are recorrupted, or magnitudes corrected."""
        recorrupts = self.config.passes > 0 and self.config.scheme != "masked"
        return self.noise_level if recorrupts or self.config.magnitude != "as_is" else None

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Estimate what of each contrast's noise is not given from whole training images, and compare it with what is.

        Raises DataError where hidden pixels can be predicted from their neighbours' noise (scheme masked).
        """
        # scheme masked trains without a noise level
        is_masked = self.config.scheme == "masked"
        self.noise_level.calibrate(batches, required=not is_masked)
        if is_masked and (shown := self._shown_by_neighbours(FAILS_FROM)):
            raise DataError(f"{shown[0]}: set pipeline.scheme to stack, and pipeline.noise to auto")

    def _shown_by_neighbours(self, least: float) -> list[str]:
        """Why hiding single pixels does not hide their noise, for each contrast with at least this correlation."""
        found = self.noise_level.found
        strongest = {
            name: max(abs(noise.correlation(0, 1)), abs(noise.correlation(1, 0)))
            for name, noise in (found.fields if found else {}).items()
        }
        return [
            f"scheme masked hides single pixels, but the noise of '{name}' has a correlation of {value:.2f} with the "
            "next pixel, which shows it"
            for name, value in strongest.items()
            if value >= least
        ]

    def noise_model(self) -> NoiseModel | None:
        """The noise found in the training images."""
        return self.noise_level.found

    def assumed_noise(self, field: str, found: FieldNoise) -> AssumedNoise | None:
        """What the method was told of the noise, or found."""
        if self.config.scheme == "masked":  # the neighbours of a hidden pixel show correlated noise, whatever is known
            kind = "map" if self.noise_level.shapes[field].has_map else "white"
            return replace(self.noise_level.assumed(field), kind=kind, cure="set pipeline.scheme=stack")
        return self.noise_level.assumed(field)

    def warnings(self) -> list[str]:
        """Whether the noise is what the settings say."""
        shown = self._shown_by_neighbours(SHOWS_HIDDEN) if self.config.scheme == "masked" else []
        return [*self.noise_level.warnings(self.config.name), *shown]

    def migrate_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Old checkpoints have no calibrated noise levels, and no shape of the noise."""
        return self.noise_level.migrate_state(tensors)

    def diagnostics(self, batch: Batch, restored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Per image: RMS of what was removed over the noise level, and correlation of the error with the noise.

        `leak_own` is the correlation with the contrast's own noise, `leak_other` with another contrast's; both need
        clean images. Some correlation with the own noise is right, since noise that is not removed is error.
        """
        names = self.config.contrasts
        levels = self._level(batch).split(self.widths, dim=1)
        residual = rician.residual if self.config.magnitude != "as_is" else lambda noisy, signal, _: noisy - signal
        removed = [
            (residual(batch[n], restored[n], s).square().flatten(1).mean(1) / s.square().flatten(1).mean(1)).sqrt()
            for n, s in zip(names, levels, strict=True)
        ]
        measured = {"removed_over_sigma": torch.stack(removed).mean(0)}
        if all(f"{n}_clean" in batch for n in names):
            noise = {n: batch[n] - batch[f"{n}_clean"] for n in names}
            error = {n: restored[n] - batch[f"{n}_clean"] for n in names}
            measured["leak_own"] = torch.stack([correlation(error[n], noise[n]) for n in names]).mean(0)
            pairs = [(n, m) for n in names for m in names if n != m and error[n].shape == noise[m].shape]
            if pairs:
                measured["leak_other"] = torch.stack([correlation(error[n], noise[m]) for n, m in pairs]).mean(0)
        return measured

    def findings(self, metrics: dict[str, float]) -> list[Finding]:
        """Whether about as much was removed as there is noise; needs no clean images."""
        return removed_noise.findings(metrics)

    def _stack(self, batch: Batch, suffix: str = "") -> Tensor:
        """The contrasts' images, or the tensors `<field><suffix>`, as channels of one tensor."""
        return torch.cat([batch[f"{name}{suffix}"] for name in self.config.contrasts], dim=1)

    def _coloured(self, normal: Tensor, batch: Batch) -> Tensor:
        """Noise of unit variance with each contrast's correlation, from standard-normal numbers for the stack."""
        if self.config.scheme == "masked" or self.noise_level.is_white:
            return normal
        coloured = self._filtered(normal, batch, self.noise_level.coloured)
        if not self._is_rician:
            return coloured
        without_signal = self._filtered(normal, batch, self.noise_level.coloured_magnitudes)
        gaussian = (rician.spread(self._stack(batch), self._level(batch)) - rician.RAYLEIGH) / (1 - rician.RAYLEIGH)
        return torch.lerp(without_signal, coloured, gaussian)

    def _filtered(self, normal: Tensor, batch: Batch, draw: Callable[..., Tensor]) -> Tensor:
        """What a function of `noise_level` draws for each contrast from standard-normal numbers for the stack."""
        parts = zip(self.config.contrasts, normal.split(self.widths, dim=1), strict=True)
        return torch.cat([draw(name, part, batch[name], batch.get("window")) for name, part in parts], dim=1)

    @property
    def _is_rician(self) -> bool:
        """Whether noise is drawn as that of magnitudes: weaker, and less correlated, where there is no signal."""
        return self.config.magnitude != "as_is" and not self.noise_level.is_white

    def _sigma(self, batch: Batch) -> Tensor:
        """The noise level of every channel of the stack in the units of the batch, (N, C, 1, 1) or (N, C, H, W)."""
        level = self._level(batch)
        return level * rician.spread(self._stack(batch), level) if self._is_rician else level

    def _level(self, batch: Batch) -> Tensor:
        """As `_sigma`; of magnitudes, the level of a component."""
        levels = self.noise_level.of_batch(batch)
        return self._of_channels([levels[name] for name in self.config.contrasts])

    def _relative(self, batch: Batch) -> Tensor | None:
        """The noise level of every pixel of the stack over that of its image, (N, C, H, W), where the noise varies.

        The network sees images divided by it, in which noise is equally strong everywhere, and so does the loss, to
        which every pixel then contributes alike: the squared error in any such units has the clean image as minimiser.
        """
        if not self.noise_level.has_maps:
            return None
        relative = self.noise_level.relative(batch)
        count = batch[self.config.contrasts[0]].shape[0]
        return self._of_channels([relative[name].expand(count, -1, -1, -1) for name in self.config.contrasts])

    def _of_channels(self, values: list[Tensor]) -> Tensor:
        """One value per contrast, (N, 1, 1, 1) or (N, 1, H, W) each, for every channel of the stack."""
        alike = torch.broadcast_tensors(*values)
        return torch.cat([v.expand(-1, width, -1, -1) for v, width in zip(alike, self.widths, strict=True)], dim=1)

    def _restored(self, stack: Tensor, network: nn.Module | None = None) -> Tensor:
        """The network's output for the stack, or for each of its contrasts alone; or that of another network."""
        network = network or self.network
        if self.config.together:
            return network(stack)
        alone = torch.cat(stack.split(self.widths, dim=1))
        return torch.cat(network(alone).unflatten(0, (len(self.widths), -1)).unbind(), dim=1)


def _divided(images: Tensor, relative: Tensor | None) -> Tensor:
    return images if relative is None else images / relative


@torch.no_grad()
def _expected_error(restored: Tensor, noisy: Tensor, sigma: Tensor, views: guided_views.Views) -> Tensor:
    """Unbiased estimate of the mean squared error to the clean images.

    The squared error to the target t exceeds it by the noise power of t, which is (y - t)^2 + sigma^2 in expectation
    for the noisy stack y.
    """
    repeats = len(views.seen) // len(noisy)
    noisy = noisy.repeat(repeats, 1, 1, 1)
    change = restored.float() - noisy
    error = change.square() + 2 * change * (noisy - views.target) - sigma.square().repeat(repeats, 1, 1, 1)
    return error.mean() if views.mask is None else (views.mask * error).mean() / views.mask.mean()
