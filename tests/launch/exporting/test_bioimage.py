"""Packages of the BioImage Model Zoo."""

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from quell.configs.errors import QuellError
from quell.launch.exporting.bioimage import documents
from quell.launch.exporting.bioimage.package import Credits, export_package, worst
from quell.launch.exporting.command import main
from quell.launch.exporting.formats import onnx_file
from quell.launch.exporting.program import tracing
from quell.launch.exporting.writing.export import Exported
from quell.launch.exporting.writing.parity import Comparison, Parity
from tests.launch.exporting.small_exports import UNET, trained

CREDITS = Credits(("Ada Example",), "CC-BY-4.0", ("Noise2Void | 10.1109/CVPR.2019.00223",))


def test_everything_that_a_package_must_state_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs/any", "--bioimage", "--output", "package.zip", "--cite", "without a place"]) == 2
    said = capsys.readouterr().err
    assert "--author NAME" in said and "--licence SPDX" in said and "expected TEXT | DOI or URL" in said


@pytest.mark.slow
@pytest.mark.skipif(not tracing.CAN_TRACE, reason="this torch cannot leave sizes open")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_a_package_passes_the_zoos_own_validator_without_a_network(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    two = {"name": "cross_guided", "network": UNET, "passes": 2, "noise": "white"}
    run = trained(tmp_path, two, fields=("pd", "pdfs"))
    package = export_package(run, tmp_path / f"package{suffix}", CREDITS).file

    from bioimageio.core import test_description as validate
    from bioimageio.spec import load_description

    assert validate(package).status == "passed"
    description: Any = load_description(package)
    assert [str(each.id) for each in description.inputs] == ["pd", "pdfs"]
    assert [str(each.id) for each in description.outputs] == ["pd_restored", "pdfs_restored"]
    assert description.weights.onnx is not None and description.weights.torchscript is not None
    if suffix:
        return
    facts = yaml.safe_load((package / "rdf.yaml").read_text())
    assert facts["license"] == "CC-BY-4.0" and facts["config"]["quell"]["method"] == "cross_guided"
    images = {name: np.load(package / f"test_{name}.npy") for name in ("pd", "pdfs")}
    restore = onnx_file.runner(package / "weights.onnx")
    for restored, name in zip(restore(list(images.values())), ("pd", "pdfs"), strict=True):
        np.testing.assert_allclose(restored, np.load(package / f"test_{name}_restored.npy"), atol=1e-5)
    assert "The whole restoration is" in (package / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not tracing.CAN_TRACE, reason="this torch cannot leave sizes open")
@pytest.mark.filterwarnings("ignore")
def test_a_package_whose_weights_fail_the_validator_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cover = documents.write_cover

    def tamper(file: Path, *others: Any) -> None:
        cover(file, *others)
        (expected,) = file.parent.glob("test_*restored.npy")
        np.save(expected, np.load(expected) + np.float32(0.1))

    monkeypatch.setattr(documents, "write_cover", tamper)
    run = trained(tmp_path, {"name": "supervised", "network": UNET})
    with pytest.raises(QuellError, match="validator of the BioImage Model Zoo does not accept the package: .*"):
        export_package(run, tmp_path / "out" / "package", CREDITS)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_package_states_the_difference_of_its_worst_weights(tmp_path: Path) -> None:
    def weights(error: float) -> Exported:
        return Exported(tmp_path, Parity([Comparison("image", "pd", (8, 8), error, error, None)], 0.0))

    assert worst({"onnx": weights(1e-7), "torchscript": weights(1e-4)}).worst.relative_error == 1e-4


@pytest.mark.parametrize("cite", ["Text | 10.1/x", "Text | https://example.org"])
def test_a_citation_is_a_text_and_a_place(cite: str) -> None:
    Credits(("A",), "MIT", (cite,)).check()
