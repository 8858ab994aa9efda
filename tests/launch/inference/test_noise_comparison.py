"""Images whose noise is not that of the training are named, with numbers; others are not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from quell.configs.fields import FieldSpec
from quell.launch.inference.noise_comparison import NoiseComparison
from quell.launch.runs.folder import RunFolder
from quell.losses.noise.model import FieldNoise, NoiseModel, spectrum_of_kernel
from quell.pipelines.base import Batch

BLUR = np.outer([1.0, 4.0, 6.0, 4.0, 1.0], [1.0, 4.0, 6.0, 4.0, 1.0])
TRAINED_ON = FieldNoise(0.1, spectrum_of_kernel(BLUR))
SPECS = {"noisy": FieldSpec(1)}


def image(noise: FieldNoise, scale: float = 1.0) -> Batch:
    values = 0.5 + noise.sample(np.random.default_rng(0), (128, 128))
    noisy = torch.from_numpy(values / scale)[None, None].float()
    return {"noisy": noisy, "noisy_scale": torch.full((1, 1, 1, 1), scale)}


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_noise_like_that_of_the_training_is_not_mentioned(tmp_path: Path, scale: float) -> None:
    folder = RunFolder(tmp_path)
    NoiseModel({"noisy": TRAINED_ON}).save(folder.noise)
    assert NoiseComparison.of_run(folder, SPECS).differences(image(TRAINED_ON, scale)) == []


@pytest.mark.parametrize(
    ("noise", "words"),
    [(FieldNoise(0.1), "correlation of 0.00 with the next pixel"), (FieldNoise(0.3, TRAINED_ON.spectrum), "of 0.3")],
)
def test_other_noise_is_named_with_numbers(noise: FieldNoise, words: str) -> None:
    comparison = NoiseComparison(NoiseModel({"noisy": TRAINED_ON}), SPECS)
    (sentence,) = comparison.differences(image(noise))
    assert words in sentence.replace("of 0.29", "of 0.3") and "training images had 0.1 and 0.80" in sentence


def test_runs_that_saved_no_noise_are_not_compared(tmp_path: Path) -> None:
    assert NoiseComparison.of_run(RunFolder(tmp_path), SPECS).differences(image(TRAINED_ON)) == []
