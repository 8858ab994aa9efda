"""A file that does not restore as its run does is found out, whatever else it returns."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from quell.configs.errors import QuellError
from quell.launch.exporting.formats import torch_export
from quell.launch.exporting.formats.runner import Run
from quell.launch.exporting.program import tracing
from quell.launch.exporting.program.restoration import RestorationProgram
from quell.launch.exporting.writing import export, parity, samples
from quell.launch.inference.restorer import Restorer
from tests.launch.exporting.small_exports import UNET, trained


@pytest.fixture(scope="module")
def restorer(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    """A run on two fields that reads noise levels."""
    two = {"name": "cross_guided", "network": UNET, "passes": 2, "noise": "white"}
    return export.open_run(trained(tmp_path_factory.mktemp("two"), two, fields=("pd", "pdfs")))


def eager(program: RestorationProgram) -> Run:
    """The program itself, as a file would run it."""

    def run(values: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            return [image.numpy() for image in program(*map(torch.from_numpy, values))]

    return run


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("output", [0, 1])
def test_what_is_not_finite_is_refused_on_any_image_of_any_output(
    value: float, output: int, restorer: Restorer
) -> None:
    program, calls = RestorationProgram(restorer), []

    def damaged(values: Sequence[np.ndarray]) -> list[np.ndarray]:
        restored = eager(program)(values)
        calls.append(restored)
        if len(calls) == 2:
            restored[output][0, 0, 3, 3] = value
        return restored

    measured = parity.measure(damaged, program, restorer, samples.of_split(restorer))
    assert measured.worst.relative_error == math.inf
    for tolerance in (parity.TOLERANCE, math.inf):
        with pytest.raises(QuellError, match=r"differs by values that are not finite .*no file was written"):
            parity.refuse_difference(measured, "run", tolerance)


def test_a_level_that_the_file_ignores_is_found_out(restorer: Restorer) -> None:
    program = RestorationProgram(restorer)

    def without_levels(values: Sequence[np.ndarray]) -> list[np.ndarray]:
        return eager(program)([*values[:2], *[np.zeros(1, np.float32)] * 2])

    measured = parity.measure(without_levels, program, restorer, samples.of_split(restorer))
    with pytest.raises(QuellError, match="restores .* with twice the noise level"):
        parity.refuse_difference(measured, "run", parity.TOLERANCE)


def test_a_file_that_takes_all_of_a_stack_for_its_first_image_is_found_out(restorer: Restorer) -> None:
    program = RestorationProgram(restorer)

    def first_only(values: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [image[:1].repeat(len(image), 0) for image in eager(program)(values)]

    measured = parity.measure(first_only, program, restorer, samples.of_split(restorer))
    with pytest.raises(QuellError, match="restores .*, image 2 in a stack of 2"):
        parity.refuse_difference(measured, "run", parity.TOLERANCE)


@pytest.mark.skipif(not tracing.CAN_TRACE, reason="this torch cannot leave sizes open")
def test_a_manifest_is_json_that_any_reader_accepts(tmp_path: Path) -> None:
    exported = torch.export.export(torch.nn.Identity(), (torch.zeros(1),))
    writer = torch_export.TorchExportWriter(exported, cast(Any, None), source="run")
    writer.save(tmp_path / "file.pt2", {"psnr": [math.nan, math.inf]})
    assert torch_export.read_manifest(tmp_path / "file.pt2") == {"psnr": [None, "inf"]}
