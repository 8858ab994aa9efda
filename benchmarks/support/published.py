"""A training step of each method as its publication, or the code published with it, does it.

Each network is called once per image that it is described with, batches are never concatenated, networks of other
phases accumulate gradients unless the published code prevents it, torch's default Adam updates the parameters one by
one, and the loss is read at every step. In favour of the published loops, what they compute without using it is left
out: the dual-domain trainer's noise estimate, and DRGAN's PSNR of every training batch.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.support import common
from quell.configs.schema import RunConfig
from quell.models.blocks import (
    drgan_blocks,
    norms,
    spectroformer_attention,
    spectroformer_resampling,
    spectroformer_skips,
)
from quell.models.blocks.spectroformer_resampling import phase as angle_of
from quell.pipelines.base import Batch, Pipeline

LossAndImages = tuple[Tensor, dict[str, Tensor]]
"""A loss, and the generated images that the critic's phase needs."""

FREEZES_CRITICS = ("drgan",)
"""Methods whose published code computes no gradients of the critics while the generators train."""


def step(config: RunConfig) -> Callable[[], object]:
    """A step of the plain loop. Needs a process of its own, in which it replaces our norms by torch's."""
    use_plain_layers()
    pipeline, batches = common.build_first_step(config)
    optimizers = {
        name: torch.optim.Adam(pipeline.trained_parameters(name), lr=config.optimizer.lr) for name in pipeline.phases
    }

    def run() -> None:
        carry: dict[str, Tensor] = {}
        for name, optimizer in optimizers.items():
            if config.pipeline.name in FREEZES_CRITICS:
                for parameter in pipeline.trained_parameters("critic"):
                    parameter.requires_grad_(name == "critic")
            optimizer.zero_grad()
            value, generated = loss(pipeline, name, batches[0], carry)
            carry |= generated
            value.backward()
            if config.loop.clip_norm:
                nn.utils.clip_grad_norm_(pipeline.trained_parameters(name), config.loop.clip_norm)
            optimizer.step()
            value.item()

    return run


def loss(pipeline: Pipeline, phase: str, batch: Batch, carry: dict[str, Tensor]) -> LossAndImages:
    """The loss of one phase; `carry` holds the images that the phase before it generated."""
    losses: dict[str, Callable[[Any, str, Batch, dict[str, Tensor]], LossAndImages]] = {
        "tcfl": _tcfl,
        "cncl": _cncl,
        "drgan": _drgan,
        "dual_domain": _dual_domain,
    }
    return losses.get(pipeline.config.name, _one_network)(pipeline, phase, batch, carry)


def _one_network(p: Pipeline, phase: str, batch: Batch, carry: dict[str, Tensor]) -> LossAndImages:
    """The method's own loss, which is one pass of one network already."""
    output = p.loss(phase, batch, carry)
    return output.loss, output.carry


def _tcfl(p: Any, phase: str, batch: Batch, carry: dict[str, Tensor]) -> LossAndImages:
    """Six calls of the generator and six of the critic; then, in the critic's phase, seven of the critic."""
    l1, weights = functional.l1_loss, p.config.weights
    a, b, c = batch["noisy"], batch["noisy_other"], batch["unpaired_clean"]
    if phase == "critic":
        fake = sum(p.adversarial(p.critic(image), real=False) for image in carry["generated"])
        return p.adversarial(p.critic(c), real=True) + weights.critic_fake * fake, {}
    noise_a, noise_b = p.generator(a), p.generator(b)
    a1, b1 = a - noise_a, b - noise_b
    second = [x - p.generator(x) for x in (a1 + noise_b, b1 + noise_a, c + noise_a, c + noise_b)]
    generated = [a1, b1, *second]
    total = weights.identity * (l1(second[0], a1) + l1(second[1], b1))
    total = total + weights.clean * (l1(second[2], c) + l1(second[3], c))
    total = total + weights.adversarial * sum(p.adversarial.fool(p.critic(image)) for image in generated)
    return total, {"generated": torch.stack([image.detach() for image in generated])}


def _cncl(p: Any, phase: str, batch: Batch, carry: dict[str, Tensor]) -> LossAndImages:
    """Both networks and the critic; then the critic on real and on generated images, one after the other."""
    mean, spread = p._mean_and_divisor(batch["noisy"])
    x, clean = ((batch[name] - mean) / spread for name in ("noisy", "clean"))
    if phase == "critic":
        real = p.adversarial(p.critic(torch.cat([clean, x - clean, x], 1)), real=True)
        return 0.5 * (real + p.adversarial(p.critic(carry["triple"]), real=False)), {}
    noise = p.noise(x)
    generated = torch.cat([p.fusion(p.content(x), x - noise), noise], 1)
    triple = torch.cat([generated, x], 1)
    pixels = functional.l1_loss(generated, torch.cat([clean, x - clean], 1))
    return p.adversarial.fool(p.critic(triple)) + 100 * pixels, {"triple": triple.detach()}


def _drgan(p: Any, phase: str, batch: Batch, carry: dict[str, Tensor]) -> LossAndImages:
    """Four calls of each encoder and six of the decoders; as published, two of the codes are not used."""
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


def _dual_domain(p: Any, phase: str, batch: Batch, carry: dict[str, Tensor]) -> LossAndImages:
    """Two calls of the encoder and four of the decoders, which convolve zeros in place of missing skips."""
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


def use_plain_layers(replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Replace, in this process, our norms by torch's, and Spectroformer's attention and spectra by the published ones.

    Args:
        replace: Sets an attribute; tests pass `monkeypatch.setattr`.
    """

    def group_norm(x: Tensor, groups: int, weight: Any, bias: Any, eps: float) -> Tensor:
        return functional.group_norm(x, groups, weight, bias, eps)

    def instance_norm(x: Tensor, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
        return functional.instance_norm(x, weight=weight, bias=bias, eps=eps)

    def frequency_filter(self: Any, x: Tensor) -> Tensor:
        return torch.fft.ifft2(self.mix(torch.fft.fft2(x).real)).real

    def fourier_upsample(self: Any, x: Tensor) -> Tensor:
        spectrum = torch.fft.fft2(x)
        size, angle = self.magnitude(spectrum.abs()).tile(2, 2), self.phase(angle_of(spectrum)).tile(2, 2)
        return self.post(torch.fft.ifft2(torch.complex(size * angle.cos(), size * angle.sin())).abs())

    def phase_gate(self: Any, x: Tensor) -> Tensor:
        angle = angle_of(torch.fft.fft2(x))
        mean_NC = torch.fft.ifft2(torch.complex(angle.cos(), angle.sin())).real.mean((2, 3))
        return x * torch.sigmoid(self.mix(mean_NC[:, None]))[:, 0, :, None, None]

    def channel_norm(self: Any, x: Tensor) -> Tensor:
        return nn.LayerNorm.forward(self, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()

    def attention_map(self: Any, query: Tensor, key: Tensor) -> Tensor:
        N, C, H, W = key.shape
        heads = self.temperature.shape[1]
        q, k = (x.reshape(N, heads, C // heads, H * W) for x in (query, key))
        q, k = (functional.normalize(x, dim=-1, eps=spectroformer_attention.EPS) for x in (q, k))
        return torch.softmax(q @ k.transpose(-2, -1) * self.temperature, dim=-1)

    replace(norms, "group_norm", group_norm)
    for module in (norms, drgan_blocks):
        replace(module, "instance_norm", instance_norm)
    replace(spectroformer_attention.FrequencyFilter, "forward", frequency_filter)
    replace(spectroformer_attention.ChannelNorm, "forward", channel_norm)
    replace(spectroformer_attention.QueryCascade, "_map", attention_map)
    replace(spectroformer_resampling.FourierUpsample, "forward", fourier_upsample)
    replace(spectroformer_skips.PhaseGate, "forward", phase_gate)
