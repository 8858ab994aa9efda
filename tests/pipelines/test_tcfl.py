"""TCFL's losses against the published equations, computed one generator pass at a time; and its diagnostics."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.configs.fields import FieldSpec
from quell.pipelines.base import Batch
from quell.pipelines.tcfl import ESTIMATES, Tcfl
from tests.support.images import normal_image, uniform_batch
from tests.support.phases import assert_each_phase_trains_only_its_parts

SMALL = {"name": "dncnn", "depth": 4, "width": 6, "residual": False, "activation": "leaky_relu", "norm": "instance"}
CRITIC = {"name": "patch_discriminator", "width": 4}
OPTIONS: dict[str, dict[str, Any]] = {
    "lsgan": {"weights": {"critic_fake": 0.1}},
    "vanilla": {},
    "hinge": {},
    "wgan": {"critic_clip": 0.01},
    "wgan_gp": {},
}


def pipeline(**options: Any) -> Tcfl:
    """A small TCFL in float64 with the same initial weights every time."""
    torch.manual_seed(0)
    config = Tcfl.Config(name="tcfl", **{"generator": SMALL, "critic": CRITIC, **options})
    return Tcfl(config, dict.fromkeys(("noisy", "noisy_other", "unpaired_clean"), FieldSpec(1))).double()


def batch(n: int = 2, side: int = 40, seed: int = 1) -> Batch:
    """A float64 batch as a loader yields it, with the draw for a gradient penalty."""
    images = uniform_batch("noisy", "noisy_other", "unpaired_clean", count=n, side=side, seed=seed)
    return {**images, "penalty_normal": normal_image(n, 1, side, side, seed=seed, dtype=torch.float64)}


def six_passes(generator: nn.Module, a: Tensor, b: Tensor, c: Tensor) -> list[Tensor]:
    """The estimates of appendix C.1 of the paper, in six passes of the generator."""
    noise_a, noise_b = generator(a), generator(b)
    c_a1, c_b1 = a - noise_a, b - noise_b
    mixed_a, mixed_b = c_a1 + noise_b, c_b1 + noise_a
    c_a2, c_b2 = mixed_a - generator(mixed_a), mixed_b - generator(mixed_b)
    mixed_1, mixed_2 = c + noise_a, c + noise_b
    return [c_a1, c_b1, c_a2, c_b2, mixed_1 - generator(mixed_1), mixed_2 - generator(mixed_2)]


def images(data: Batch) -> tuple[Tensor, Tensor, Tensor]:
    return data["noisy"], data["noisy_other"], data["unpaired_clean"]


def gradients(loss: Tensor, network: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(network.parameters())))


def assert_all_close(actual: list[Tensor], expected: list[Tensor]) -> None:
    for value, expected_value in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, expected_value, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("together", [True, False])
def test_the_generators_loss_equals_the_published_one(together: bool) -> None:
    method, data = pipeline(batch_passes=together, weights={"identity": 6, "clean": 6}), batch()
    step = method.loss("generator", data, {})
    estimates = six_passes(method.generator, *images(data))
    a1, b1, a2, b2, c1, c2 = estimates
    c = data["unpaired_clean"]
    l1 = nn.functional.l1_loss
    expected = 6 * (l1(a1, a2) + l1(b1, b2) + l1(c1, c) + l1(c2, c))
    for image in estimates:  # not the clean image, which the critic sees in its own phase
        scores = method.critic(image)
        expected = expected + nn.functional.mse_loss(scores, torch.ones_like(scores))
    torch.testing.assert_close(step.loss, expected, rtol=1e-10, atol=1e-12)
    assert_all_close(gradients(step.loss, method.generator), gradients(expected, method.generator))
    assert_all_close([step.carry["estimates"]], [torch.cat(estimates)])


def test_the_critics_loss_equals_the_published_one() -> None:
    method, data = pipeline(weights={"critic_fake": 0.1}, pool_size=0), batch()
    step = method.loss("critic", data, method.loss("generator", data, {}).carry)
    mse = nn.functional.mse_loss
    real = method.critic(data["unpaired_clean"])
    expected = mse(real, torch.ones_like(real))
    for image in six_passes(method.generator, *images(data)):
        fake = method.critic(image.detach())
        expected = expected + 0.1 * mse(fake, torch.zeros_like(fake))
    torch.testing.assert_close(step.loss, expected, rtol=1e-10, atol=1e-12)
    assert_all_close(gradients(step.loss, method.critic), gradients(expected, method.critic))


def test_separate_passes_have_separate_batch_norm_statistics() -> None:
    data = batch()
    together = pipeline(generator={**SMALL, "norm": "batch"}).loss("generator", data, {})
    apart = pipeline(generator={**SMALL, "norm": "batch"}, batch_passes=False)
    a1 = apart.loss("generator", data, {}).carry["estimates"][:2]
    noise = pipeline(generator={**SMALL, "norm": "batch"}).generator(data["noisy"])
    assert_all_close([a1], [(data["noisy"] - noise).detach()])
    assert (together.carry["estimates"][:2] - a1).abs().max() > 1e-4


@pytest.mark.parametrize(("together", "calls"), [(True, 2), (False, 6)])
def test_the_critic_judges_the_images_generated_before_the_generators_step(together: bool, calls: int) -> None:
    method, data = pipeline(batch_passes=together), batch()
    counts = {"generator": 0, "critic": 0}
    for name in counts:
        getattr(method, name).register_forward_hook(lambda *_, name=name: counts.update({name: counts[name] + 1}))
    carry = method.loss("generator", data, {}).carry
    assert counts == {"generator": calls, "critic": 1}
    with torch.no_grad():
        next(method.generator.parameters()).add_(1.0)  # stands for the generator's step
    step = method.loss("critic", data, carry)
    assert counts == {"generator": calls, "critic": 2}
    assert not any(value.requires_grad for value in (*carry.values(), *step.scalars.values()))
    stored = torch.cat([image[None] for kind in ESTIMATES for image in method.pools.pools[kind].images])
    assert_all_close([stored], [carry["estimates"]])


@pytest.mark.parametrize("gan", sorted(OPTIONS))
def test_each_phase_trains_only_its_own_network(gan: str) -> None:
    assert_each_phase_trains_only_its_parts(pipeline(gan=gan, **OPTIONS[gan]), batch())


def test_the_critics_loss_does_not_reach_the_generator() -> None:
    method, data = pipeline(), batch()
    method.loss("critic", data, method.loss("generator", data, {}).carry).loss.backward()
    assert all(parameter.grad is None for parameter in method.generator.parameters())


def test_the_critics_weights_are_clipped_after_its_step() -> None:
    method = pipeline(gan="wgan", critic_clip=1e-3)
    method.after_step("generator")
    assert max(p.abs().max().item() for p in method.critic.parameters()) > 1e-3
    method.after_step("critic")
    assert max(p.abs().max().item() for p in method.critic.parameters()) == pytest.approx(1e-3)


def test_the_gradient_penalty_is_added_to_the_loss_and_uses_the_draw_of_the_batch() -> None:
    method, data = pipeline(gan="wgan_gp", gradient_penalty=10.0, pool_size=0), batch()
    assert Tcfl.needs(method.config).normals == {"penalty_normal": "noisy"}
    assert Tcfl.needs(pipeline().config).normals == {}
    carry = method.loss("generator", data, {}).carry
    output = method.loss("critic", data, carry)
    assert output.scalars["penalty"] > 0
    wasserstein = output.scalars["score_estimates"] - output.scalars["score_clean"]
    torch.testing.assert_close(output.loss.detach(), wasserstein + 10 * output.scalars["penalty"])
    assert torch.equal(output.loss, method.loss("critic", data, carry).loss)
    other_draw = method.loss("critic", {**data, "penalty_normal": -data["penalty_normal"]}, carry)
    assert other_draw.scalars["penalty"] != output.scalars["penalty"]


def test_the_generator_is_inactive_between_critic_updates() -> None:
    method, data = pipeline(critic_updates=3), batch()
    assert [method.is_active("generator", step) for step in range(6)] == [True, False, False] * 2
    assert all(method.is_active("critic", step) for step in range(6))
    every_step = pipeline()
    carry = every_step.loss("generator", data, {}).carry
    assert_all_close([method.loss("critic", data, {}).loss], [every_step.loss("critic", data, carry).loss])


def test_pools_are_restored_from_a_checkpoint() -> None:
    def critic_losses(method: Tcfl, seeds: range) -> list[Tensor]:
        losses = []
        for seed in seeds:
            data = batch(seed=seed)
            losses.append(method.loss("critic", data, method.loss("generator", data, {}).carry).loss.detach())
        return losses

    method = pipeline(pool_size=3)
    critic_losses(method, range(5))
    state = method.rank_state()
    expected = critic_losses(method, range(5, 10))
    fresh, resumed = pipeline(pool_size=3), pipeline(pool_size=3)
    resumed.load_rank_state(state)
    assert all(map(torch.equal, expected, critic_losses(resumed, range(5, 10))))
    assert not all(map(torch.equal, expected, critic_losses(fresh, range(5, 10))))


def test_without_critic_and_separation_the_loss_of_any_constant_generator_is_zero() -> None:
    """The identity and clean terms vanish for every constant noise map, not only for zero."""
    method, data = pipeline(gan="none", separation="exp", weights={"separation": 2.0}), batch()
    make_constant(method.generator, 0.7)
    parts = method.loss("generator", data, {}).scalars
    for term in ("identity", "clean", "separation"):
        assert parts[term].abs() < 1e-12


def make_constant(generator: nn.Module, level: float) -> None:
    """Make the generator return the same map for every image."""
    layer = list(generator.modules())[-1]
    assert isinstance(layer, nn.Conv2d)
    nn.init.zeros_(layer.weight)
    layer.bias = nn.Parameter(torch.full((1,), level, dtype=torch.float64))


@pytest.mark.parametrize("count", [1, 3])
def test_a_constant_generator_is_reported(count: int) -> None:
    method, data = pipeline(), batch(count, side=150)
    healthy = method.diagnostics(data, {})
    assert healthy["noise_variance"].shape == (count,)
    means = {name: values.mean().item() for name, values in healthy.items()}
    assert [finding.ok for finding in method.findings(means)] == [True]
    make_constant(method.generator, 0.3)
    means = {name: values.mean().item() for name, values in method.diagnostics(data, {}).items()}
    assert means["noise_variance"] == 0
    (finding,) = method.findings(means)
    assert finding.name == "constant_generator" and not finding.ok and "constant" in finding.message
    assert method.findings({}) == []


def test_the_noise_variance_is_computed_over_pairs_of_inputs() -> None:
    method, data = pipeline(), batch(3, side=40)
    noise = method.generator(data["noisy"])
    value = method.diagnostics(data, {})["noise_variance"][1]
    expected = torch.stack([noise[1], noise[2]]).var(0).mean()
    torch.testing.assert_close(value, expected.detach())


def test_restored_images_are_clipped_in_stored_units() -> None:
    data = batch(2, side=37)
    data["noisy_scale"] = torch.tensor([1.0, 4.0], dtype=torch.float64).view(2, 1, 1, 1)
    method = pipeline()
    make_constant(method.generator, -5.0)
    assert (method.restore(data)["restored"] * data["noisy_scale"]).eq(1.0).all()
    free = pipeline(clip=None)
    assert_all_close([free.restore(data)["restored"]], [data["noisy"] - free.generator(data["noisy"])])


def test_real_and_imaginary_parts_are_not_clipped_at_zero() -> None:
    fields = dict.fromkeys(("noisy", "noisy_other", "unpaired_clean"), FieldSpec(2, "ri"))
    with pytest.raises(ConfigError, match="pipeline.clip=null"):
        Tcfl(Tcfl.Config(name="tcfl"), fields)
    for clip in (None, (-1.0, 1.0)):
        Tcfl(Tcfl.Config(name="tcfl", clip=clip), fields)


def test_one_generator_alone_learns_to_separate_its_maps() -> None:
    weights = {"identity": 0, "clean": 0, "separation": 5.0}
    method, data = pipeline(gan="none", separation="exp", weights=weights), batch()
    assert list(method.phases) == ["generator"] and not hasattr(method, "critic")
    optimizer = torch.optim.Adam(method.trained_parameters("generator"), 1e-2)
    distances = []
    for _ in range(15):
        optimizer.zero_grad()
        step = method.loss("generator", data, {})
        step.loss.backward()
        optimizer.step()
        distances.append(step.scalars["separation"].item())
    assert -1.0 <= distances[-1] < distances[0] - 0.1


def test_total_variation_is_summed_over_the_estimates() -> None:
    data = batch()
    with_term = pipeline(weights={"total_variation": 0.5}).loss("generator", data, {})
    without = pipeline().loss("generator", data, {})
    estimates = without.carry["estimates"].chunk(6)
    expected = torch.stack([x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean() for x in estimates]).sum()
    torch.testing.assert_close(with_term.loss - without.loss, 0.5 * expected)
    squared = pipeline(weights={"total_variation": 0.5}, total_variation="squared").loss("generator", data, {})
    squares = [2 * (x.diff(dim=2).square().mean() + x.diff(dim=3).square().mean()) for x in estimates]
    torch.testing.assert_close(squared.loss - without.loss, 0.5 * torch.stack(squares).sum())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gan": "wgan"}, "critic_clip belong together"),
        ({"critic_clip": 0.01}, "critic_clip belong together"),
        ({"gan": "wgan_gp", "weights": {"critic_fake": 0.1}}, "must be null"),
        ({"separation": "exp"}, "weights.separation > 0"),
        ({"weights": {"separation": 1.0}}, "needs a form"),
        ({"gan": "none"}, "any constant noise map"),
        ({"weights": {"total_variation": -0.2}}, "greater than or equal to 0"),
        ({"generator": {"name": "dncnn", "residual": True}}, "residual must be false"),
        ({"clip": (1.0, 0.0)}, "low < high"),
    ],
)
def test_invalid_settings_are_refused_with_a_reason(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        pipeline(**options)
