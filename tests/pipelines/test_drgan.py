"""DRGAN's losses against the published ones, computed image by image; noise patches; when networks train."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from quell.configs.errors import ConfigError
from quell.configs.fields import FieldSpec
from quell.pipelines.base import Batch
from quell.pipelines.common import noise_patches
from quell.pipelines.drgan import KINDS, Drgan
from tests.support.images import uniform_batch
from tests.support.phases import assert_each_phase_trains_only_its_parts

CRITIC = {"name": "patch_discriminator", "width": 4, "variant": "cyclegan"}


def pipeline(**options: Any) -> Drgan:
    """A small DRGAN in float64 with the same initial weights every time."""
    torch.manual_seed(0)
    settings = {"width": 4, "blocks": 2, "critic": CRITIC, "noise_patch_px": 32, **options}
    fields = dict.fromkeys(("noisy", "unpaired_clean"), FieldSpec(1))
    return Drgan(Drgan.Config(name="drgan", **settings), fields).double()


def batch(n: int = 2, side: int = 64, seed: int = 1) -> Batch:
    """A float64 batch in [0, 1], as a loader yields it."""
    return uniform_batch("noisy", "unpaired_clean", count=n, side=side, seed=seed)


def by_hand(method: Drgan, data: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """The images of the published method by name, each from its own pass, and the loss of the generators."""
    e_c, e_n, g_c, g_n = method.content_encoder, method.noise_encoder, method.clean_decoder, method.noisy_decoder
    x, y = data["noisy"] * 2 - 1, data["unpaired_clean"] * 2 - 1
    clean_x, noisy_y = g_c(e_c(x)), g_n(e_c(y), e_n(x))
    recon_x, recon_y = g_n(e_c(x), e_n(x)), g_c(e_c(y))
    cycle_x, cycle_y = g_n(e_c(clean_x), e_n(noisy_y)), g_c(e_c(noisy_y))

    def real(scores: Tensor) -> Tensor:
        return (scores - 1).square().mean()

    def l1(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().mean()

    def cut(image: Tensor) -> Tensor:
        return torch.cat([image[:, :, i : i + 32, j : j + 32] for i in (0, 32) for j in (0, 32)])

    adversarial = real(method.critic_clean(clean_x)) + real(method.critic_noisy(noisy_y))
    noise = real(method.critic_noise(cut(x - clean_x))) + real(method.critic_noise(cut(noisy_y - y)))
    loss = adversarial + 10 * (l1(cycle_x, x) + l1(cycle_y, y)) + 10 * (l1(recon_x, x) + l1(recon_y, y)) + noise
    return {"x": x, "y": y, "clean_x": clean_x, "noisy_y": noisy_y}, loss


def test_the_generators_loss_equals_the_published_one() -> None:
    method, data = pipeline(), batch()
    step = method.loss("generator", data, {})
    images, expected = by_hand(method, data)
    torch.testing.assert_close(step.loss, expected, rtol=1e-9, atol=1e-11)
    for name in ("clean_x", "noisy_y"):
        torch.testing.assert_close(step.carry[name], images[name].detach(), rtol=1e-9, atol=1e-11)
    parameters = method.trained_parameters("generator")
    gradients, expected_gradients = (torch.autograd.grad(loss, parameters) for loss in (step.loss, expected))
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-7, atol=1e-10)


def test_the_critics_loss_equals_the_published_one() -> None:
    method, data = pipeline(pool_size=0), batch()
    step = method.loss("critic", data, method.loss("generator", data, {}).carry)
    images = {name: image.detach() for name, image in by_hand(method, data)[0].items()}
    patches = noise_patches.flattest(data["noisy"], 32) * 2
    patches = patches - patches.mean((2, 3), keepdim=True)

    def critic_loss(critic: torch.nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        return ((critic(real) - 1).square().mean() + critic(fake).square().mean()) / 2

    expected = critic_loss(method.critic_clean, images["y"], images["clean_x"])
    expected = expected + critic_loss(method.critic_noisy, images["x"], images["noisy_y"])
    for residual in (images["x"] - images["clean_x"], images["noisy_y"] - images["y"]):
        expected = expected + critic_loss(method.critic_noise, patches, noise_patches.tiles(residual, 32, 32))
    torch.testing.assert_close(step.loss, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("gan", ["lsgan", "vanilla", "hinge"])
def test_each_phase_trains_only_its_own_networks(gan: str) -> None:
    assert_each_phase_trains_only_its_parts(pipeline(gan=gan), batch())


def test_critics_train_at_every_fifth_step() -> None:
    method = pipeline()
    assert [step for step in range(12) if method.is_active("critic", step)] == [0, 5, 10]
    assert all(method.is_active("generator", step) for step in range(12))


def test_pools_hold_five_images_of_each_kind_and_are_restored_from_a_checkpoint() -> None:
    def losses(method: Drgan, seeds: range) -> list[Tensor]:
        values = []
        for seed in seeds:
            data = batch(seed=seed)
            values.append(method.loss("critic", data, method.loss("generator", data, {}).carry).loss.detach())
        return values

    method = pipeline()
    losses(method, range(4))
    assert {kind: len(pool.images) for kind, pool in method.pools.pools.items()} == dict.fromkeys(KINDS, 5)
    state = method.rank_state()
    expected = losses(method, range(4, 8))
    resumed = pipeline()
    resumed.load_rank_state(state)
    assert all(map(torch.equal, expected, losses(resumed, range(4, 8))))


@pytest.mark.parametrize("level", [0.0, 0.4])
def test_the_noise_critic_gets_patches_without_their_brightness(level: float) -> None:
    """The published patches are dark images in [-1, 1]: a critic can recognise them by their mean alone."""
    method, data = pipeline(), batch()
    noise = 0.05 * (data["noisy"] - 0.5)
    critic_inputs: list[Tensor] = []
    method.critic_noise.register_forward_pre_hook(lambda _, inputs: critic_inputs.append(inputs[0]))
    data["noisy"] = level + noise
    method.loss("critic", data, method.loss("generator", data, {}).carry)
    _, real, generated = critic_inputs  # residuals in the generators' phase; patches and residuals in the critic's
    assert real.shape == (2, 1, 32, 32) and generated.shape == (16, 1, 32, 32)
    assert real.mean((2, 3)).abs().max() < 1e-12
    assert real.std().item() == pytest.approx(2 * noise.std().item(), rel=0.1)


def test_noise_patches_of_the_batch_are_used() -> None:
    method, data = pipeline(), batch()
    carry = method.loss("generator", data, {}).carry
    patch = 0.3 + 0.01 * torch.randn(2, 1, 40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    given = {**data, "noise_patch": patch, "noise_patch_scale": torch.ones(2, 1, 1, 1)}
    torch.testing.assert_close(method._patches(given), 2 * (patch - patch.mean((2, 3), keepdim=True)))
    assert method.loss("critic", given, carry).loss != pipeline().loss("critic", data, carry).loss


def test_the_flattest_patch_is_background_but_not_a_blank_margin() -> None:
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(192.0), indexing="ij")
    image = 0.5 + 0.4 * torch.sin(rows / 9) * torch.cos(columns / 11) + 0.05 * torch.randn(128, 192)
    image[64:96, 32:64] = 0.2 + 0.05 * torch.randn(32, 32)  # background
    image[:40] = 1.0  # a blank margin, without noise
    (patch,) = noise_patches.flattest(image[None, None], 32)
    assert torch.equal(patch[0], image[64:96, 32:64])


def test_any_image_has_a_flattest_patch() -> None:
    blank = torch.full((1, 1, 40, 50), 0.25)
    assert noise_patches.flattest(blank, 64).shape == (1, 1, 40, 40)


def test_tiles_cover_the_image_in_order() -> None:
    image = torch.arange(4 * 6).float().view(1, 1, 4, 6)
    cut = noise_patches.tiles(image, 2, 2)
    assert cut.shape == (6, 1, 2, 2)
    assert cut[1, 0].tolist() == [[2, 3], [8, 9]] and cut[5, 0].tolist() == [[16, 17], [22, 23]]
    assert noise_patches.tiles(image, 3, 8).shape == (1, 1, 3, 6)


@pytest.mark.parametrize("side", [(5, 7), (33, 64)])
def test_restored_images_have_the_size_and_units_of_the_noisy_one(side: tuple[int, int]) -> None:
    method = pipeline(range=(-100.0, 300.0))
    noisy = torch.rand(2, 1, *side, dtype=torch.float64) * 400 - 100
    scale = torch.tensor([1.0, 20.0], dtype=torch.float64).view(2, 1, 1, 1)
    restored = method.restore({"noisy": noisy / scale, "noisy_scale": scale})["restored"] * scale
    assert restored.shape == noisy.shape
    assert restored.min() >= -100 and restored.max() <= 300
    torch.testing.assert_close(restored[:1], method.restore({"noisy": noisy[:1], "noisy_scale": scale[:1]})["restored"])


def test_real_and_imaginary_parts_need_a_range_below_zero() -> None:
    fields = dict.fromkeys(("noisy", "unpaired_clean"), FieldSpec(2, "ri"))
    with pytest.raises(ConfigError, match="pipeline.range"):
        Drgan(Drgan.Config(name="drgan", width=2), fields)
    Drgan(Drgan.Config(name="drgan", width=2, range=(-1.0, 1.0)), fields)


def test_a_reversed_range_is_refused() -> None:
    with pytest.raises(ValidationError, match="low < high"):
        pipeline(range=(1.0, 0.0))
