"""The largest batch that fits: found with few tries, under a limit that ends a try cleanly, turned into settings."""

import sys
from pathlib import Path

import pytest

from quell.configs import loader
from quell.configs.support.json_files import read_json
from quell.launch.batch_size import command as batch_size
from quell.launch.batch_size import search
from quell.launch.batch_size.search import Measured
from quell.launch.batch_size.trial import EXIT_TOO_LARGE
from tests.support.commands import Command
from tests.support.small_runs import SMALL_CONFIG, SmallRun, single_error


def tried(limit: int, largest: int = 1024) -> dict[int, bool]:
    found = search.search(lambda samples: Measured(samples, samples <= limit), largest)
    assert [one.samples for one in found] == sorted({one.samples for one in found}), "no size twice"
    return {one.samples: one.fits for one in found}


@pytest.mark.parametrize(("limit", "found"), [(1, 1), (2, 2), (3, 3), (5, 5), (7, 7), (11, 11), (47, 44), (100, 96)])
def test_the_largest_is_found_to_an_eighth(limit: int, found: int) -> None:
    sizes = tried(limit)
    assert max(samples for samples, fits in sizes.items() if fits) == found
    assert found > limit * 7 / 8 and len(sizes) <= 12


def test_nothing_beyond_the_largest_is_tried_and_nothing_may_fit() -> None:
    assert tried(1000, largest=24) == {1: True, 2: True, 4: True, 8: True, 16: True, 24: True}
    assert tried(0) == {1: False}


@pytest.mark.parametrize(
    ("batch", "fitting", "processes", "expected"),
    [
        (8, 8, 1, ["same training: data.batch_size=8 loop.accumulate=1 (8 at a time)"]),
        (8, 3, 1, ["data.batch_size=8 loop.accumulate=4 (2 at a time)", "full memory: data.batch_size=3"]),
        (8, 5, 2, ["data.batch_size=8 loop.accumulate=1 (4 at a time)", "full memory: data.batch_size=10"]),
        (8, 4, 3, ["the global batch of 8 cannot be divided among 3 processes", "full memory: data.batch_size=12"]),
    ],
)
def test_the_global_batch_is_kept_first(
    small_run: SmallRun, batch: int, fitting: int, processes: int, expected: list[str]
) -> None:
    lines = search.advice(small_run(f"data.batch_size={batch}"), fitting, processes, is_limit=True)
    assert lines[0] == f"largest that fits: {fitting} at a time on each process"
    assert len(lines) == 1 + len(expected) and all(word in line for word, line in zip(expected, lines[1:], strict=True))


def test_a_try_beyond_its_memory_ends_cleanly(mini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert batch_size.main(["--config", SMALL_CONFIG, f"data.root={mini}", "--memory-gb", "0.15"]) == 6
    printed = capsys.readouterr()
    assert "| 1 | - | - | no |" in printed.out
    assert "not even one sample fits into 138 MiB" in single_error(printed.err)


@pytest.mark.slow
def test_tries_are_measured_and_errors_of_the_configuration_are_told(
    mini: Path, command: Command, tmp_path: Path, small_run: SmallRun
) -> None:
    words = [sys.executable, "-m", "quell", "batch-size", "--config", SMALL_CONFIG, "--largest", "2"]
    output = command([*words, f"data.root={mini}"]).output
    assert "largest that fits: 2 at a time on each process, the largest tried" in output
    assert "loop.accumulate=4 (2 at a time)" in output and output.count("| yes |") == 2
    assert "nowhere" in command([*words, f"data.root={tmp_path}/nowhere"], code=6).output
    file, written = tmp_path / "small.yaml", tmp_path / "result.json"
    file.write_text(loader.dump(small_run("evaluation.every_epochs=null", "loop.max_steps=9")))
    trial = [sys.executable, "-m", "quell.launch.batch_size.trial", file, "4"]
    command([*trial, str(2**20), written], code=EXIT_TOO_LARGE)
    assert not written.exists()
    command([*trial, str(2**36), written])
    assert read_json(written)["peak_bytes"] > 2**27 and read_json(written)["images_per_s"] > 0
