"""Runs of version 0.1 can be resumed, bit for bit, evaluated, and used to restore images.

older_runs/ contains the folders of two runs that were killed after their checkpoint at step 5, and in expected.json the
results of version 0.1 at step 10. With the same CPU kernels the results must be equal bit for bit; on another machine
or with another version of torch they are compared with a relative tolerance. `python -m tests.launch.test_older_runs`
rewrites expected.json.
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

from quell.configs.support.paths import ROOT
from tests.support.runs import checkpoint_of, read_events, read_summary

OLDER = Path(__file__).resolve().parent / "older_runs"
EXPECTED = OLDER / "expected.json"

DETERMINISTIC_ENV = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip
"""Environment in which all processors with AVX2 sum in the same order."""
LAUNCHER_VARIABLES = ("ACCELERATE_", "LOCAL_", "MASTER_", "RANK", "SLURM_", "WORLD_")
"""Prefixes of the variables through which a launcher around the tests would interfere with their processes."""

RUNS = ("run_0_1", "run_0_1_gan")
DATA = {
    "run_0_1": ["phantom", "--train", "12", "--val", "3", "--test", "2", "--size", "32"],
    "run_0_1_gan": ["oct_synthetic", "--train", "9", "--val", "3", "--test", "2", "--size", "40"],
}
"""Arguments of shards.build that rebuild the images of a run."""
TOLERANCE = 1e-4
ZERO_GRADIENT_TOLERANCE = 2e-3
"""For biases followed by a norm: their gradient is rounding error, which Adam scales to steps of full size."""
TIMINGS = {"time", "images_per_s", "step_ms", "data_wait"}


def run_python(*arguments: object, code: int = 0) -> str:
    """Run Python with these arguments in the project root, check its exit code, and return its output."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHER_VARIABLES)}
    process = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**inherited, **DETERMINISTIC_ENV},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
    )
    assert process.returncode == code, f"{' '.join(map(str, arguments))}\n{process.stdout}"
    return process.stdout


def copy_run(name: str, folder: Path) -> tuple[Path, Path]:
    """Copy a run folder of version 0.1 and rebuild the images that it was trained on; return both folders."""
    run, images = folder / name, folder / "images"
    shutil.copytree(OLDER / name, run)
    source, *options = DATA[name]
    run_python("-m", "shards.build", source, "--output", images, *options)
    return run, images


def resume(run: Path, config: Path, images: Path) -> str:
    """Resume a run, train it to its end, and return the output."""
    return run_python("launch/train.py", "--config", config, "--run-dir", run, f"data.root={images}")


def results_of(run: Path) -> dict[str, Any]:
    """Checksum and norm of every tensor of the checkpoint at step 10, and the last logged values."""
    checkpoint = checkpoint_of(run, 10)
    tensors = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        for name, value in sorted(load_file(file).items()):
            content = f"{value.dtype} {value.shape} ".encode() + value.tobytes()
            tensors[f"{file.stem}/{name}"] = {
                "sha256": hashlib.sha256(content).hexdigest(),
                "norm": float(np.linalg.norm(value.astype(np.float64))),
            }
    return {
        "tensors": tensors,
        "numbers": {
            kind: {name: value for name, value in last.items() if isinstance(value, float) and name not in TIMINGS}
            for kind in ("train", "eval")
            for last in read_events(run, kind)[-1:]
        },
    }


def kernels() -> dict[str, str]:
    """What has to be the same for results to agree bit for bit."""
    words = run_python("-c", "import torch; print(torch.__version__, torch.backends.cpu.get_cpu_capability())").split()
    return {"machine": platform.machine(), "torch": words[-2], "kernels": words[-1]}


@pytest.fixture(scope="module", params=RUNS)
def resumed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path, str]:
    """Name, run folder and images of a run resumed from step 5, and the output of the training."""
    run, images = copy_run(request.param, tmp_path_factory.mktemp("older"))
    assert [path.name for path in (run / "checkpoints").glob("step-*")] == ["step-00000005"]
    return request.param, run, images, resume(run, run / "config.yaml", images)


def test_a_killed_run_of_version_0_1_resumes_bit_for_bit(resumed: tuple[str, Path, Path, str]) -> None:
    name, run, _, output = resumed
    expected_file, actual = json.loads(EXPECTED.read_text()), results_of(run)
    assert "at step 5 of 10" in output
    assert read_summary(run)["status"] == "finished"
    expected = expected_file["runs"][name]
    assert actual["tensors"].keys() == expected["tensors"].keys()
    if expected_file["made_with"] == kernels():
        assert actual["tensors"] == expected["tensors"]
        assert actual["numbers"]["train"] == expected["numbers"]["train"]
        assert actual["numbers"]["eval"] == pytest.approx(expected["numbers"]["eval"], rel=1e-6, abs=1e-6)
        return
    for tensor, value in expected["tensors"].items():
        tolerance = ZERO_GRADIENT_TOLERANCE if tensor.endswith(".bias") else 0
        assert actual["tensors"][tensor]["norm"] == pytest.approx(value["norm"], rel=TOLERANCE, abs=tolerance), tensor
    for kind, numbers in expected["numbers"].items():
        assert actual["numbers"][kind] == pytest.approx(numbers, rel=TOLERANCE, abs=1e-6), kind


def test_its_log_continues_without_a_gap_or_a_repetition(resumed: tuple[str, Path, Path, str]) -> None:
    _, run, _, _ = resumed
    assert [event["step"] for event in read_events(run, "train")] == list(range(1, 11))
    assert [event["step"] for event in read_events(run, "eval")] == [5, 10]


def test_its_weights_keep_their_names_and_shapes(resumed: tuple[str, Path, Path, str]) -> None:
    _, run, _, _ = resumed
    for file in ("weights.safetensors", "ema.safetensors"):
        old, new = (checkpoint_of(run, step) / file for step in (5, 10))
        assert old.is_file() == new.is_file()
        if old.is_file():
            before, after = load_file(old), load_file(new)
            assert {name: value.shape for name, value in before.items()} == {
                name: value.shape for name, value in after.items()
            }


@pytest.mark.parametrize("name", RUNS)
def test_a_checkpoint_of_version_0_1_can_be_evaluated_and_restores_images(name: str, tmp_path: Path) -> None:
    """evaluate.py and denoise.py read the run folder as the kill left it, without training."""
    run, images = copy_run(name, tmp_path)
    report = tmp_path / "report.json"
    run_python("launch/evaluate.py", "--run", run, "--data", images, "--baseline", "noisy", "--output", report)
    content = json.loads(report.read_text())
    assert content["checkpoint"] == "step-00000005" and content["images"] == 2
    assert all(np.isfinite(row[key]) for row in content["rows"] for key in row if key.endswith("/psnr"))
    fields = ("pd", "pdfs") if name == "run_0_1" else ("noisy",)
    shape = (40, 36)
    for field in fields:
        image = np.random.default_rng(1).random(shape).astype(np.float32)
        np.save(tmp_path / f"{field}.npy", image.astype(np.complex64) if field != "noisy" else image)
    inputs = ",".join(f"{field}={tmp_path / field}.npy" for field in fields)
    run_python("launch/denoise.py", "--run", run, inputs, "--output", tmp_path / "restored")
    restored = list((tmp_path / "restored").glob("*.npy"))
    assert len(restored) == len(fields)
    assert all(np.load(file).shape == shape and np.isfinite(np.load(file)).all() for file in restored)


def write_expected() -> None:
    """Resume the runs with the present code and write their results to expected.json."""
    runs = {}
    for name in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            run, images = copy_run(name, Path(folder))
            resume(run, run / "config.yaml", images)
            runs[name] = results_of(run)
    EXPECTED.write_text(json.dumps({"made_with": kernels(), "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    write_expected()
