"""CNCL's losses against the published ones, its normalisations, and which networks each phase trains."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from quell.configs.fields import FieldSpec
from quell.pipelines.base import Batch
from quell.pipelines.cncl import Cncl
from tests.support.phases import assert_each_phase_trains_only_its_parts

CONTENT = {"name": "unet", "width": 4, "norm": "instance"}
NOISE = {"name": "dncnn", "depth": 3, "width": 4, "residual": False, "norm": "instance"}
CRITIC = {"name": "patch_discriminator", "width": 4, "variant": "official"}


def pipeline(*, channels: int = 1, **options: Any) -> Cncl:
    """A small CNCL in float64 with the same initial weights every time."""
    torch.manual_seed(0)
    config = Cncl.Config(name="cncl", **{"content": CONTENT, "noise": NOISE, "critic": CRITIC, **options})
    return Cncl(config, dict.fromkeys(("noisy", "clean"), FieldSpec(channels))).double()


def batch(n: int = 2, channels: int = 1, side: int = 32) -> Batch:
    """A float64 batch as a loader yields it, whose samples differ in contrast and brightness."""
    random = torch.Generator().manual_seed(1)
    shape = (n, channels, side, side)
    clean = torch.rand(shape, generator=random, dtype=torch.float64) * torch.linspace(1, 3, n).view(-1, 1, 1, 1)
    noisy = clean + 0.3 * torch.randn(shape, generator=random, dtype=torch.float64)
    images = {"noisy": noisy, "clean": clean}
    return {**images, **{f"{name}_scale": torch.ones(n, 1, 1, 1) for name in images}}


def parts_by_hand(method: Cncl, data: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Noisy and clean images, true noise, fused images and predicted noise, computed image by image."""
    rows = []
    for noisy, clean in zip(data["noisy"], data["clean"], strict=True):
        mean, std = noisy.mean(), noisy.std(correction=0)
        x, y = (noisy[None] - mean) / std, (clean[None] - mean) / std
        noise = method.noise(x)
        rows.append((x, y, x - y, method.fusion.mix(torch.cat([method.content(x), x - noise], 1)), noise))
    x, y, true_noise, fused, noise = (torch.cat(column) for column in zip(*rows, strict=True))
    return x, y, true_noise, fused, noise


def test_the_generators_loss_equals_the_published_one() -> None:
    method, data = pipeline(), batch()
    step = method.loss("generator", data, {})
    x, y, true_noise, fused, noise = parts_by_hand(method, data)
    stacked = (torch.cat([fused, noise], 1) - torch.cat([y, true_noise], 1)).abs().mean()
    scores = method.critic(torch.cat([fused, noise, x], 1))
    expected = 100 * stacked + (scores - 1).square().mean()
    torch.testing.assert_close(step.loss, expected)
    torch.testing.assert_close(step.carry["triple"], torch.cat([fused, noise, x], 1).detach())


def test_the_critics_loss_equals_the_published_one() -> None:
    method, data = pipeline(), batch()
    step = method.loss("critic", data, method.loss("generator", data, {}).carry)
    x, y, true_noise, fused, noise = parts_by_hand(method, data)
    real = method.critic(torch.cat([y, true_noise, x], 1))
    fake = method.critic(torch.cat([fused, noise, x], 1).detach())
    torch.testing.assert_close(step.loss, ((real - 1).square().mean() + fake.square().mean()) / 2)


@pytest.mark.parametrize("gan", ["lsgan", "vanilla", "hinge"])
def test_each_phase_trains_only_its_own_networks(gan: str) -> None:
    assert_each_phase_trains_only_its_parts(pipeline(gan=gan), batch())


def test_the_critic_judges_the_generated_images_without_generating_them_again() -> None:
    method, data = pipeline(), batch()
    carry = method.loss("generator", data, {}).carry
    for network in (method.content, method.noise):
        network.register_forward_hook(lambda *_: pytest.fail("an image was generated twice"))
    assert not method.loss("critic", data, carry).scalars["score_made"].requires_grad


@pytest.mark.parametrize("normalisation", ["std", "variance", "none"])
def test_restored_images_have_the_units_of_the_noisy_image(normalisation: str) -> None:
    """If both networks return zero, the result is the mean of "no content" and "no noise", in the image's units."""
    method, data = pipeline(normalisation=normalisation), batch(3)
    for network in (method.content, method.noise):
        network.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    restored = method.restore(data)["restored"]
    noisy = data["noisy"]
    level = torch.zeros(()) if normalisation == "none" else noisy.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(restored, (noisy + level) / 2)


def test_with_std_the_result_follows_brightness_and_contrast() -> None:
    method, data = pipeline(), batch()
    plain = method.restore(data)["restored"]
    scaled = method.restore({**data, "noisy": 7 * data["noisy"] + 3})["restored"]
    torch.testing.assert_close(scaled, 7 * plain + 3)


def test_a_constant_image_is_not_divided_by_zero() -> None:
    method, data = pipeline(), batch()
    assert method.restore({**data, "noisy": torch.full_like(data["noisy"], 0.5)})["restored"].isfinite().all()


def test_a_constant_image_does_not_dominate_its_batch() -> None:
    """Divided by its tiny deviation, a blank image would have an error a million times too large."""
    data = batch()
    blank = {**data, "noisy": data["noisy"].clone()}
    blank["noisy"][0] = 0.3
    for normalisation in ("std", "variance"):
        method = pipeline(normalisation=normalisation)
        usual, with_blank = (method.loss("generator", images, {}).loss.item() for images in (data, blank))
        assert with_blank < 10 * usual


def test_colour_and_odd_sizes() -> None:
    method, data = pipeline(channels=3), batch(channels=3)
    assert method.restore({"noisy": data["noisy"][..., :29, :31]})["restored"].shape == (2, 3, 29, 31)
    assert method.loss("generator", data, {}).carry["triple"].shape[1] == 9


def test_without_a_critic_there_is_one_phase() -> None:
    method = pipeline(weights={"adversarial": 0})
    assert list(method.phases) == ["generator"] and not hasattr(method, "critic")
    assert set(method.loss("generator", batch(), {}).scalars) == {"content", "noise"}


def test_parameter_counts_are_the_published_ones() -> None:
    method = Cncl(Cncl.Config(name="cncl"), dict.fromkeys(("noisy", "clean"), FieldSpec(1)))
    count = sum(parameter.numel() for parameter in method.trained_parameters("generator"))
    assert count == 43_825_413 - 384  # the published networks declare 384 parameters that they never use
    assert sum(parameter.numel() for parameter in method.trained_parameters("critic")) == 2_764_736


def test_a_noise_network_that_returns_the_content_is_refused() -> None:
    with pytest.raises(ValidationError, match="noise.residual must be false"):
        pipeline(noise={"name": "unet", "residual": True})


@pytest.mark.parametrize("name", ["unet", "dncnn", "srdensenet"])
def test_each_network_of_the_paper_can_be_either_generator(name: str) -> None:
    small: dict[str, dict[str, Any]] = {
        "unet": {"width": 4},
        "dncnn": {"depth": 3, "width": 4, "residual": False},
        "srdensenet": {"growth": 2, "layers": 2, "blocks": 2, "bottleneck": 4},
    }
    spec = {"name": name, **small[name]}
    method = pipeline(content=spec, noise=spec)
    method.loss("generator", batch(), {}).loss.backward()
    assert all(isinstance(p, nn.Parameter) and p.grad is not None for p in method.trained_parameters("generator"))
