"""A full training step of each method, ours against a straightforward loop written as its publication describes it.

The same networks, weights, batches and losses; both run on one thread. "As published" calls every network once for each
image it is described with, leaves the networks of other phases free to collect gradients, and uses torch's own Adam.
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import Tensor, nn

from benchmarks import _common as common
from configs.schema import RunConfig
from launch import environment, session
from launch.averaging import Average
from launch.phases import train_step
from pipelines.base import Batch, Pipeline


def ours(config: RunConfig) -> Callable[[], object]:
    """`launch/phases.py`, with the moving average of the weights where the configuration keeps one."""
    accelerator = environment.make_accelerator(config.loop)
    pipeline, batches = common.built(config)
    phases = session.make_phases(accelerator, pipeline, config)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    average = Average(pipeline, config.loop.ema_decay) if config.loop.ema_decay else None

    def go() -> None:
        train_step(phases, pipeline, 0, batches, scaler)
        if average is not None:
            average.update(0)

    return go


def as_published(config: RunConfig) -> Callable[[], object]:
    """One step of the plain loop."""
    pipeline, batches = common.built(config)
    optimizers = {name: torch.optim.Adam(pipeline.trained(name), lr=config.optimizer.lr) for name in pipeline.phases}
    loss = {"tcfl": _tcfl, "dual_domain": _dual_domain}.get(config.pipeline.name, _plain)
    if config.pipeline.name == "spectroformer":
        for parameter in pipeline.parameters():  # the user's script never freezes VGG
            parameter.requires_grad_(True)

    def go() -> None:
        carry: dict[str, Tensor] = {}
        for name, optimizer in optimizers.items():
            optimizer.zero_grad()
            value, made = loss(pipeline, name, batches[0], carry)
            carry |= made
            value.backward()
            if config.loop.clip_norm:
                nn.utils.clip_grad_norm_(pipeline.trained(name), config.loop.clip_norm)
            optimizer.step()
            value.item()

    return go


def _plain(pipeline: Pipeline, phase: str, batch: Batch, carry: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The method's own loss."""
    step = pipeline.loss(phase, batch, carry)
    return step.loss, step.carry


def _tcfl(pipeline: Pipeline, phase: str, batch: Batch, carry: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Six generator calls and six of the critic, then seven of the critic."""
    p, l1, weights = pipeline, nn.functional.l1_loss, pipeline.config.weights  # type: ignore[attr-defined]
    a, b, c = batch["noisy"], batch["noisy_other"], batch["unpaired_clean"]
    if phase == "critic":
        fake = sum(p.adversarial(p.critic(image), real=False) for image in carry["made"])
        return p.adversarial(p.critic(c), real=True) + weights.critic_fake * fake, {}
    noise_a, noise_b = p.generator(a), p.generator(b)
    a1, b1 = a - noise_a, b - noise_b
    second = [x - p.generator(x) for x in (a1 + noise_b, b1 + noise_a, c + noise_a, c + noise_b)]
    made = [a1, b1, *second]
    total = weights.identity * (l1(second[0], a1) + l1(second[1], b1))
    total = total + weights.clean * (l1(second[2], c) + l1(second[3], c))
    total = total + weights.adversarial * sum(p.adversarial.fool(p.critic(image)) for image in made)
    return total, {"made": torch.stack([image.detach() for image in made])}


def _dual_domain(
    pipeline: Pipeline, phase: str, batch: Batch, carry: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Two encoder calls and four of the decoders, each contrast by itself, without skips to the other contrast."""
    p, config = pipeline, pipeline.config
    pd, pdfs, size = batch["pd"], batch["pdfs"], batch["pd"].shape[-2:]
    z_a, skips_a = p.encoder(pd + config.sigma_a * batch["pd_normal"])  # type: ignore[attr-defined]
    z_b, skips_b = p.encoder(pdfs + config.sigma_b * batch["pdfs_normal"])  # type: ignore[attr-defined]
    same = config.same_domain_use_skip  # type: ignore[attr-defined]
    pd_same, pd_cross = (p.decoder_a(z, s, None, size=size) for z, s in ((z_a, skips_a if same else None), (z_b, None)))
    pdfs_same, pdfs_cross = (p.decoder_b(z, s, None, size=size)
                             for z, s in ((z_b, skips_b if same else None), (z_a, None)))
    weights = config.weights  # type: ignore[attr-defined]
    total = weights.content * p.content(z_a, z_b)
    total = total + weights.recon * (p.distance(pd_same, pd) + p.distance(pdfs_same, pdfs))
    total = total + weights.cross * (p.distance(pd_cross, pd) + p.distance(pdfs_cross, pdfs))
    edge = p.edge(pd_cross, pd) + p.edge(pdfs_cross, pdfs)
    return total + weights.edge * edge, {}


def main() -> None:
    options = common.options(__doc__ or "")
    quick = options.quick
    warnings.simplefilter("ignore")
    rounds, rows = (1 if quick else 5), []
    variants: list[tuple[str, str, list[str]]] = [(name, name, []) for name in options.only]
    if "tcfl" in options.only:
        variants.append(("tcfl", "tcfl, batched passes", ["pipeline.batch_passes=true"]))
    for name, label, more in variants:
        with common.temporary() as folder:
            side = common.SIDE.get(name, 64)
            root = common.shards(Path(folder), side=side, **common.colours(name))
            words = [*common.SMALL[name], f"data.crop={side}", "data.batch_size=4", "loop.accumulate=1"]
            config = common.configured(name, root, *words)
            rivals = {"published": as_published(config), "ours": ours(common.configured(name, root, *words, *more))}
            seconds = common.in_turns(rivals, rounds=rounds)
        rows.append([label, *(f"{1e3 * common.middle(seconds[n]):.1f}" for n in rivals),
                     common.spread(seconds["ours"]),
                     f"{common.times_faster(seconds['published'], seconds['ours']):.2f}"])
    common.table(["method", "as published, ms", "ours, ms", "spread", "times as fast"], rows)


if __name__ == "__main__":
    main()
