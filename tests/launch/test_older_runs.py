"""Runs of version 0.1 are continued to the bit, measured and used: their folders and checkpoints stay readable.

older_runs/ holds what two runs left that were killed after their checkpoint at step 5, and expected.json what the code
that wrote them learned by going on to step 10. The same kernels give the same bits; on another machine or with another
torch the numbers are compared with a relative tolerance instead. `python tests/launch/test_older_runs.py` writes
expected.json anew.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
OLDER = Path(__file__).resolve().parent / "older_runs"
EXPECTED = OLDER / "expected.json"

PINNED = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip
"""Environment in which processors of one kind add up in the same order."""
OTHER_LAUNCHES = ("ACCELERATE_", "LOCAL_", "MASTER_", "RANK", "SLURM_", "WORLD_")
"""Prefixes of variables by which a surrounding launcher would join the processes of a test."""

RUNS = ("run_0_1", "run_0_1_gan")
DATA = {
    "run_0_1": ["phantom", "--train", "12", "--val", "3", "--test", "2", "--size", "32"],
    "run_0_1_gan": ["oct_synthetic", "--train", "9", "--val", "3", "--test", "2", "--size", "40"],
}
"""Arguments of shards.build that make the images of a run."""
TOLERANCE = 1e-4
CHANCE = 2e-3
"""How far chance moves what has no gradient (a bias before a norm): Adam makes whole steps of rounding errors."""
SPEED = {"time", "images_per_s", "step_ms", "data_wait"}


def start(*words: object, code: int = 0) -> str:
    """Run python with these arguments in the project's root; what it printed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(OTHER_LAUNCHES)}
    finished = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env={**kept, **PINNED},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
    )
    assert finished.returncode == code, f"{' '.join(map(str, words))}\n{finished.stdout}"
    return finished.stdout


def copied(name: str, folder: Path) -> tuple[Path, Path]:
    """A run folder of version 0.1, and the images it was trained on, made anew."""
    run, images = folder / name, folder / "images"
    shutil.copytree(OLDER / name, run)
    source, *words = DATA[name]
    start("-m", "shards.build", source, "--output", images, *words)
    return run, images


def go_on(run: Path, config: Path, images: Path) -> str:
    """Continue a run to its end; what was printed."""
    return start("launch/train.py", "--config", config, "--run-dir", run, f"data.root={images}")


def learned(run: Path) -> dict[str, Any]:
    """Every tensor of the checkpoint at step 10 (checksum, norm), and the last numbers of training and evaluation."""
    checkpoint = run / "checkpoints" / "step-00000010"
    tensors = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        for name, value in sorted(load_file(file).items()):
            described = f"{value.dtype} {value.shape} ".encode() + value.tobytes()
            tensors[f"{file.stem}/{name}"] = {
                "sha256": hashlib.sha256(described).hexdigest(),
                "norm": float(np.linalg.norm(value.astype(np.float64))),
            }
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "tensors": tensors,
        "numbers": {
            kind: {name: value for name, value in last.items() if isinstance(value, float) and name not in SPEED}
            for kind in ("train", "eval")
            for last in [[event for event in events if event["event"] == kind][-1]]
        },
    }


def kernels() -> dict[str, str]:
    """What decides whether numbers can agree to the bit."""
    torch_says = start("-c", "import torch; print(torch.__version__, torch.backends.cpu.get_cpu_capability())").split()
    return {"machine": platform.machine(), "torch": torch_says[-2], "kernels": torch_says[-1]}


@pytest.fixture(scope="module", params=RUNS)
def continued(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path, str]:
    """Name, run folder and images of a run that was taken up from step 5, and what was printed."""
    run, images = copied(request.param, tmp_path_factory.mktemp("older"))
    assert [path.name for path in (run / "checkpoints").glob("step-*")] == ["step-00000005"]
    return request.param, run, images, go_on(run, run / "config.yaml", images)


def test_a_killed_run_of_version_0_1_is_continued_to_the_bit(continued: tuple[str, Path, Path, str]) -> None:
    name, run, _, said = continued
    expected, found = json.loads(EXPECTED.read_text()), learned(run)
    assert "at step 5 of 10" in said
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    wanted = expected["runs"][name]
    assert found["tensors"].keys() == wanted["tensors"].keys()
    if expected["made_with"] == kernels():
        assert found == wanted
        return
    for tensor, value in wanted["tensors"].items():
        chance = CHANCE if tensor.endswith(".bias") else 0
        assert found["tensors"][tensor]["norm"] == pytest.approx(value["norm"], rel=TOLERANCE, abs=chance), tensor
    for kind, numbers in wanted["numbers"].items():
        assert found["numbers"][kind] == pytest.approx(numbers, rel=TOLERANCE, abs=1e-6), kind


def test_its_log_goes_on_without_a_gap_or_a_repetition(continued: tuple[str, Path, Path, str]) -> None:
    _, run, _, _ = continued
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "train"] == list(range(1, 11))
    assert [event["step"] for event in events if event["event"] == "eval"] == [5, 10]


def test_its_weights_have_the_names_of_today(continued: tuple[str, Path, Path, str]) -> None:
    _, run, _, _ = continued
    for file in ("weights.safetensors", "ema.safetensors"):
        old, new = (run / "checkpoints" / step / file for step in ("step-00000005", "step-00000010"))
        assert old.is_file() == new.is_file()
        if old.is_file():
            before, after = load_file(old), load_file(new)
            assert {name: value.shape for name, value in before.items()} == {
                name: value.shape for name, value in after.items()
            }


@pytest.mark.parametrize("name", RUNS)
def test_a_checkpoint_of_version_0_1_is_measured_and_used(name: str, tmp_path: Path) -> None:
    """Nothing is trained: evaluate.py and denoise.py open the folder as the kill left it."""
    run, images = copied(name, tmp_path)
    report = tmp_path / "report.json"
    start("launch/evaluate.py", "--run", run, "--data", images, "--baseline", "noisy", "--output", report)
    measured = json.loads(report.read_text())
    assert measured["checkpoint"] == "step-00000005" and measured["images"] == 2
    assert all(np.isfinite(row[key]) for row in measured["rows"] for key in row if key.endswith("/psnr"))
    fields = ("pd", "pdfs") if name == "run_0_1" else ("noisy",)
    shape = (40, 36)
    for field in fields:
        image = np.random.default_rng(1).random(shape).astype(np.float32)
        np.save(tmp_path / f"{field}.npy", image.astype(np.complex64) if field != "noisy" else image)
    asked = ",".join(f"{field}={tmp_path / field}.npy" for field in fields)
    start("launch/denoise.py", "--run", run, asked, "--output", tmp_path / "restored")
    restored = list((tmp_path / "restored").glob("*.npy"))
    assert len(restored) == len(fields)
    assert all(np.load(file).shape == shape and np.isfinite(np.load(file)).all() for file in restored)


def write_expected() -> None:
    """Continue the runs with this code and keep what they learned."""
    runs = {}
    for name in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            run, images = copied(name, Path(folder))
            go_on(run, run / "config.yaml", images)
            runs[name] = learned(run)
    EXPECTED.write_text(json.dumps({"made_with": kernels(), "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    write_expected()
