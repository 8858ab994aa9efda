"""Benchmarks run, and their operation counts are right; no test measures speed."""

import logging
import runpy
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from benchmarks import feed
from benchmarks.quality import noise
from benchmarks.support import flops
from quell.configs import loader
from tests.support.commands import Command

COMMANDS = [
    "build --pairs 4 --rounds 1",
    "feed --quick --configs r2r spectroformer_reproduction",
    pytest.param("feed --quick", marks=pytest.mark.slow),
    "floor --quick --only supervised",
    "precision --quick --only r2r",
    pytest.param("submission --quick", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_benchmark_runs_and_prints_its_table(
    command: str, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, *words = command.split()
    script = root / "benchmarks" / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(script), *words])
    monkeypatch.setattr(sys, "path", list(sys.path))
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as ended:
        assert not ended.code
    finally:
        torch.set_num_threads(threads)
        logging.disable(logging.NOTSET)
        AcceleratorState._reset_state(reset_partial_state=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) > 2, "header, rule, rows"
    assert len({line.count("|") for line in lines}) == 1


def test_the_feeds_benchmark_has_images_for_every_configuration(root: Path) -> None:
    roots = {Path(loader.load(path).data.root).name for path in (root / "configs").glob("*.yaml")}
    assert len(roots) > 4 and roots <= feed.DATA.keys()


def test_the_loops_benchmark_runs(command: Command, root: Path) -> None:
    """In a process of its own: it leaves the loop it measures open."""
    ran = command([sys.executable, root / "benchmarks" / "loop_overhead.py", "--quick"])
    assert ran.output.count("| Quell, all on |") == 2


@pytest.mark.parametrize("cls", [torch.nn.Conv2d, torch.nn.ConvTranspose2d])
@pytest.mark.parametrize("groups", [1, 8])
def test_a_convolutions_gradients_take_twice_its_own_arithmetic(cls: type[torch.nn.Module], groups: int) -> None:
    layer = cls(8, 16, 3, stride=2, padding=1, groups=groups, bias=False)
    image = torch.rand(1, 8, 16, 16, requires_grad=True)
    forward = flops.count(lambda: layer(image))
    result = layer(image)
    assert flops.count(lambda: result.sum().backward()) == 2 * forward > 0
    pixels = image if cls is torch.nn.ConvTranspose2d else result
    assert forward == 2 * 9 * 8 * 16 // groups * pixels[0, 0].numel()


def test_the_noise_table_shows_bm3d_told_the_noise_and_tuned_without() -> None:
    def report(**psnr: float) -> noise.Report:
        values = {f"{method}/psnr": value for method, value in psnr.items()} | {f"{m}/ssim": 0.5 for m in psnr}
        row = {f"{field}/{key.removeprefix('own/')}": value for field in noise.FIELDS for key, value in values.items()}
        return {"rows": [row, row, row]}

    told, tuned = report(noisy=20, nlm=25, bm3d=29, own=30), report(bm3d=27, own=30)
    cells = noise.table_row("varying", noise.Measured(told, tuned, 2.5))
    assert [cell.split(" ")[0] for cell in cells[1:]] == [
        *("20.00", "25.00", "27.00", "29.00", "30.00"),
        *("+3.00", "+1.00", "2.5"),
    ]


def test_what_the_noise_benchmark_has_trained_it_does_not_train_again(tmp_path: Path) -> None:
    (tmp_path / "cpu_minutes.json").write_text("1.5")
    assert noise.train(tmp_path, "cross_guided", tmp_path, [], steps=1) == 1.5
