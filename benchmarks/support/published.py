"""One training step of each method as its publication, or its published code, goes through it.

Every network is called once for each image it is described with, batches are never put together, networks of other
phases collect gradients where the published code does not stop them, torch's own Adam goes through the parameters one
by one, and the loss is read at every step. Left out in its favour is what published loops also do and nobody reads: the
dual-domain trainer's noise estimate, DRGAN's PSNR of each training batch.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.support import common
from configs.schema import RunConfig
from models.blocks import (
    drgan_blocks,
    norms,
    spectroformer_attention,
    spectroformer_resampling,
    spectroformer_skips,
)
from models.blocks.spectroformer_resampling import phase as angle_of
from pipelines.base import Batch, Pipeline

Made = tuple[Tensor, dict[str, Tensor]]
"""A loss, and the images that the critic is to see."""

FREEZES_CRITICS = ("drgan",)
"""Methods whose published code stops gradients into the critics while the generators learn."""


def step(config: RunConfig) -> Callable[[], object]:
    """One step of the plain loop, to be called in a process of its own: torch's own norms and memory stay in use."""
    plain_networks()
    pipeline, batches = common.built(config)
    optimizers = {
        name: torch.optim.Adam(pipeline.trained_parameters(name), lr=config.optimizer.lr) for name in pipeline.phases
    }

    def go() -> None:
        carry: dict[str, Tensor] = {}
        for name, optimizer in optimizers.items():
            if config.pipeline.name in FREEZES_CRITICS:
                for parameter in pipeline.trained_parameters("critic"):
                    parameter.requires_grad_(name == "critic")
            optimizer.zero_grad()
            value, made = loss(pipeline, name, batches[0], carry)
            carry |= made
            value.backward()
            if config.loop.clip_norm:
                nn.utils.clip_grad_norm_(pipeline.trained_parameters(name), config.loop.clip_norm)
            optimizer.step()
            value.item()

    return go


def loss(pipeline: Pipeline, phase: str, batch: Batch, carry: dict[str, Tensor]) -> Made:
    """One phase's loss; `carry` holds what the phase before it made."""
    losses: dict[str, Callable[[Any, str, Batch, dict[str, Tensor]], Made]] = {
        "tcfl": _tcfl,
        "cncl": _cncl,
        "drgan": _drgan,
        "dual_domain": _dual_domain,
    }
    return losses.get(pipeline.config.name, _one_network)(pipeline, phase, batch, carry)


def _one_network(p: Pipeline, phase: str, batch: Batch, carry: dict[str, Tensor]) -> Made:
    """The method's own loss: one pass of one network."""
    found = p.loss(phase, batch, carry)
    return found.loss, found.carry


def _tcfl(p: Any, phase: str, batch: Batch, carry: dict[str, Tensor]) -> Made:
    """Six generator calls and six of the critic, then seven of the critic."""
    l1, weights = functional.l1_loss, p.config.weights
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


def _cncl(p: Any, phase: str, batch: Batch, carry: dict[str, Tensor]) -> Made:
    """Both networks and the critic, then the critic on real and on made images, one after the other."""
    mean, spread = p._mean_and_divisor(batch["noisy"])
    x, clean = ((batch[name] - mean) / spread for name in ("noisy", "clean"))
    if phase == "critic":
        real = p.adversarial(p.critic(torch.cat([clean, x - clean, x], 1)), real=True)
        return 0.5 * (real + p.adversarial(p.critic(carry["triple"]), real=False)), {}
    noise = p.noise(x)
    made = torch.cat([p.fusion(p.content(x), x - noise), noise], 1)
    triple = torch.cat([made, x], 1)
    pixels = functional.l1_loss(made, torch.cat([clean, x - clean], 1))
    return p.adversarial.fool(p.critic(triple)) + 100 * pixels, {"triple": triple.detach()}


def _drgan(p: Any, phase: str, batch: Batch, carry: dict[str, Tensor]) -> Made:
    """Four calls of each encoder and six of the decoders; two codes are made that nothing uses, as published."""
    x, y = p._to_unit(batch, "noisy"), p._to_unit(batch, "unpaired_clean")
    fool, l1 = p.adversarial.fool, functional.l1_loss
    if phase == "critic":
        clean_x, noisy_y = carry["clean_x"], carry["noisy_y"]
        noise = p._patches(batch)
        pairs = (
            (p.critic_clean, "clean", y, clean_x),
            (p.critic_noisy, "noisy", x, noisy_y),
            (p.critic_noise, "residual_x", noise, x - clean_x),
            (p.critic_noise, "residual_y", noise, noisy_y - y),
        )
        judge = p.adversarial
        halves = [
            judge(critic(real), real=True) + judge(critic(p.pools.exchange(kind, fake)), real=False)
            for critic, kind, real, fake in pairs
        ]
        return 0.5 * torch.stack(halves).sum(), {}
    content_x, content_y = p.content_encoder(x), p.content_encoder(y)
    clean_x = p.clean_decoder(content_x)
    code_x, _ = p.noise_encoder(x), p.noise_encoder(y)
    noisy_y, recon_x = p.noisy_decoder(content_y, code_x), p.noisy_decoder(content_x, code_x)
    recon_y = p.clean_decoder(content_y)
    again_x, again_y = p.content_encoder(clean_x), p.content_encoder(noisy_y)
    _, code_y = p.noise_encoder(clean_x), p.noise_encoder(noisy_y)
    cycle_x, cycle_y = p.noisy_decoder(again_x, code_y), p.clean_decoder(again_y)
    total = fool(p.critic_clean(clean_x)) + fool(p.critic_noisy(noisy_y))
    total = total + 10 * (l1(cycle_x, x) + l1(cycle_y, y)) + 10 * (l1(recon_x, x) + l1(recon_y, y))
    total = total + fool(p.critic_noise(x - clean_x)) + fool(p.critic_noise(noisy_y - y))
    return total, {"clean_x": clean_x.detach(), "noisy_y": noisy_y.detach()}


def _dual_domain(p: Any, phase: str, batch: Batch, carry: dict[str, Tensor]) -> Made:
    """Two encoder calls and four of the decoders, which convolve zeros where they get no skips; edges if asked for."""
    config, pd, pdfs, size = p.config, batch["pd"], batch["pdfs"], batch["pd"].shape[-2:]
    z_a, skips_a = p.encoder(pd + config.sigma_a * batch["pd_normal"])
    z_b, skips_b = p.encoder(pdfs + config.sigma_b * batch["pdfs_normal"])
    none = [torch.zeros_like(skip) for skip in skips_a]
    same = config.same_domain_use_skip
    pd_same, pd_cross = p.decoder_a(z_a, skips_a if same else none, size=size), p.decoder_a(z_b, none, size=size)
    pdfs_same, pdfs_cross = p.decoder_b(z_b, skips_b if same else none, size=size), p.decoder_b(z_a, none, size=size)
    weights = config.weights
    total = weights.content * p.content(z_a, z_b)
    total = total + weights.recon * (p.distance(pd_same, pd) + p.distance(pdfs_same, pdfs))
    total = total + weights.cross * (p.distance(pd_cross, pd) + p.distance(pdfs_cross, pdfs))
    if weights.edge:
        total = total + weights.edge * (p.edge(pd_cross, pd) + p.edge(pdfs_cross, pdfs))
    return total, {}


def plain_networks(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """In this process: torch's own norms, and Spectroformer's attention and spectra (full, tiled) as published."""

    def group_norm(x: Tensor, groups: int, weight: Any, bias: Any, eps: float) -> Tensor:
        return functional.group_norm(x, groups, weight, bias, eps)

    def instance_norm(x: Tensor, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
        return functional.instance_norm(x, weight=weight, bias=bias, eps=eps)

    def filtered(self: Any, x: Tensor) -> Tensor:
        return torch.fft.ifft2(self.mix(torch.fft.fft2(x).real)).real

    def upsampled(self: Any, x: Tensor) -> Tensor:
        spectrum = torch.fft.fft2(x)
        size, angle = self.magnitude(spectrum.abs()).tile(2, 2), self.phase(angle_of(spectrum)).tile(2, 2)
        return self.post(torch.fft.ifft2(torch.complex(size * angle.cos(), size * angle.sin())).abs())

    def gated(self: Any, x: Tensor) -> Tensor:
        angle = angle_of(torch.fft.fft2(x))
        mean_NC = torch.fft.ifft2(torch.complex(angle.cos(), angle.sin())).real.mean((2, 3))
        return x * torch.sigmoid(self.mix(mean_NC[:, None]))[:, 0, :, None, None]

    def normed(self: Any, x: Tensor) -> Tensor:
        return nn.LayerNorm.forward(self, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()

    def attended(self: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        N, C, H, W = value.shape
        heads = self.temperature.shape[1]
        q, k, v = (x.reshape(N, heads, C // heads, H * W) for x in (query, key, value))
        q, k = (functional.normalize(x, dim=-1, eps=spectroformer_attention.EPS) for x in (q, k))
        weights = torch.softmax(q @ k.transpose(-2, -1) * self.temperature, dim=-1)
        return (weights @ v).reshape(N, C, H, W)

    put(norms, "group_norm", group_norm)
    for module in (norms, drgan_blocks):
        put(module, "instance_norm", instance_norm)
    put(spectroformer_attention.FrequencyFilter, "forward", filtered)
    put(spectroformer_attention.ChannelNorm, "forward", normed)
    put(spectroformer_attention.QueryCascade, "_attend", attended)
    put(spectroformer_resampling.FourierUpsample, "forward", upsampled)
    put(spectroformer_skips.PhaseGate, "forward", gated)
