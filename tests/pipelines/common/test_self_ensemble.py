"""Self-ensemble: the mean over the eight orientations, turned back, of every method that offers it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quell.configs.fields import FieldSpec
from quell.pipelines.base import Pipeline
from quell.pipelines.common.noise_sampling import ORIENTATIONS, oriented, undo_orientation
from quell.pipelines.common.self_ensemble import self_ensembled
from quell.pipelines.noise2noise import Noise2Noise
from quell.pipelines.r2r import R2R
from quell.pipelines.supervised import Supervised

NETWORK = {"name": "unet", "width": 4}
METHODS: dict[str, Callable[..., Pipeline[Any]]] = {
    "supervised": lambda **settings: Supervised(
        Supervised.Config(name="supervised", network=NETWORK, **settings),
        {"noisy": FieldSpec(1), "clean": FieldSpec(1)},
    ),
    "noise2noise": lambda **settings: Noise2Noise(
        Noise2Noise.Config(name="noise2noise", network=NETWORK, **settings), {"noisy": FieldSpec(1)}
    ),
    "r2r, the noisy image": lambda **settings: R2R(
        R2R.Config(name="r2r", network=NETWORK, sigma=0.1, passes=0, **settings), {"noisy": FieldSpec(1)}
    ),
}


def image(height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", METHODS)
def test_a_turned_image_is_restored_as_the_upright_one_is(name: str) -> None:
    torch.manual_seed(0)
    method = METHODS[name](self_ensemble=True).eval()
    with torch.no_grad():
        upright = method.restore({"noisy": image()})["restored"]
        for turn in range(1, ORIENTATIONS):
            turned = method.restore({"noisy": oriented(image(), turn)})["restored"]
            torch.testing.assert_close(turned, oriented(upright, turn), atol=1e-6, rtol=0)
        method.config = method.config.model_copy(update={"self_ensemble": False})
        single = method.restore({"noisy": image()})["restored"]
        views = [method.restore({"noisy": oriented(image(), turn)})["restored"] for turn in range(ORIENTATIONS)]
    assert (single - upright).abs().max() > 1e-4, "the network alone does not treat all orientations alike"
    mean = torch.stack([undo_orientation(view, turn) for turn, view in enumerate(views)]).mean(dim=0)
    torch.testing.assert_close(upright, mean, atol=1e-6, rtol=0)


def test_each_recorrupted_copy_is_restored_in_another_orientation() -> None:
    method = R2R(
        R2R.Config(name="r2r", network=NETWORK, sigma=0.1, passes=9, self_ensemble=True), {"noisy": FieldSpec(1)}
    )
    seen: list[Tensor] = []

    class Identity(nn.Module):
        def forward(self, noisy: Tensor) -> Tensor:
            seen.append(noisy)
            return noisy

    method.network = Identity()
    ramp = torch.arange(16.0).expand(1, 1, 16, 16) + 100 * torch.arange(16.0)[:, None]
    restored = method.restore({"noisy": ramp, "noisy_scale": torch.ones(1, 1, 1, 1), "index": torch.zeros(1).long()})
    torch.testing.assert_close(restored["restored"], ramp, atol=0.2, rtol=0)
    for draw, copy in enumerate(seen):
        torch.testing.assert_close(undo_orientation(copy, draw % ORIENTATIONS), ramp, atol=0.4, rtol=0)


def test_only_these_orientations_are_averaged() -> None:
    turned: list[Tensor] = []

    def record(seen: Tensor) -> Tensor:
        turned.append(seen)
        return seen

    torch.testing.assert_close(self_ensembled(record, image(), [0, 2]), image())
    assert torch.equal(turned[0], image()) and torch.equal(turned[1], image().rot90(2, (-2, -1)))


def test_half_precision_is_averaged_in_float32() -> None:
    restored = self_ensembled(lambda seen: seen.bfloat16(), image())
    assert restored.dtype == torch.float32 and torch.equal(restored, image().bfloat16().float())
