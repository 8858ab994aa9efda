"""Images whose noise is not that of the training are named, with numbers; others are not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quell.configs import registry
from quell.configs.fields import FieldSpec
from quell.launch.inference.noise_comparison import NoiseComparison, NoiseFindings
from quell.launch.runs.folder import RunFolder
from quell.losses.noise.model import FieldNoise, NoiseModel, spectrum_of_kernel
from quell.pipelines.base import Batch, Pipeline
from quell.pipelines.reporting.noise_range import NoiseRange

BLUR = np.outer([1.0, 4.0, 6.0, 4.0, 1.0], [1.0, 4.0, 6.0, 4.0, 1.0])
TRAINED_ON = FieldNoise(0.1, spectrum_of_kernel(BLUR))
SPECS = {"noisy": FieldSpec(1)}
NOTHING = NoiseFindings([], [])


def pipeline(name: str = "r2r", **settings: object) -> Pipeline:
    noise = {"sigma": 0.1} if name == "r2r" else {}
    network = {"name": "residual_unet", "widths": [4, 4], "blocks": [1, 1]}
    method: Any = registry.find("pipelines", name)
    built: Pipeline = method(method.Config(name=name, network=network, **noise, **settings), SPECS)
    return built


def image(noise: FieldNoise, scale: float = 1.0) -> Batch:
    values = 0.5 + noise.sample(np.random.default_rng(0), (128, 128))
    noisy = torch.from_numpy(values / scale)[None, None].float()
    return {"noisy": noisy, "noisy_scale": torch.full((1, 1, 1, 1), scale)}


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_noise_like_that_of_the_training_is_not_mentioned(tmp_path: Path, scale: float) -> None:
    folder = RunFolder(tmp_path)
    NoiseModel({"noisy": TRAINED_ON}).save(folder.noise)
    comparison = NoiseComparison.of_run(folder, pipeline())
    assert comparison.ranges and comparison.findings(image(TRAINED_ON, scale)) == NOTHING


@pytest.mark.parametrize(
    ("noise", "words"),
    [(FieldNoise(0.1), "correlation of 0.00 with the next pixel"), (FieldNoise(0.3, TRAINED_ON.spectrum), "of 0.3")],
)
def test_other_noise_is_named_with_numbers(noise: FieldNoise, words: str) -> None:
    comparison = NoiseComparison({"noisy": TRAINED_ON}, {"noisy": NoiseRange(0.1, 0.1)}, SPECS)
    (sentence,) = comparison.findings(image(noise)).differences
    assert words in sentence.replace("of 0.29", "of 0.3") and "training images had 0.1 and 0.80" in sentence


def test_runs_that_saved_no_noise_are_not_compared(tmp_path: Path) -> None:
    assert NoiseComparison.of_run(RunFolder(tmp_path), pipeline()).findings(image(TRAINED_ON)) == NOTHING


@pytest.mark.parametrize(("sigma", "is_in_it"), [(0.03, True), (0.2, True), (0.01, False), (0.6, False)])
@pytest.mark.parametrize("blur_px", [0, 1.5])
def test_a_blind_network_restores_its_family(tmp_path: Path, sigma: float, is_in_it: bool, blur_px: float) -> None:
    blind = pipeline("blind", learn_from="clean", levels=(0.02, 0.3), blur_px=blur_px, map_ratio=1)
    comparison = NoiseComparison.of_run(RunFolder(tmp_path), blind)
    assert (comparison.findings(image(FieldNoise(sigma))).differences == []) == is_in_it
    correlated = comparison.findings(image(FieldNoise(sigma, TRAINED_ON.spectrum))).differences
    assert (correlated == []) == (is_in_it and blur_px > 0)


def test_a_blind_network_that_learned_from_noisy_images_starts_at_their_level(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    NoiseModel({"noisy": FieldNoise(0.1)}).save(folder.noise)
    ranges = NoiseComparison.of_run(folder, pipeline("blind", levels=(0.02, 0.3), alpha=(0.3, 1.0))).ranges
    assert ranges["noisy"].low == 0.1 and ranges["noisy"].high == pytest.approx((2 * 0.01 + 0.09) ** 0.5)


def masked(batch: Batch) -> Batch:
    """The same with three quarters of the image set to 0."""
    noisy = batch["noisy"].clone()
    noisy[..., 32:] = 0
    return batch | {"noisy": noisy}


def small(batch: Batch) -> Batch:
    """A part of the same."""
    return batch | {"noisy": batch["noisy"][..., :48, :]}


def broken(batch: Batch) -> Batch:
    """The same with a pixel that is no number."""
    noisy = batch["noisy"].clone()
    noisy[..., 0, 0] = torch.nan
    return batch | {"noisy": noisy}


WHITE = NoiseComparison({}, {"noisy": NoiseRange(0.1, 0.1)}, SPECS)


@pytest.mark.parametrize(
    ("spoil", "words"), [(masked, "constant (masked or padded)"), (small, "side of 48 px"), (broken, "not finite")]
)
def test_noise_that_cannot_be_measured_is_not_taken_for_that_of_the_training(
    spoil: Callable[[Batch], Batch], words: str
) -> None:
    differences, (sentence,) = WHITE.findings(spoil(image(FieldNoise(0.5))))
    assert not differences and sentence.startswith("the noise of 'noisy' could not be examined") and words in sentence


def test_a_field_that_cannot_be_measured_hides_no_other() -> None:
    both = NoiseComparison(
        {}, dict.fromkeys(("pd", "pdfs"), NoiseRange(0.1, 0.1)), dict.fromkeys(("pd", "pdfs"), SPECS["noisy"])
    )
    strong, spoiled = image(FieldNoise(0.5)), broken(image(FieldNoise(0.1)))
    found = both.findings(
        {
            f"{field}{suffix}": batch[f"noisy{suffix}"]
            for field, batch in (("pd", spoiled), ("pdfs", strong))
            for suffix in ("", "_scale")
        }
    )
    assert "'pdfs' has a standard deviation" in "".join(found.differences) and "'pd'" in "".join(found.unknown)


def test_images_of_a_stack_that_cannot_be_measured_are_passed_over() -> None:
    batches = [masked(image(FieldNoise(0.1))), image(FieldNoise(0.1)), image(FieldNoise(0.5))]
    stack = {key: torch.cat([batch[key] for batch in batches]) for key in ("noisy", "noisy_scale")}
    assert WHITE.findings({key: value[:2] for key, value in stack.items()}, ("", "")) == NOTHING
    differences, unknown = WHITE.findings(stack, (" in the first", " in the second", " in the third"))
    assert "of 'noisy' in the third has" in "".join(differences) and not unknown
