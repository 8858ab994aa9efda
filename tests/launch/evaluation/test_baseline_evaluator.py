"""The panels in the picture of an evaluation, for every kind of method and image."""

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from quell.configs.baseline_names import Baseline
from quell.launch.evaluation import report_picture
from quell.launch.evaluation.baseline_evaluator import BaselineEvaluator
from quell.launch.evaluation.evaluator import DEFAULT_METRICS
from quell.launch.evaluation.measuring.host_work import HostImages
from quell.pipelines.base import Batch, Output

ONE_OUTPUT = {"pd": Output("pd", "pd_clean")}
THREE_OUTPUTS = {
    "pd_cross": Output("pd", "pd_clean"),
    "pd_same": Output("pd", "pd_clean"),
    "oct": Output("oct", "oct_clean"),
}


def evaluate(
    outputs: dict[str, Output],
    image: Tensor,
    *,
    reference: Literal["clean", "second", "none"] = "clean",
    pictures: int = 1,
    baselines: tuple[Baseline, ...] = ("noisy", "nlm"),
    metrics: tuple[str, ...] = ("psnr", "ssim", "rmse"),
) -> tuple[list[report_picture.Row], dict[str, float]]:
    """The picture's rows and the measured values for one sample whose fields all show this (C, H, W) image."""
    noise = 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    batch: Batch = {"key": ["knee-7"]}
    for output in outputs.values():
        fields = {output.noisy: image + noise}
        if reference == "clean":
            fields[output.clean] = image
        elif reference == "second":
            fields[f"{output.noisy}_second"] = image - noise
        for name, value in fields.items():
            batch |= {name: value[None], f"{name}_scale": torch.ones(1, 1, 1, 1)}
    selected = {name: DEFAULT_METRICS[name] for name in metrics}
    evaluator = BaselineEvaluator(outputs, list(baselines), selected, 1.0, pictures=pictures)
    job = evaluator(HostImages(batch, dict.fromkeys(outputs, (image + noise / 2)[None])), 0)
    values = job() if job is not None else {}
    return evaluator.picture_rows, values


def scene(channels: int = 1, side: int = 48) -> Tensor:
    """A bright rectangle on a dark background."""
    image = torch.full((channels, side, side), 0.2)
    image[:, side // 2 :, side // 4 :] = 0.8
    return image


def captions(row: report_picture.Row) -> list[str]:
    return [panel.caption for panel in row.panels]


def test_every_panel_but_the_clean_image_shows_its_scores() -> None:
    (row,), values = evaluate(ONE_OUTPUT, scene())
    assert captions(row) == ["noisy", "NLM", "restored", "clean"] and row.title == "PD"
    assert row.panels[0].scores == f"{values['pd/noisy/psnr']:.1f} dB   SSIM {values['pd/noisy/ssim']:.3f}"
    assert row.panels[2].scores.startswith("25.9 dB") and row.panels[3].scores == ""
    assert row.panels[row.guide].caption == "clean" and row.sample == ""


def test_several_outputs_of_a_field_and_several_samples_are_distinguished() -> None:
    rows, _ = evaluate(THREE_OUTPUTS, scene(), baselines=(), pictures=2)
    assert [captions(row) for row in rows] == [
        ["noisy", "restored: cross", "restored: same", "clean"],
        ["noisy", "restored", "clean"],
    ]
    assert [(row.title, row.sample) for row in rows] == [("PD", "knee-7"), ("oct", "knee-7")]


def test_without_a_reference_there_are_no_scores_and_the_region_is_chosen_in_the_restored_image() -> None:
    (row,), _ = evaluate(ONE_OUTPUT, scene(), reference="none")
    assert captions(row) == ["noisy", "NLM", "restored"] and not any(panel.scores for panel in row.panels)
    assert row.panels[row.guide].caption == "restored"


def test_a_second_noisy_copy_is_captioned_as_such_and_the_region_is_not_chosen_in_it() -> None:
    (row,), _ = evaluate(ONE_OUTPUT, scene(), reference="second")
    assert captions(row) == ["noisy", "NLM", "restored", "second copy"] and row.panels[2].scores
    assert row.panels[row.guide].caption == "restored"


@pytest.mark.parametrize(
    "image",
    [scene(2), scene(3), scene() * torch.exp(torch.tensor(1j)), scene(side=32)],
    ids=["real and imaginary", "colour", "complex", "tiny"],
)
def test_every_kind_of_image_can_be_drawn(image: Tensor) -> None:
    (row,), _ = evaluate(ONE_OUTPUT, image)
    for panel in row.panels:
        assert panel.image.shape == (*image.shape[1:], 3) and panel.image.dtype == np.uint8
    assert report_picture.render([row]).width > 1100


def test_only_selected_metrics_are_shown_and_only_requested_pictures_drawn() -> None:
    (row,), _ = evaluate(ONE_OUTPUT, scene(), metrics=("rmse", "psnr"))
    assert row.panels[0].scores.endswith("dB")
    assert evaluate(ONE_OUTPUT, scene(), pictures=0)[0] == []
