"""Made-up noises: each is what truth_noise.npz says it is, in the phantom; older options write the bytes they wrote."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from quell.losses.noise.model import NoiseModel
from quell.shards import build
from quell.shards.reading.shard_set import ShardSet

KINDS = {
    "gaussian": "white",
    "blurred": "spectrum",
    "streaks": "spectrum",
    "varying": "map",
    "poisson": "white",
    "correlated": "white",
    "kspace": "spectrum",
    "zero_filled": "spectrum",
    "partial": "spectrum",
}
"""Kind of --noise -> kind of the model that describes it."""


def built(folder: Path, *more: str) -> ShardSet:
    """A phantom of 8 small images with this noise, and a second copy."""
    size = ["--size", "64", "--train", "8", "--val", "0", "--test", "0", "--workers", "1"]
    assert build.main(["phantom", "--output", str(folder), *size, *more]) == 0
    return ShardSet.open(folder / "train")


@pytest.mark.parametrize("kind", KINDS)
def test_the_noise_is_what_its_truth_says(kind: str, tmp_path: Path) -> None:
    shards = built(tmp_path, "--noise", kind)
    truth = NoiseModel.load(tmp_path / "truth_noise.npz").fields["pd"]
    assert truth.kind == KINDS[kind]
    clean = np.stack([shards.read(i, "pd_clean") for i in range(8)])
    noise = np.stack([shards.read(i, "pd") for i in range(8)]) - clean
    variance = truth.sigma**2 + truth.gain * np.abs(clean).mean()
    assert noise.real.std() == pytest.approx(np.sqrt(variance), rel=0.05)
    assert np.iscomplexobj(noise) == (kind in ("kspace", "zero_filled", "partial"))
    for rows, columns in ((0, 1), (1, 0), (2, 0)):
        measured = np.mean(noise.real * np.roll(noise.real, (rows, columns), (1, 2))) / np.mean(noise.real**2)
        assert measured == pytest.approx(truth.correlation(rows, columns), abs=0.03)


def test_contrasts_share_the_noise_that_was_asked_for(tmp_path: Path) -> None:
    shards = built(tmp_path, "--noise", "correlated", "--shared", "0.6", "--second")
    noise = [
        np.ravel([shards.read(i, name) - shards.read(i, f"{name.split('_')[0]}_clean") for i in range(8)])
        for name in ("pd", "pdfs", "pd_second", "pdfs_second")
    ]
    expected = np.kron(np.eye(2), [[1, 0.6], [0.6, 1]])
    assert np.corrcoef(noise) == pytest.approx(expected, abs=0.03)


def test_noise_that_no_model_describes_has_no_truth(tmp_path: Path) -> None:
    built(tmp_path / "salt", "--noise", "salt")
    built(tmp_path / "speckle", "--noise", "multiplicative")
    assert not list(tmp_path.glob("*/truth_noise.npz"))


def test_magnitudes_are_real(tmp_path: Path) -> None:
    shards = built(tmp_path, "--noise", "kspace", "--magnitude")
    assert shards.read(0, "pd").dtype == np.float32 and shards.read(0, "pd").min() >= 0
    assert "magnitude of" in str(shards.meta["noise"])


def test_a_share_above_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build.main(["phantom", "--output", str(tmp_path), "--noise", "kspace", "--keep", "1.5"])
    assert "at most 1, got '1.5'" in capsys.readouterr().err


def test_options_of_earlier_versions_write_the_same_bytes(tmp_path: Path) -> None:
    shards = built(tmp_path, "--sigma", "0.2")
    read = [shards.read(i, name).tobytes() for i in range(8) for name in ("pd", "pdfs", "pd_clean", "pdfs_clean")]
    assert (
        hashlib.sha256(b"".join(read)).hexdigest() == "7949e2cd5d63309f8c1223c6a686aae44ecdb529a7c2c45890e1fe0472a6951e"
    )
    assert shards.meta["plan"] == "3636983654d2e79c3d9170779a57537f"
