"""The dual-domain method: its networks, loss terms, skip strategies, and diagnostics."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from quell.configs.fields import FieldSpec
from quell.losses.common.noise_level import noise_levels_on_device
from quell.losses.noise.model import FieldNoise, spectrum_of_kernel
from quell.pipelines.common.dual_domain import instruments
from quell.pipelines.dual_domain import DualDomain

STRATEGIES = ["no_skip", "use_target_skip", "use_source_skip", "zero_skip", "mixed_skip"]


def make(channels: int = 2, *, is_complex: bool = False, small: bool = True, **settings: object) -> DualDomain:
    torch.manual_seed(0)
    sizes = {"encoder_features": (4, 8, 16), "decoder_features": (16, 8, 4), "latent_channels": 8} if small else {}
    config = DualDomain.Config.model_validate({"name": "dual_domain", **sizes, **settings})
    spec = FieldSpec(channels, "complex" if is_complex else "ri" if channels == 2 else "real")
    return DualDomain(config, {"pd": spec, "pdfs": spec})


def batch(n: int = 3, channels: int = 2, size: int = 12, *, sigma: float = 0.1, dtype=torch.float64) -> dict:
    """Smooth clean pairs, copies with noise of `sigma` per component, and the random draws that a step needs."""
    rng = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    ramp = torch.linspace(0, 3, size, dtype=torch.float64)
    waves = torch.stack([torch.sin(ramp * (1 + i))[:, None] * torch.cos(ramp) for i in range(n)])[:, None]
    clean = {"pd": (1 + waves).expand(-1, channels, -1, -1), "pdfs": (2 - waves**2).expand(-1, channels, -1, -1)}
    fields: dict = {f"{name}_clean": value.to(dtype) for name, value in clean.items()}
    fields |= {name: (value + sigma * noise(*value.shape)).to(dtype) for name, value in clean.items()}
    fields |= {f"{name}_normal": noise(*clean[name].shape).to(dtype) for name in clean}
    return fields


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 2_778_178),
        ({"latent_channels": 512, "decoder_features": (512, 256, 128)}, 7_540_546),
    ],
)
@pytest.mark.parametrize("is_complex", [True, False])
def test_parameter_counts_are_the_documented_ones(settings: dict, count: int, is_complex: bool) -> None:
    pipeline = make(1, is_complex=is_complex, small=False, **settings)
    assert sum(p.numel() for p in pipeline.trained_parameters("denoiser")) == count
    if is_complex:
        real = sum(
            torch.view_as_real(p).numel() if p.is_complex() else p.numel()
            for p in pipeline.trained_parameters("denoiser")
        )
        assert real == {2_778_178: 5_553_028, 7_540_546: 15_076_228}[count]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("same", [True, False])
def test_batched_passes_equal_separate_ones(strategy: str, same: bool) -> None:
    pipeline = make(cross_domain_strategy=strategy, same_domain_use_skip=same, mixed_skip_alpha=0.3).double()
    data = batch()
    images = pipeline.restore(data)
    z_a, skips_a = pipeline.encoder(data["pd"])
    z_b, skips_b = pipeline.encoder(data["pdfs"])
    mixed = [0.3 * a + 0.7 * b for a, b in zip(skips_a, skips_b, strict=True)]
    cross = {
        "no_skip": None,
        "zero_skip": None,
        "use_target_skip": skips_a,
        "use_source_skip": skips_b,
        "mixed_skip": mixed,
    }[strategy]
    torch.testing.assert_close(images["pd_cross"], pipeline.decoder_a(z_b, cross, size=(12, 12)))
    torch.testing.assert_close(images["pd_same"], pipeline.decoder_a(z_a, skips_a if same else None, size=(12, 12)))
    torch.testing.assert_close(images["pdfs_same"], pipeline.decoder_b(z_b, skips_b if same else None, size=(12, 12)))


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    weights = {"content": 0.5, "recon": 0.2, "cross": 1.5, "edge": 0.05}
    pipeline = make(weights=weights, sigma_a=0, sigma_b=0).double()
    data = batch()
    step = pipeline.loss("denoiser", data, {})
    total = sum(weight * step.scalars[term] for term, weight in weights.items())
    torch.testing.assert_close(step.loss.detach(), total)
    images = pipeline.restore(data)
    pd, pdfs = (torch.hypot(*(images[f"{f}_cross"] - data[f]).unbind(1)).mean() for f in ("pd", "pdfs"))
    torch.testing.assert_close(step.scalars["cross"], (pd + pdfs).detach())


def test_raw_units_change_the_cross_and_edge_terms_alone() -> None:
    """As the original computes them: both images times what they were divided by."""
    weights = {"content": 0.5, "recon": 0.2, "cross": 1.5, "edge": 0.05}
    median = make(weights=weights, sigma_a=0, sigma_b=0).double()
    raw = make(weights=weights, sigma_a=0, sigma_b=0, units="raw", raw_gain=0.1).double()
    raw.load_state_dict(median.state_dict())
    data = batch()
    data |= {
        f"{field}_scale": torch.full((len(data["pd"]), 1, 1, 1), 0.05, dtype=torch.float64) for field in ("pd", "pdfs")
    }
    expected, measured = (pipeline.loss("denoiser", data, {}).scalars for pipeline in (median, raw))
    for term, factor in {"content": 1.0, "recon": 1.0, "cross": 0.005, "edge": 0.005}.items():
        torch.testing.assert_close(measured[term], expected[term] * factor, rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(measured["variance_cross"], expected["variance_cross"] * 0.005**2)
    torch.testing.assert_close(measured["variance_latent"], expected["variance_latent"])


@pytest.mark.parametrize("name", ["cosine_content", "predicted_content", "vicreg", "info_nce"])
def test_the_content_term_is_chosen_by_name_and_fully_trained(name: str) -> None:
    pipeline = make(content=name, sigma_a=0, sigma_b=0)
    data = batch(dtype=torch.float32)
    step = pipeline.loss("denoiser", data, {})
    z_a, z_b = (pipeline.encoder(data[field])[0] for field in ("pd", "pdfs"))
    torch.testing.assert_close(step.scalars["content"], pipeline.content(z_a, z_b).detach())
    step.loss.backward()
    assert all(p.grad is not None for p in pipeline.trained_parameters("denoiser"))
    assert len(pipeline.trained_parameters("denoiser")) == len(list(pipeline.parameters()))


def test_the_weights_of_content_and_cross_ramp_up() -> None:
    weights = {"content": 0.5, "recon": 0.2, "cross": 1.5, "edge": 0.05}
    pipeline = make(weights=weights, ramp_steps=4, sigma_a=0, sigma_b=0).double()
    data = batch()
    for step, ramp in ((0, 0.25), (1, 0.5), (3, 1.0), (9, 1.0)):
        pipeline.on_step_start(step, 0.0)
        output = pipeline.loss("denoiser", data, {})
        total = sum(w * output.scalars[t] * (ramp if t in ("content", "cross") else 1) for t, w in weights.items())
        torch.testing.assert_close(output.loss.detach(), total)


def test_noise_is_added_to_the_input_and_not_to_the_target() -> None:
    quiet, loud = make(sigma_a=0, sigma_b=0).double(), make(sigma_a=3.0, sigma_b=0).double()
    data = batch()
    shifted = {**data, "pd": data["pd"] + 3.0 * data["pd_normal"]}
    z_loud = loud.encoder(shifted["pd"])[0]
    restored = loud.decoder_a(z_loud, loud.encoder(shifted["pd"])[1], size=(12, 12))
    recon = (
        torch.hypot(*(restored - data["pd"]).unbind(1)).mean()
        + torch.hypot(*(quiet.restore(data)["pdfs_same"] - data["pdfs"]).unbind(1)).mean()
    )
    torch.testing.assert_close(loud.loss("denoiser", data, {}).scalars["recon"], recon.detach())


def test_every_parameter_gets_a_gradient_unless_identity_mapping_is_on() -> None:
    default = make()
    default.loss("denoiser", batch(dtype=torch.float32), {}).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in default.trained_parameters("denoiser"))
    identity = make(identity_mapping=True, weights={"content": 0, "recon": 0, "cross": 1})
    identity.loss("denoiser", batch(dtype=torch.float32), {}).loss.backward()
    learning = {n for n, p in identity.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert learning == {"decoder_a.outc.bias", "decoder_b.outc.bias"}


def test_the_anti_collapse_rule_shifts_weight_after_patience() -> None:
    pipeline = make(weights={"content": 1.0, "recon": 0.5})
    low, high = {"variance_latent": 1e-6, "variance_cross": 1.0}, {"variance_latent": 1.0, "variance_cross": 1.0}
    assert pipeline.on_epoch_end(low) == [] and pipeline.on_epoch_end(high) == [] and pipeline.on_epoch_end(low) == []
    assert "content weight 1 -> 1.2" in pipeline.on_epoch_end(low)[0]
    torch.testing.assert_close(pipeline.weights, torch.tensor([1.2, 0.4, 1.0, 0.0]))
    assert "weights" in pipeline.checkpoint_state()  # so that a resumed run continues with the shifted weights


def test_the_noise_floor_is_the_mean_modulus_of_the_noise() -> None:
    for channels, factor in ((2, math.sqrt(math.pi / 2)), (1, math.sqrt(2 / math.pi))):
        data = batch(4, channels, 64, sigma=0.2)
        pipeline = make(channels).double()
        perfect = {f"{f}_{path}": data[f"{f}_clean"] for f in ("pd", "pdfs") for path in ("cross", "same")}
        measured = instruments.levels(data, perfect, pipeline.distance, pipeline.fields["pd"].layout)
        expected = torch.full((4,), 2 * 0.2 * factor, dtype=torch.float64)
        torch.testing.assert_close(measured["floor"].double(), expected, rtol=0.08, atol=0)
        torch.testing.assert_close(measured["val_cross"], expected, rtol=0.05, atol=0)


def test_copied_noise_is_reported_as_a_leak_and_a_clean_image_is_not() -> None:
    data = batch(4, 2, 64)
    pipeline = make().double()
    clean = {f"{f}_{path}": data[f"{f}_clean"] for f in ("pd", "pdfs") for path in ("cross", "same")}
    copied = {
        **clean,
        "pd_cross": 0.1 * data["pd_clean"] + 0.9 * data["pd"],
        "pdfs_cross": 0.1 * data["pdfs_clean"] + 0.9 * data["pdfs"],
    }

    def verdicts(restored: dict[str, Tensor]) -> dict[str, bool]:
        measured = {
            **instruments.levels(data, restored, pipeline.distance, pipeline.fields["pd"].layout),
            **instruments.leakage(data, restored),
        }
        return {f.name: f.ok for f in pipeline.findings({k: float(v.mean()) for k, v in measured.items()})}

    assert verdicts(copied)["leak"] is False and verdicts(copied)["leak_target"] is False
    assert all(verdicts(clean).values())


def test_equal_latents_of_different_images_are_reported_as_a_collapse() -> None:
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(4, 8, 3, 3, generator=rng)
    healthy = instruments.latents(z, z + 0.1 * torch.randn(z.shape, generator=rng))
    assert float(healthy["matched_over_mismatched"].mean()) < 0.2 < 0.5 < float(healthy["latent_spread"].mean())
    collapsed = instruments.latents(z[:1].expand(4, -1, -1, -1) + 1e-4 * z, z[:1].expand(4, -1, -1, -1))
    pipeline = make()
    (finding,) = pipeline.findings({"latent_spread": float(collapsed["latent_spread"].mean())})
    assert finding.name == "collapse" and not finding.ok
    assert instruments.latents(z[:1], z[:1])["latent_spread"].isnan().all()


@pytest.mark.parametrize(("channels", "is_complex"), [(1, False), (2, False), (1, True)])
@pytest.mark.parametrize("size", [12, 13, 15])
def test_restored_images_have_the_size_of_the_noisy_ones(channels: int, is_complex: bool, size: int) -> None:
    pipeline = make(channels, is_complex=is_complex)
    image = torch.randn(2, channels, size, size + 1, dtype=torch.complex64 if is_complex else torch.float32)
    restored = pipeline.restore({"pd": image, "pdfs": image})
    assert set(restored) == set(pipeline.outputs) == {"pd_cross", "pdfs_cross", "pd_same", "pdfs_same"}
    assert all(r.shape == image.shape and r.dtype == image.dtype for r in restored.values())


def test_the_anti_collapse_rule_never_lowers_the_content_weight() -> None:
    pipeline = make(weights={"content": 10.0, "recon": 0.5})
    low = {"variance_latent": 1e-6, "variance_cross": 1.0}
    pipeline.on_epoch_end(low), pipeline.on_epoch_end(low)
    assert pipeline.weights[:2].tolist() == pytest.approx([10.0, 0.4])


def test_a_content_term_of_weight_zero_has_no_trained_parameters() -> None:
    """DDP would wait forever for their gradients."""
    pipeline = make(content="predicted_content", weights={"content": 0})
    pipeline.loss("denoiser", batch(dtype=torch.float32), {}).loss.backward()
    assert all(p.grad is not None for p in pipeline.trained_parameters("denoiser"))


def test_the_noise_level_is_averaged_over_all_channels() -> None:
    sigmas = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    noisy = sigmas * torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    expected = math.sqrt((0.1**2 + 0.2**2 + 0.3**2) / 3)
    assert noise_levels_on_device(noisy).tolist() == pytest.approx([expected] * 2, rel=0.05)


def test_the_noise_floor_of_correlated_noise_knows_its_spectrum() -> None:
    """The wavelet estimate of the level is a third of the truth there: a leak would pass as 2.7 times the floor."""
    blur = np.outer([1.0, 4.0, 6.0, 4.0, 1.0], [1.0, 4.0, 6.0, 4.0, 1.0])
    noise, random = FieldNoise(0.2, spectrum_of_kernel(blur)), np.random.default_rng(0)
    data: dict = {}
    for name in ("pd", "pdfs"):
        clean = torch.full((4, 1, 96, 96), 0.5)
        data[f"{name}_clean"] = clean
        data[name] = (
            clean + torch.from_numpy(np.stack([noise.sample(random, (96, 96))[None] for _ in range(4)])).float()
        )
        data[f"{name}_scale"] = torch.ones(4, 1, 1, 1)
    pipeline = make(1)
    pipeline.calibrate([data])
    with torch.no_grad():
        restored = {f"{f}_{path}": data[f"{f}_clean"] for f in ("pd", "pdfs") for path in ("cross", "same")}
        measured = pipeline.diagnostics(data, restored)
    expected = torch.full((4,), 2 * 0.2 * math.sqrt(2 / math.pi))
    torch.testing.assert_close(measured["floor"], expected, rtol=0.25, atol=0)
    torch.testing.assert_close(measured["cross_over_floor"], torch.ones_like(expected), rtol=0.25, atol=0)
    assert pipeline.noise_model() is not None
