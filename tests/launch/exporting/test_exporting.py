"""Exported restorations: equal to `quell denoise` in every format, and refused where they cannot be."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from quell.configs.errors import MachineError, QuellError
from quell.launch.exporting.command import main
from quell.launch.exporting.formats import onnx_file
from quell.launch.exporting.formats.runner import Run
from quell.launch.exporting.program import tracing
from quell.launch.exporting.program.restoration import RestorationProgram
from quell.launch.exporting.writing import export, samples
from quell.launch.inference.restorer import Restorer, Tiles
from tests.launch.exporting.small_exports import UNET, image, trained
from tests.support.small_runs import single_error

pytestmark = [
    pytest.mark.skipif(not tracing.CAN_TRACE, reason="this torch cannot leave sizes open"),
    pytest.mark.xdist_group("exporting"),
]

FIELDS = ("pd", "pdfs")
CROSS = {"name": "cross_guided", "network": UNET, "passes": 2, "noise": "white"}
WITHOUT_QUELL = """
import json, sys
import numpy as np, onnxruntime
sys.modules["quell"] = None
file, given, restored = sys.argv[1:]
session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
manifest = json.loads(session.get_modelmeta().custom_metadata_map["quell.json"])
images = np.load(given)
outputs = session.run(None, {each["name"]: images[each["name"]] for each in manifest["inputs"]})
np.savez(restored, **{each["file_name"]: image for each, image in zip(manifest["outputs"], outputs)})
"""
Written = dict[str, export.Exported]


@pytest.fixture(scope="module")
def two_contrasts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two complex fields, with random passes, a calibrated noise level, padding and normalisation."""
    return trained(tmp_path_factory.mktemp("two"), CROSS, fields=FIELDS, is_complex=True)


@pytest.fixture(scope="module")
def write(two_contrasts: Path) -> Callable[[str, Path], export.Exported]:
    """Writes it to a file in a format; it is traced once."""
    restorer = export.open_run(two_contrasts)
    program = RestorationProgram(restorer)
    exported, chosen = tracing.traced(program, source="run"), samples.of_split(restorer)

    def write(name: str, file: Path) -> export.Exported:
        writer = export.WRITERS[name](exported, program, source="run")
        return export.write(writer, file, name, program, restorer, chosen, 1e-5)

    return write


@pytest.fixture(scope="module")
def written(write: Callable[[str, Path], export.Exported], tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Its file in every format."""
    folder = tmp_path_factory.mktemp("files")
    return {name: write(name, folder / f"file{suffix}") for name, suffix in export.SUFFIXES.items()}


@pytest.fixture(scope="module")
def runners(written: Written) -> dict[str, Run]:
    """The files, opened."""
    return {name: export.MODULES[name].runner(each.file) for name, each in written.items()}


@pytest.fixture(scope="module")
def stacks() -> dict[str, np.ndarray]:
    """Three images of each field."""
    return {
        field: np.stack([image(100 + 10 * i + j, is_complex=True) for j in range(3)]) for i, field in enumerate(FIELDS)
    }


@pytest.fixture(scope="module")
def expected(two_contrasts: Path, stacks: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What `quell denoise` makes of them."""
    restorer = Restorer(two_contrasts, tiles=Tiles(0), device=torch.device("cpu"))
    restored = restorer.restore(stacks, "stack")
    return [as_channels(restored[field]) for field in FIELDS]


def as_channels(stack: np.ndarray) -> np.ndarray:
    """A complex stack (N, H, W) as programs take it."""
    return np.stack([stack.real, stack.imag], 1).astype(np.float32)


@pytest.mark.parametrize("name", export.SUFFIXES)
def test_a_file_restores_a_stack_as_denoise_does(
    name: str, runners: dict[str, Run], stacks: dict[str, np.ndarray], expected: list[np.ndarray]
) -> None:
    restored = runners[name]([*map(as_channels, stacks.values()), *[np.zeros(1, np.float32)] * 2])
    np.testing.assert_allclose(restored, expected, atol=1e-5)
    assert float(np.abs(restored[0] - as_channels(stacks["pd"])).max()) > 1e-2


@pytest.mark.parametrize("name", export.SUFFIXES)
def test_a_given_noise_level_takes_the_place_of_the_calibrated_one(
    name: str, runners: dict[str, Run], two_contrasts: Path, stacks: dict[str, np.ndarray], expected: list[np.ndarray]
) -> None:
    pipeline = export.open_run(two_contrasts).pipeline
    calibrated = [np.array([level], np.float32) for level in pipeline.get_buffer("levels").tolist()]
    images = [as_channels(stack) for stack in stacks.values()]
    np.testing.assert_allclose(runners[name]([*images, *calibrated]), expected, atol=1e-5)
    assert float(np.abs(runners[name]([*images, *(3 * level for level in calibrated)])[0] - expected[0]).max()) > 1e-2


def test_an_onnx_file_runs_without_quell_and_needs_no_levels(
    written: Written, stacks: dict[str, np.ndarray], expected: list[np.ndarray], tmp_path: Path
) -> None:
    given: dict[str, Any] = {name: as_channels(stack) for name, stack in stacks.items()}
    np.savez(tmp_path / "given.npz", **given)
    words = [written["onnx"].file, tmp_path / "given.npz", tmp_path / "restored.npz"]
    subprocess.run([sys.executable, "-c", WITHOUT_QUELL, *map(str, words)], check=True, cwd=tmp_path)
    restored = np.load(tmp_path / "restored.npz")
    np.testing.assert_allclose([restored[f"{field}_restored"] for field in FIELDS], expected, atol=1e-5)


@pytest.mark.parametrize("name", export.SUFFIXES)
def test_the_manifest_says_what_the_file_takes_and_how_it_was_compared(name: str, written: Written) -> None:
    manifest = export.MODULES[name].read_manifest(written[name].file)
    assert [each["name"] for each in manifest["inputs"]] == list(FIELDS)
    assert [each["shape"] for each in manifest["inputs"]] == [["batch", 2, "height", "width"]] * 2
    assert [each["name"] for each in manifest["levels"]] == ["pd_sigma", "pdfs_sigma"]
    assert manifest["inputs"][0]["training_images"]["high"] > 0.5
    assert manifest["noise_assumed"]["pd"]["sigma"] == pytest.approx(0.1, rel=0.3)
    compared = manifest["parity"]
    assert compared["max_relative_error"] < 1e-5 and compared["max_psnr_difference_db"] < 1e-3
    assert compared["images"] == 2
    assert {each["kind"] for each in compared["comparisons"]} == {"image", "size", "stack", "level"}
    assert compared["sizes"] == [[24, 28], [39, 53], [64, 64], [289, 315]]
    assert manifest["format"]["name"] == name and len(manifest["config_sha256"]) == 64
    assert name != "onnx" or manifest["format"]["opset"] >= 18


def test_the_sizes_of_an_onnx_file_are_open_and_named(written: Written) -> None:
    session = onnx_file.opened(written["onnx"].file)
    assert [each.shape for each in session.get_inputs()] == [["batch", 2, "height", "width"]] * 2
    assert [each.name for each in session.get_outputs()] == ["pd_restored", "pdfs_restored"]


def test_a_file_that_restores_otherwise_is_refused_and_not_left_behind(
    write: Callable[[str, Path], export.Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = export.MODULES["torch.export"].runner

    def wrong(file: Path) -> Run:
        run = honest(file)
        return lambda values: [image + 0.01 for image in run(values)]

    monkeypatch.setattr(export.MODULES["torch.export"], "runner", wrong)
    with pytest.raises(QuellError, match="otherwise than quell denoise: 'pd'.*no file was written") as refused:
        write("torch.export", tmp_path / "file.pt2")
    assert refused.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_method_that_trains_on_each_image_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = {"name": "dncnn", "depth": 3, "width": 4, "norm": "none"}
    run = trained(tmp_path, {"name": "zs_n2n", "network": network, "adapt_steps": 1})
    assert main([str(run), "--format", "onnx", "--output", str(tmp_path / "file.onnx")]) == 2
    assert "zs_n2n cannot be exported: it goes on training" in single_error(capsys.readouterr().err)
    assert not (tmp_path / "file.onnx").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--hub folder --format onnx", "--format says nothing beside --hub"),
        ("--hub folder --tolerance 0.1 --on scan.npy", "--on says nothing beside --hub"),
        ("--bioimage --format onnx", "--format says nothing beside --bioimage"),
        ("--on scan.npy --split val", "--split says nothing beside --on"),
        ("--author Me", "--author belongs to --bioimage"),
        ("--licence MIT", "--licence belongs to --bioimage or --hub"),
        ("--report report.json", "--report belongs to --hub"),
    ],
)
def test_arguments_that_would_be_ignored_are_refused(
    words: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words.split() if "--hub" in words else ["--output", "file", *words.split()]
    assert main(["runs/any", *given]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(("suffix", "format_"), [(".pt2", "onnx"), (".onnx", "torch.export"), (".pt2", "torchscript")])
def test_the_suffix_of_another_format_is_refused(
    suffix: str, format_: str, two_contrasts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--trust-code", "--format", format_, "--output", str(tmp_path / f"file{suffix}")]
    assert main([str(two_contrasts), *words]) == 2
    assert f"{suffix} is the suffix of" in single_error(capsys.readouterr().err)


def test_random_numbers_of_old_runs_are_refused(two_contrasts: Path) -> None:
    restorer = export.open_run(two_contrasts)
    restorer.pipeline.draws = 1
    with pytest.raises(QuellError, match="random numbers are those of version 0.3"):
        tracing.traced(RestorationProgram(restorer), source="run")


def test_complex_networks_are_refused_by_onnx_with_what_can_hold_them(tmp_path: Path) -> None:
    pipeline = {"name": "dual_domain", "encoder_features": [4, 8], "decoder_features": [8, 4], "latent_channels": 4}
    run = trained(tmp_path, pipeline, fields=FIELDS, is_complex=True, representation="complex")
    program, untraced = RestorationProgram(export.open_run(run)), cast(Any, None)
    with pytest.raises(QuellError, match="ONNX has no complex convolutions: export to torch.export"):
        onnx_file.OnnxWriter(untraced, program, source="run")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MachineError, match=r"onnxruntime.*pip install 'quell\[export\]'"):
        onnx_file.runner(tmp_path / "file.onnx")


def test_files_are_compared_on_instead_of_shards(
    two_contrasts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, field in enumerate(FIELDS):
        np.save(tmp_path / f"{field}.npy", image(seed, is_complex=True))
    words = ["--on", f"pd={tmp_path / 'pd.npy'},pdfs={tmp_path / 'pdfs.npy'}", "--output", str(tmp_path / "file.pt")]
    assert main([str(two_contrasts), "--format", "torchscript", *words]) == 0
    printed = capsys.readouterr().out
    compared = "1 image, which was also in 3 other sizes, in a stack and with twice its noise level"
    assert f"compared with quell denoise on {compared}" in printed and "no clean images" in printed
    assert export.MODULES["torchscript"].read_manifest(tmp_path / "file.pt")["parity"]["images"] == 1
