"""Blind denoising: input and target have independent noise, and what the network is told is true."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quell.configs.errors import QuellError
from quell.configs.fields import FieldSpec
from quell.configs.loader import structure
from quell.pipelines.blind import Blind
from quell.pipelines.common import recorruption

SIGMA = 0.1


def normals(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def method(**settings: Any) -> Blind:
    residual = settings.get("sees", "nothing") == "nothing"
    network = {"name": "residual_unet", "widths": [4, 4], "blocks": [1, 1], "residual": residual}
    made = {"name": "blind", "network": network, "sigma": SIGMA, "noise": "white", **settings}
    return Blind(Blind.Config(**made), {"noisy": FieldSpec(1)})


def batch(count: int = 40, side: int = 48) -> dict[str, Tensor]:
    clean = torch.full((count, 1, side, side), 0.5)
    names = ("own", "added", "family")
    return {
        "clean": clean,
        "noisy": clean + SIGMA * normals(1, count, 1, side, side),
        "noisy_scale": torch.ones(count, 1, 1, 1),
        "index": torch.arange(count),
        **{name: normals(seed, count, 1, side, side) for seed, name in enumerate(names, start=2)},
    }


class Recorder(nn.Module):
    """Keeps its input, and returns its first channel."""

    def forward(self, image_NCHW: Tensor) -> Tensor:
        self.seen = image_NCHW
        return image_NCHW[:, :1]


def test_inputs_are_independent_of_the_noise_of_their_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    made, images, targets = method(), batch(), []
    original = recorruption.gaussian

    def spy(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        pair = original(*args, **kwargs)
        targets.append(pair[1])
        return pair

    monkeypatch.setattr(recorruption, "gaussian", spy)
    made.network = recorder = Recorder()
    made.loss("restorer", images, {})
    seen, target = recorder.seen - 0.5, targets[0] - 0.5
    for shift in (0, 1):
        products = (seen.roll(shift, -1) * target) / SIGMA**2
        assert abs(float(products.mean())) < 5 * float(products.std()) / products.numel() ** 0.5
    assert float(seen.var()) > 1.5 * SIGMA**2


def test_the_expected_error_of_the_identity_is_that_of_its_input() -> None:
    made, images = method(), batch(300, 32)
    made.network = recorder = Recorder()
    output = made.loss("restorer", images, {})
    true = (recorder.seen - images["clean"]).square().mean()
    assert float(output.scalars["mse_to_clean"]) == pytest.approx(float(true), rel=0.1)


@pytest.mark.parametrize("learn_from", ["noisy", "clean"])
def test_the_level_that_it_sees_is_that_of_the_noise(learn_from: str) -> None:
    made, images = method(sees="level", learn_from=learn_from), batch(200, 32)
    made.network = recorder = Recorder()
    made.loss("restorer", images, {})
    seen, level = recorder.seen[:, :1] - images["clean"], recorder.seen[:, 1:]
    assert float((seen / level).square().mean()) == pytest.approx(1, abs=0.05)
    made.restore(images)
    assert torch.allclose(recorder.seen[:, 1:], torch.tensor(SIGMA))


def test_learning_from_clean_images_needs_them_in_training_and_no_recorruption() -> None:
    needs = Blind.needs(method(learn_from="clean").config)
    assert not needs.fields["clean"].evaluation and "own" not in needs.normals
    needs = Blind.needs(method().config)
    assert needs.fields["clean"].evaluation and "own" in needs.normals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"levels": [0.3, 0.1]}, "levels"),
        ({"map_ratio": 0.5}, "map_ratio is the larger level over the smaller"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(QuellError, match=message):
        structure({"pipeline": {"name": "blind", **settings}})
