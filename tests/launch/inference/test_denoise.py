"""denoise.py with small trained runs: units, data types, several fields, and inputs that it refuses."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import nn

from quell.configs import loader, registry
from quell.launch import denoise, evaluate
from quell.launch.checkpoints import store
from quell.launch.inference import trained_model
from quell.launch.training import run
from quell.shards.building.writer import write_split
from tests.support.checkpoints import forget_checksums
from tests.support.commands import Command
from tests.support.small_runs import SmallRun

RNG = np.random.default_rng(5)


def train(folder: Path, shape: tuple[int, ...], *, normalise: str = "median") -> Path:
    """Train one supervised step on float images of this shape; the DnCNN has a receptive field of 7 px."""
    samples = [
        {"__key__": f"s{i}", **{f"{name}.npy": RNG.random(shape, np.float32) for name in ("noisy", "clean")}}
        for i in range(4)
    ]
    for split in ("train", "val"):
        write_split(folder / "data" / split, samples, name="tiny", meta={"data_range": 1.0})
    config = loader.structure(
        {
            "name": "tiny",
            "pipeline": {"name": "supervised", "network": {"name": "dncnn", "depth": 3, "width": 4}},
            "data": {"root": str(folder / "data"), "crop": 16, "normalise": normalise, "batch_size": 2},
            "loop": {"max_steps": 1, "threads": 1},
            "tracking": {"tensorboard": False},
        }
    )
    assert run.train(config, folder / "run") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("grey"), (24, 24))


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("colour"), (24, 24, 3), normalise="none")


@pytest.fixture(scope="module")
def dual(small_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dual") / "run"
    assert run.train(small_run("loop.max_steps=1"), folder) == 0
    return folder


def network(folder: Path, channels: int = 1) -> nn.Module:
    """The run's network, rebuilt from its checkpoint without the code under test."""
    pipeline: Any = trained_model.folder_of(folder).config().pipeline
    net: nn.Module = registry.build("models", pipeline.network, in_channels=channels, out_channels=channels)
    weights = store.read_weights(store.choose(folder, "best"))
    net.load_state_dict(
        {key.removeprefix("network."): value for key, value in weights.items() if key.startswith("network.")}
    )
    return net.eval()


def restore(folder: Path, *arguments: object) -> int:
    """The exit code of denoise.py."""
    return denoise.main(["--run", str(folder), *(str(argument) for argument in arguments)])


def test_an_image_is_normalised_by_its_median_restored_in_tiles_and_scaled_back(grey: Path, tmp_path: Path) -> None:
    stack = (1000 * RNG.random((2, 70, 41))).astype(np.float64)
    stack[1] *= 3
    np.save(tmp_path / "stack.npy", stack)
    assert restore(grey, tmp_path / "stack.npy", "--output", tmp_path / "out", "--tile", 32, "--overlap", 16) == 0
    out = np.load(tmp_path / "out" / "stack.npy")
    assert out.shape == stack.shape
    assert out.dtype == np.float32
    scale = torch.tensor([np.partition(image.ravel(), (image.size - 1) // 2)[(image.size - 1) // 2] for image in stack])
    images = torch.tensor(stack)[:, None].float()
    expected = network(grey)(images / scale.reshape(-1, 1, 1, 1).float()).detach() * scale.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(out, expected[:, 0].numpy(), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("normalisation", ["std", "variance"])
def test_tiles_are_normalised_like_their_full_image(grey: Path, tmp_path: Path, normalisation: str) -> None:
    """CNCL divides its input by its standard deviation, which differs between the tiles of a ramp."""
    network = {"name": "dncnn", "depth": 3, "width": 4, "residual": False}
    code = run.train(
        loader.structure(
            {
                "name": "tiny",
                "data": {"root": str(grey.parent / "data"), "crop": 16, "batch_size": 2},
                "pipeline": {
                    "name": "cncl",
                    "content": network,
                    "noise": network,
                    "weights": {"adversarial": 0},
                    "normalisation": normalisation,
                },
                "loop": {"max_steps": 1, "threads": 1},
                "tracking": {"tensorboard": False},
            }
        ),
        tmp_path / "run",
    )
    assert code == 0
    ramp = np.linspace(0, 4, 80, dtype=np.float32) ** 2
    np.save(tmp_path / "ramp.npy", np.stack([ramp + RNG.random((48, 80), np.float32) for _ in range(2)]))
    for tile in (0, 32):
        out = tmp_path / f"out{tile}"
        assert restore(tmp_path / "run", tmp_path / "ramp.npy", "--output", out, "--tile", tile, "--overlap", 16) == 0
    full, tiled = (np.load(tmp_path / f"out{tile}" / "ramp.npy") for tile in (0, 32))
    np.testing.assert_allclose(tiled, full, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("file", ["a.png", "a.tif"])
def test_uint8_images_stay_uint8(colour: Path, tmp_path: Path, file: str) -> None:
    image = RNG.integers(0, 256, (20, 33, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / file)
    assert restore(colour, tmp_path / file, "--output", tmp_path / "out") == 0
    out = np.asarray(Image.open(tmp_path / "out" / file))
    with torch.no_grad():
        expected = network(colour, 3)(torch.tensor(image).movedim(-1, 0)[None] / 255)[0].movedim(0, -1)
    assert out.dtype == np.uint8
    assert np.abs(out - expected.clamp(0, 1).mul(255).round().numpy()).max() <= 1


def test_uint16_images_stay_uint16(grey: Path, tmp_path: Path) -> None:
    image = RNG.integers(20000, 60000, (20, 33), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image)
    assert restore(grey, tmp_path / "a.tif", "--output", tmp_path / "out") == 0
    assert tifffile.imread(tmp_path / "out" / "a.tif").dtype == np.uint16
    assert restore(grey, tmp_path / "a.tif", "--output", tmp_path / "out", "--format", "png") == 0
    png = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    np.testing.assert_array_equal(png, tifffile.imread(tmp_path / "out" / "a.tif"))


def pd_and_pdfs() -> dict[str, Any]:
    """Random complex images, named as the fields of the run `dual`."""
    real, imaginary = RNG.normal(size=(2, 2, 24, 40))
    return dict(zip(("pd", "pdfs"), (real + 1j * imaginary).astype(np.complex64), strict=True))


def test_two_contrasts_give_the_same_result_from_one_file_and_from_two(dual: Path, tmp_path: Path) -> None:
    images = pd_and_pdfs()
    for name, image in images.items():
        np.save(tmp_path / f"{name}.npy", image)
    np.savez(tmp_path / "both.npz", pd=images["pd"], pdfs=images["pdfs"], pd_clean=images["pd"])
    with h5py.File(tmp_path / "both.h5", "w") as file:
        for name, image in images.items():
            file[name] = image
    out = tmp_path / "out"
    assert (
        restore(
            dual,
            f"pd={tmp_path}/pd.npy,pdfs={tmp_path}/pdfs.npy",
            tmp_path / "both.npz",
            tmp_path / "both.h5",
            "--output",
            out,
        )
        == 0
    )
    names = sorted(path.name for path in out.iterdir())
    assert names == ["both.h5", "both.npz", "pd_pd_cross.npy", "pdfs_pdfs_cross.npy"]
    npz = np.load(out / "both.npz")
    assert sorted(npz.files) == ["pd_cross", "pdfs_cross"]
    assert npz["pd_cross"].dtype == np.complex64
    np.testing.assert_array_equal(npz["pd_cross"], np.load(out / "pd_pd_cross.npy"))
    with h5py.File(out / "both.h5") as file:
        np.testing.assert_array_equal(npz["pdfs_cross"], file["pdfs_cross"][()])


def test_the_recommended_method_restores_both_contrasts_in_tiles(mini: Path, root: Path, tmp_path: Path) -> None:
    config = loader.load(
        root / "configs" / "cross_guided.yaml",
        [
            f"data.root={mini}",
            "data.crop=16",
            "loop.max_steps=1",
            "loop.precision=no",
            "loop.threads=1",
            "pipeline.network.widths=[4, 8]",
            "pipeline.network.blocks=[1, 1]",
            "tracking.tensorboard=false",
        ],
    )
    assert run.train(config, tmp_path / "run") == 0
    images = pd_and_pdfs()
    np.savez(tmp_path / "slice.npz", pd=images["pd"], pdfs=images["pdfs"])
    out = tmp_path / "out"
    assert restore(tmp_path / "run", tmp_path / "slice.npz", "--output", out, "--tile", 24, "--overlap", 8) == 0
    images = np.load(out / "slice.npz")
    assert {name: (image.shape, image.dtype.name) for name, image in images.items()} == dict.fromkeys(
        ("pd", "pdfs"), ((24, 40), "complex64")
    )


def test_slices_of_two_h5_files_are_paired_by_name(dual: Path, tmp_path: Path) -> None:
    slices = {f"slice{i}": pd_and_pdfs() for i in range(2)}
    for name in ("pd", "pdfs"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for key, images in slices.items():
                file[key] = images[name]
            file[f"only_{name}"] = images[name]
    assert restore(dual, f"pd={tmp_path}/pd.h5,pdfs={tmp_path}/pdfs.h5", "--output", tmp_path / "out") == 0
    with h5py.File(tmp_path / "out" / "pd.h5") as file:
        assert sorted(file) == ["slice0_pd_cross", "slice1_pd_cross"]
        assert file["slice0_pd_cross"].shape == (24, 40)


def test_arrays_of_a_container_are_restored_independently(grey: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "many.npz", a=RNG.random((20, 20)), b=RNG.random((30, 20)))
    assert restore(grey, tmp_path / "many.npz", "--output", tmp_path / "out") == 0
    assert {name: array.shape for name, array in np.load(tmp_path / "out" / "many.npz").items()} == {
        "a": (20, 20),
        "b": (30, 20),
    }
    assert restore(grey, tmp_path / "many.npz", "--output", tmp_path / "out", "--format", "tif") == 0
    assert (tmp_path / "out" / "many_a.tif").is_file()


@pytest.mark.parametrize(
    ("run_name", "array", "message", "code"),
    [
        ("grey", RNG.random((24, 24, 3)), "colour image of 3 channels?", 4),
        ("grey", pd_and_pdfs()["pd"], "was trained on grey images", 4),
        ("colour", RNG.random((24, 24)), "was trained on colour images", 4),
        (
            "dual",
            pd_and_pdfs()["pd"],
            "restores pd and pdfs together, but pd, pdfs is missing: give pd=FILE,pdfs=FILE",
            4,
        ),
        ("grey", np.full((24, 24), np.inf), "576 of 576 values are NaN or Inf", 4),
    ],
)
def test_images_that_the_run_cannot_restore_are_refused_with_a_reason(
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    run_name: str,
    array: np.ndarray,
    message: str,
    code: int,
) -> None:
    np.save(tmp_path / "a.npy", array)
    run = request.getfixturevalue(run_name)
    capsys.readouterr()  # discard the log of the training, where this test is the first to need the run
    assert restore(run, tmp_path / "a.npy", "--output", tmp_path / "out") == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_invalid_arguments_are_refused_with_a_reason(
    dual: Path, grey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = pd_and_pdfs()
    np.save(tmp_path / "pd.npy", images["pd"])
    np.save(tmp_path / "pdfs.npy", images["pdfs"][:-2])
    np.save(tmp_path / "real.npy", images["pdfs"].real)
    (tmp_path / "sub").mkdir()
    np.save(tmp_path / "grey.npy", RNG.random((20, 20)))
    np.save(tmp_path / "sub" / "grey.npy", RNG.random((20, 20)))
    out, pd = tmp_path / "out", f"pd={tmp_path}/pd.npy"
    cases: list[tuple[Path, list[object], int, str]] = [
        (dual, [f"{pd},pdfs={tmp_path}/pdfs.npy", "--output", out], 4, "differ in size"),
        (dual, [f"{pd},pdfs={tmp_path}/real.npy", "--output", out], 4, "pdfs is float32"),
        (dual, [f"{pd},pdfz={tmp_path}/pdfs.npy", "--output", out], 2, "did you mean 'pdfs'"),
        (dual, [pd, "--output", out], 4, "also reads 'pdfs': give pd=FILE,pdfs=FILE"),
        (dual, [f"{pd},pdfs", "--output", out], 2, "given as pd=FILE,pdfs=FILE"),
        (grey, [tmp_path / "grey.npy", "--output", tmp_path], 2, "would be overwritten"),
        (grey, [tmp_path / "grey.npy", tmp_path / "sub" / "grey.npy", "--output", out], 2, "two results"),
        (grey, [tmp_path / "grey.npy", "--output", out, "--tile", 16, "--overlap", 12], 2, "cannot overlap"),
        (grey, [tmp_path / "none.npy", "--output", out], 4, "no such file"),
        (tmp_path, [tmp_path / "grey.npy", "--output", out], 5, "is not a run folder"),
    ]
    for folder, arguments, code, message in cases:
        assert restore(folder, *arguments) == code, message
        assert message in capsys.readouterr().err


def test_a_checkpoint_records_the_kind_of_images_it_was_trained_on(dual: Path, colour: Path) -> None:
    kinds = {name: (kind.dtype, kind.channels, kind.words) for name, kind in trained_model.load(dual).images.items()}
    assert kinds == dict.fromkeys(("pd", "pdfs", "pd_clean", "pdfs_clean"), ("complex64", 1, "complex"))
    assert trained_model.load(colour).images["noisy"].words == "colour"


def test_older_checkpoints_take_the_kind_of_images_from_the_shards(
    grey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(grey.parent, tmp_path / "old")
    run = tmp_path / "old" / "run"
    capsys.readouterr()
    for file in run.glob("checkpoints/*/meta.json"):
        forget_checksums(file.parent)
        meta = json.loads(file.read_text())
        del meta["images"]
        file.write_text(json.dumps(meta))
    config = (run / "config.yaml").read_text().replace(str(grey.parent), str(tmp_path / "old"))
    (run / "config.yaml").write_text(config)
    np.save(tmp_path / "a.npy", RNG.random((24, 24)))
    assert restore(run, tmp_path / "a.npy", "--output", tmp_path / "out") == 0
    shutil.rmtree(tmp_path / "old" / "data")
    assert restore(run, tmp_path / "a.npy", "--output", tmp_path / "out") == 5
    error = capsys.readouterr().err
    assert "does not record what images it was trained on" in error and error.count("\n") == 1


def test_shards_with_another_kind_of_images_are_refused(
    grey: Path, colour: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert evaluate.main(["--run", str(grey), "--data", str(colour.parent / "data"), "--split", "val"]) == 4
    error = capsys.readouterr().err
    assert (
        "field 'noisy' holds colour images" in error
        and "was trained on grey images" in error
        and error.count("\n") == 1
    )


def test_denoise_py_runs_as_a_script(grey: Path, tmp_path: Path, command: Command) -> None:
    np.save(tmp_path / "a.npy", RNG.random((24, 24)))
    out = tmp_path / "out"
    result = command([sys.executable, "launch/denoise.py", "--run", grey, tmp_path / "a.npy", "--output", out])
    assert result.output.strip() == str(out / "a.npy")
