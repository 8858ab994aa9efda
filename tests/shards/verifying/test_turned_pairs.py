"""Pairs that are mirrored, turned or inverted are reported by shards.verify, once and by name."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from quell.shards import build, verify
from quell.shards.building.writer import write_split
from quell.shards.reading.shard_set import ShardSet
from quell.shards.verifying.turned_pairs import PairScores, turned_pairs


def make_split(root: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Eight noisy and clean images, after a change."""
    random = np.random.default_rng(5)
    samples = []
    for number in range(8):
        clean = gaussian_filter(random.standard_normal((48, 48)), 3).astype(np.float32)
        noisy = clean + 0.03 * random.standard_normal(clean.shape).astype(np.float32)
        samples.append({"__key__": f"s-{number}", "noisy.npy": noisy, "clean.npy": clean})
    change(samples)
    write_split(root / "train", samples, name="v", meta={"data_range": 1.0})


@pytest.mark.parametrize(
    ("kind", "change", "text"),
    [
        ("inverted pair", lambda image: image.max() - image, "clean fits noisy better when it is inverted"),
        ("turned pair", lambda image: image[:, ::-1], "mirrored left-right (edges correlate by"),
        ("turned pair", lambda image: np.rot90(image), "turned by 270 degrees (edges correlate by"),
    ],
)
def test_a_pair_that_is_turned_or_inverted_is_reported_once(
    tmp_path: Path, kind: str, change: Callable[[np.ndarray], np.ndarray], text: str
) -> None:
    def plant(samples: list[dict[str, Any]]) -> None:
        samples[2]["clean.npy"] = np.ascontiguousarray(change(samples[2]["clean.npy"]))

    make_split(tmp_path / "d", plant)
    [finding] = verify.verify(tmp_path / "d")["findings"]
    assert (finding["severity"], finding["kind"], finding["where"]) == ("warning", kind, "train: s-2")
    assert text in finding["says"]
    assert verify.main([str(tmp_path / "d")]) == 0 and verify.main([str(tmp_path / "d"), "--strict"]) == 4


def test_a_set_that_is_turned_throughout_is_reported_in_one_sentence(tmp_path: Path) -> None:
    def plant(samples: list[dict[str, Any]]) -> None:
        for sample in samples:
            sample["clean.npy"] = np.ascontiguousarray(sample["clean.npy"][::-1])

    make_split(tmp_path / "d", plant)
    [finding] = verify.verify(tmp_path / "d")["findings"]
    assert finding["kind"] == "turned pair" and finding["where"] == "train: s-0"
    assert "mirrored top-bottom" in finding["says"] and finding["says"].endswith("; so do 7 more samples")


def test_few_noisy_pairs_of_two_contrasts_are_judged_over_all_splits(tmp_path: Path) -> None:
    words = ["phantom", "--size", "96", "--train", "8", "--val", "2", "--test", "0", "--output", str(tmp_path / "d")]
    assert build.main(words) == 0 and verify.verify(tmp_path / "d")["findings"] == []
    val = ShardSet.open(tmp_path / "d" / "val")
    samples: list[dict[str, Any]] = [
        {"__key__": val.key(i), "json": val.json(i), **{f"{name}.npy": val.read(i, name) for name in val.fields}}
        for i in range(2)
    ]
    samples[1]["pdfs.npy"] = np.ascontiguousarray(samples[1]["pdfs.npy"][:, ::-1])
    shutil.rmtree(tmp_path / "d" / "val")
    write_split(tmp_path / "d" / "val", samples, name="v", meta=val.meta)
    [finding] = verify.verify(tmp_path / "d")["findings"]
    assert finding["kind"] == "turned pair" and finding["where"] == f"val: {val.key(1)}"
    assert "pdfs_clean fits pdfs better when it is mirrored left-right" in finding["says"]


@pytest.mark.slow
def test_real_pairs_are_not_suspected_and_planted_faults_are_found(tmp_path: Path, real_data: Path) -> None:
    """Contrasts of a knee, OCT frames and averages, underwater photographs and references, camera noise."""
    polyu = real_data / "real_noise_polyu"
    sources = {
        "knee_mese": ["--input", str(real_data / "knee_mese")],
        "oct": ["--input", str(real_data / "oct_duke_sdoct"), "--register", "8"],
        "underwater": ["--input", str(real_data / "underwater_pairs")],
        "folder": [
            f"--field=noisy={polyu}/*_real.JPG",
            f"--field=clean={polyu}/*_mean.JPG",
            "--match=(.+)_(real|mean)",
        ],
    }
    for source, words in sources.items():
        root = tmp_path / source
        assert build.main([source, *words, "--output", str(root)]) == 0
        kinds = {finding["kind"] for finding in verify.verify(root)["findings"]}
        assert not kinds & {"turned pair", "inverted pair"}, source
        shards = ShardSet.open(root / "train")
        first, second = ("pd", "pdfs") if "pd" in shards.fields else ("noisy", "clean")
        intact = [{name: shards.read(i, name) for name in (first, second)} for i in range(8)]
        for kind, change in (
            ("turned pair", lambda image: image[:, ::-1]),
            ("turned pair", lambda image: image[::-1, ::-1]),
            ("inverted pair", lambda image: image.max() - image),
        ):
            scores = PairScores.of_fields([first, second])
            for number, images in enumerate(intact):
                planted: dict[str, np.ndarray] = {**images, second: change(images[second])} if number == 3 else images
                scores.add(str(number), planted)
            [report], concerned = turned_pairs({"train": scores})
            assert concerned == {("train", "3")} and report.is_turned == (kind == "turned pair"), (source, report)
