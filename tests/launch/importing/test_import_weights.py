"""The command: what it writes can be evaluated, restored with and started from; what it refuses leaves nothing."""

import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from quell.launch import denoise, evaluate, import_weights, train
from quell.launch.importing.conversion import doubled
from quell.launch.importing.originals import stacks
from tests.launch.importing import old_weights
from tests.support.small_runs import single_error

REPRODUCTION = {"depth": 10, "bias": True, "averages": False}


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    """A generator of the TCFL reproduction."""
    return old_weights.save(old_weights.dncnn(**REPRODUCTION), tmp_path / "epoch_600.pth")  # type: ignore[arg-type]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 5) -> str:
    """The one sentence of a command that fails with this exit code."""
    capsys.readouterr()
    assert import_weights.main(arguments) == code
    captured = capsys.readouterr()
    return single_error(captured.out + captured.err)


def test_an_imported_run_is_evaluated_restored_with_and_started_from(
    generator: Path, tmp_path: Path, oct_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = tmp_path / "run", f"data.root={oct_shards}"
    assert import_weights.main(["tcfl", str(generator), "--run-dir", str(run), data]) == 0
    assert "TCFL reproduction, DnCNN: 36 tensors" in capsys.readouterr().out
    assert evaluate.main(["--run", str(run), "--pictures", "0"]) == 0
    assert (run / "report.json").is_file()

    image = np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8)
    np.save(tmp_path / "image.npy", image)
    out = tmp_path / "out"
    assert denoise.main(["--run", str(run), "--output", str(out), str(tmp_path / "image.npy")]) == 0
    (restored,) = out.rglob("*.npy")
    state = doubled(torch.load(generator, weights_only=True))
    noisy = torch.from_numpy(image / 255)[None, None]
    noise = stacks.dncnn(state, noisy, slope=0.2)
    original = (noisy - noise.clamp(-1, 1)).clamp(0, 1)[0, 0].numpy() * 255
    assert np.abs(np.load(restored).astype(float) - original).max() <= 0.51  # rounded to whole grey values

    words = ["--config", str(run / "config.yaml"), f"init_from.run={run}", "loop.max_steps=1", "loop.epochs=null"]
    small = ["data.batch_size=2", "data.crop=32", "evaluation.every_epochs=null"]
    assert train.main([*words, *small, "--run-dir", str(tmp_path / "next")]) == 0
    capsys.readouterr()
    assert train.main(["--config", str(run / "config.yaml"), "--run-dir", str(run)]) == 5
    captured = capsys.readouterr()
    assert f"init_from.run={run}" in single_error(captured.out + captured.err)


@pytest.fixture(scope="module")
def oct_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few small OCT images."""
    from quell.shards import build

    root = tmp_path_factory.mktemp("oct")
    sizes = ["--train", "6", "--val", "2", "--test", "2", "--size", "40"]
    assert build.main(["oct_synthetic", "--output", str(root), *sizes]) == 0
    return root


def test_weights_that_give_other_images_are_refused(
    generator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The slope is in no tensor of the file: with the wrong one everything loads, and the images are wrong."""
    run = tmp_path / "run"
    message = refused(["tcfl", str(generator), "--run-dir", str(run), "pipeline.generator.slope=0.01"], capsys)
    assert "give another noise" in message and "nothing was written" in message
    assert not run.exists()


def test_other_shapes_and_other_kinds_are_refused_by_name(
    generator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["--run-dir", str(tmp_path / "run")]
    message = refused(["tcfl", str(generator), *run, "pipeline.generator.depth=12"], capsys)
    assert "do not fit tcfl as configured" in message and "generator.layers." in message
    for kind, expected in (
        ("cncl", "not a generator of CNCL"),
        ("r2r", "not a network of R2R"),
        ("drgan", "none of DRGAN's networks"),
        ("spectroformer", "no network of Spectroformer"),
        ("c2c", "holds a single network, but a best.pt"),
    ):
        assert expected in refused([kind, str(generator), *run], capsys)
    state = torch.load(generator, weights_only=True)
    extended = old_weights.save({**state, "extra.weight": torch.zeros(1)}, tmp_path / "extended.pth")
    assert "tensor 'extra.weight' does not belong" in refused(["tcfl", str(extended), *run], capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_damaged_files_are_refused(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "old.pth"
    file.write_bytes(content)
    assert f"{file} cannot be read" in refused(["tcfl", str(file), "--run-dir", str(tmp_path / "run")], capsys)
    missing = refused(["tcfl", str(tmp_path / "none.pth"), "--run-dir", str(tmp_path / "run")], capsys)
    assert "none.pth: no such file" in missing


def test_a_folder_with_a_run_is_not_overwritten(
    generator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["tcfl", str(generator), "--run-dir", str(tmp_path / "run")]
    assert import_weights.main(arguments) == 0
    assert "holds a run already" in refused(arguments, capsys)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_whole_modules_are_read_without_their_classes_and_without_running_anything(
    generator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `torch.save(network)` wrote them, from a script whose module no longer exists."""
    old = types.ModuleType("old_training_script")
    sys.modules["old_training_script"] = old

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dncnn = nn.ParameterDict()

    Network.__module__, Network.__qualname__ = "old_training_script", "Network"
    old.Network = Network  # type: ignore[attr-defined]
    network = Network()
    trap = tmp_path / "trap"
    network.trap = Trap(trap)  # type: ignore[assignment]
    for name, value in torch.load(generator, weights_only=True).items():
        place: nn.Module = network
        *parents, last = name.split(".")
        for parent in parents:
            if parent not in place._modules or isinstance(place._modules[parent], nn.ParameterDict):
                place.add_module(parent, nn.Module())
            place = place.get_submodule(parent)
        place.register_parameter(last, nn.Parameter(value))
    file = old_weights.save(network, tmp_path / "whole.pth")
    del sys.modules["old_training_script"]
    assert import_weights.main(["tcfl", str(file), "--run-dir", str(tmp_path / "run")]) == 0
    assert not trap.exists()
    assert "36 tensors" in capsys.readouterr().out


def test_a_reference_of_the_original_program_is_compared(
    generator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(generator, weights_only=True)
    noisy = np.random.default_rng(1).integers(0, 255, (24, 30), dtype=np.uint8)
    image = torch.from_numpy(noisy / 255).float()[None, None]
    restored = (image - stacks.dncnn(state, image, slope=0.2)).clamp(0, 1)[0, 0].numpy()
    reference = tmp_path / "reference.npz"
    np.savez(reference, noisy=noisy, restored=restored)
    arguments = ["tcfl", str(generator), "--reference", str(reference)]
    assert import_weights.main([*arguments, "--run-dir", str(tmp_path / "run")]) == 0
    np.savez(reference, noisy=noisy, restored=restored + 0.01)
    assert f"than that in {reference}" in refused([*arguments, "--run-dir", str(tmp_path / "other")], capsys)
    np.savez(reference, image=noisy)
    assert "expected noisy and what the original" in refused([*arguments, "--run-dir", str(tmp_path / "other")], capsys)
