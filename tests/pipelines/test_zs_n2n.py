"""ZS-N2N: its loss on the two halves, and adapting to one image without a trace in the trained network."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from quell.configs.fields import FieldSpec
from quell.pipelines.common.self_supervised import subsampling
from quell.pipelines.common.self_supervised.adaptation import places
from quell.pipelines.zs_n2n import ZsN2N

NETWORK = {"name": "dncnn", "depth": 3, "width": 4, "bias": True, "norm": "none"}


def method(**settings: Any) -> ZsN2N:
    torch.manual_seed(0)
    config = ZsN2N.Config(name="zs_n2n", network=NETWORK, **{"adapt_steps": 3, "adapt_crop": 16, **settings})
    return ZsN2N(config, {"noisy": FieldSpec(1)}).eval()


def batch(*indices: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(1)
    images = 0.5 + 0.1 * torch.randn(3, 1, 25, 20, generator=random)
    return {"noisy": images[list(indices)], "index": torch.tensor(indices)}


def test_the_identity_has_the_squared_difference_of_the_halves_as_its_loss() -> None:
    made = method()
    made.network = torch.nn.Identity()
    output = made.loss("restorer", batch(0, 1), {})
    first, second = subsampling.diagonal_halves(subsampling.even(batch(0, 1)["noisy"]))
    assert torch.isclose(output.loss, (first - second).square().mean())
    assert not output.scalars["consistency"]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_adapting_changes_the_result_but_not_the_network(mode: Any) -> None:
    made, plain = method(), method(adapt_steps=0)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    with mode():
        restored = made.restore(batch(0, 1, 2))["restored"]
        assert not torch.equal(restored, plain.restore(batch(0, 1, 2))["restored"])
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in made.parameters())


def test_a_result_depends_on_its_own_image_and_index_alone() -> None:
    made = method()
    together = made.restore(batch(0, 1, 2))["restored"]
    assert torch.equal(made.restore(batch(1))["restored"], together[1:2])


def test_windows_of_version_1_are_those_of_torch() -> None:
    random, below = torch.Generator().manual_seed(12), places(12, version=1)
    assert [below(40) for _ in range(20)] == [int(torch.randint(40, (), generator=random)) for _ in range(20)]
    below = places(12)
    drawn = [below(40) for _ in range(4000)]
    counts = torch.bincount(torch.tensor(drawn), minlength=40).double()
    assert len(counts) == 40 and (counts - 100).square().sum() / 100 < 39 + 5 * (2 * 39) ** 0.5
    again = places(12)
    assert [again(40) for _ in range(4000)] == drawn and [places(seed)(1000) for seed in range(9)] != [drawn[0]] * 9


def test_adapting_lowers_the_loss_on_the_image() -> None:
    image = batch(0)
    losses = []
    for steps in (0, 60):
        made = method(adapt_steps=steps, adapt_crop=0, adapt_lr=5e-3)
        made.network = made._adapted(image["noisy"], 0)
        with torch.no_grad():
            losses.append(float(made.loss("restorer", image, {}).loss))
    assert losses[1] < 0.8 * losses[0]


def test_correlated_noise_is_warned_of_before_training() -> None:
    made = method()
    random = torch.Generator().manual_seed(2)
    white = 0.1 * torch.randn(4, 1, 128, 130, generator=random)
    streaks = functional.avg_pool2d(white, (1, 3), 1) * 3**0.5
    for noise, count in ((white, 0), (streaks, 1)):
        made.calibrate([{"noisy": 0.5 + noise, "noisy_scale": torch.ones(4, 1, 1, 1)}])
        assert len(made.warnings()) == count
