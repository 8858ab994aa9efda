"""The way of a user from images to restored files in one process: FOLDER is where everything is written."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quell.launch import denoise, diagnose, evaluate, train
from quell.launch.machine import devices
from quell.shards import build, inspect, noise, verify

SETTINGS = (
    "data.batch_size=2", "data.crop=32", "data.threads=2", "loop.max_steps=4", "evaluation.every_epochs=null",
    "evaluation.every_steps=2", "checkpoint.every_steps=1", "checkpoint.keep_last=1",
)  # fmt: skip


def main(folder: Path) -> None:
    """Each command once, and the training in two parts."""
    data, run, config = folder / "data", folder / "run", ("--config", "configs/quickstart.yaml")
    phantom = ("--size", "48", "--train", "4", "--val", "2", "--test", "2")
    done(build.main(["phantom", "--output", str(data), *phantom]))
    done(inspect.main([str(data / "train")]))
    done(noise.main([str(data / "train")]))
    done(verify.main([str(data / "train"), "--repair"]))
    words = [*config, "--run-dir", str(run), f"data.root={data}", *SETTINGS]
    done(train.main([*words, "loop.max_steps=2"]))
    done(train.main(words))
    done(evaluate.main(["--run", str(run), "--baseline", "noisy"]))
    done(diagnose.main(["--run", str(run)]))
    image = np.random.default_rng(0).random((4, 48, 48), dtype=np.float32)
    np.save(folder / "pd.npy", image[0] + 1j * image[1])
    np.save(folder / "pdfs.npy", image[2] + 1j * image[3])
    pair = f"pd={folder / 'pd.npy'},pdfs={folder / 'pdfs.npy'}"
    done(denoise.main(["--run", str(run), pair, "--output", str(folder / "restored")]))
    print("peak", devices.peak_bytes(devices.default_device()))


def done(code: int, expected: Sequence[int] = (0,)) -> None:
    """AssertionError where a command failed."""
    assert code in expected, f"exit code {code}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
