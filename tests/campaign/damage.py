"""Damaged files: a run or a reader goes on with the right result, or stops with one sentence."""

import io
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np

from quell.configs import loader
from quell.configs.errors import QuellError, run_command
from quell.configs.support.paths import ROOT
from quell.shards.reading.shard_set import ShardSet
from tests.campaign.outcomes import ENDED_BY_NAME, Outcome, of_code
from tests.campaign.processes import outcome, train_words
from tests.campaign.workspace import STEPS, Workspace
from tests.support.mutations import Mutator, mutate_bytes, mutate_json_lines, mutate_tar, mutate_yaml
from tests.support.runs import read_weights, same_bits
from tests.support.train_each import copy_first_steps

HALFWAY = STEPS - 1
"""Step whose checkpoint is damaged; the one before it is intact."""

SIDE_FILES = ("metrics.jsonl", "summary.json", "checkpoints/best.json")


def damage_a_checkpoint(space: Workspace, random: np.random.Generator) -> tuple[Outcome, str]:
    """Damage a file of the newest checkpoint and resume: from the one before it, to the same weights."""
    with space.folder() as folder:
        run = _half_a_run(space, folder)
        checkpoint = run / "checkpoints" / f"step-{HALFWAY:08d}"
        files = sorted(path for path in checkpoint.iterdir() if path.is_file())
        file = files[int(random.integers(len(files)))]
        note = _damage(file, mutate_json_lines if file.suffix == ".json" else mutate_bytes, random)
        code = outcome(train_words(space.words, run), folder / "log")
        return of_code(code, right=code == 0 and space.is_right(run)), note


def damage_a_side_file(space: Workspace, random: np.random.Generator) -> tuple[Outcome, str]:
    """Damage the log, the summary or the note of the best checkpoint and resume."""
    with space.folder() as folder:
        run = _half_a_run(space, folder)
        shutil.copyfile(space.undisturbed / "summary.json", run / "summary.json")
        note = _damage(run / SIDE_FILES[int(random.integers(len(SIDE_FILES)))], mutate_json_lines, random)
        code = outcome(train_words(space.words, run), folder / "log")
        return of_code(code, right=code == 0 and space.is_right(run)), note


def damage_a_shard(space: Workspace, random: np.random.Generator) -> tuple[Outcome, str]:
    """Damage a tar and read every sample of it through the index, with checksums."""
    return _read_damaged(space, random, "*.tar", mutate_tar)


def damage_an_index(space: Workspace, random: np.random.Generator) -> tuple[Outcome, str]:
    """Damage a file of the index and read every sample."""
    return _read_damaged(space, random, "index.*", mutate_bytes)


def damage_a_stream(space: Workspace, random: np.random.Generator) -> tuple[Outcome, str]:
    """Damage a tar and train from it as a stream."""
    with space.folder() as folder:
        shards = folder / "shards"
        shutil.copytree(space.shards, shards)
        tars = sorted((shards / "train").glob("*.tar"))
        note = _damage(tars[int(random.integers(len(tars)))], mutate_tar, random)
        words = (*space.words[:-1], f"data.root={shards}", "data.mode=stream", "loop.max_steps=3")
        code = outcome(train_words(words, folder / "run"), folder / "log")
        right = code == 0 and _same_stream(space, folder / "run")
        return of_code(code, right=right), note


def slip_in_a_config(space: Workspace, random: np.random.Generator) -> tuple[Outcome, str]:
    """Make one to three slips in a shipped YAML and load it: valid, or every problem named."""
    files = sorted((ROOT / "configs").glob("*.yaml"))
    file = files[int(random.integers(len(files)))]
    text = mutate_yaml(file.read_text(), random)
    with space.folder() as folder:
        mutated = folder / file.name
        mutated.write_text(text, encoding="utf-8", errors="surrogatepass")

        def load() -> int:
            loader.load(mutated)
            return 0

        with redirect_stderr(io.StringIO()):
            try:
                code = run_command(load)
            except Exception as error:
                return Outcome.CRASHED, f"{file.name}: {type(error).__name__}: {text[:2000]!r}"
    return of_code(code, right=True), file.name


def _half_a_run(space: Workspace, folder: Path) -> Path:
    """A copy of the undisturbed run as a kill after the checkpoint before the last would have left it."""
    run = folder / "run"
    copy_first_steps(space.undisturbed, HALFWAY, run)
    return run


def _damage(file: Path, mutate: Mutator, random: np.random.Generator) -> str:
    """Replace a file by a damaged copy; what was done, to be repeated by the seed."""
    intact = file.read_bytes()
    damaged = mutate(intact, random)
    file.write_bytes(damaged)
    differing = (place for place, (a, b) in enumerate(zip(intact, damaged, strict=False)) if a != b)
    first = next(differing, min(len(intact), len(damaged)))
    return f"{file.name}, {len(intact)} to {len(damaged)} bytes, first difference at {first}"


def _read_damaged(space: Workspace, random: np.random.Generator, pattern: str, mutate: Mutator) -> tuple[Outcome, str]:
    with space.folder() as folder:
        split = folder / "train"
        shutil.copytree(space.shards / "train", split)
        files = sorted(split.glob(pattern))
        note = _damage(files[int(random.integers(len(files)))], mutate, random)
        try:
            with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
                right = _all_pixels(split) == _all_pixels(space.shards / "train")
        except QuellError as error:
            known = error.exit_code in ENDED_BY_NAME
            return Outcome.REFUSED if known else Outcome.CRASHED, f"{note}: {error}"
        except Exception as error:
            return Outcome.CRASHED, f"{note}: {type(error).__name__}: {error}"
        return Outcome.SURVIVED if right else Outcome.SILENT, note


def _all_pixels(split: Path) -> list[tuple[str, bytes]]:
    """Keys and pixels of every field of every sample."""
    shards = ShardSet.open(split)
    try:
        return [
            (f"{shards.key(i)}.{field}", np.ascontiguousarray(shards.read(i, field)).tobytes())
            for i in range(len(shards))
            for field in sorted(shards.fields)
        ]
    finally:
        shards.files.close()


def _same_stream(space: Workspace, run: Path) -> bool:
    """Whether a streamed run learned what one from intact shards learns; that one is trained once and kept."""
    intact = space.root / "undisturbed-stream"
    if not intact.exists():
        words = (*space.words, "data.mode=stream", "loop.max_steps=3")
        assert outcome(train_words(words, intact), space.root / "log-stream") == 0
    return same_bits(read_weights(run, 3), read_weights(intact, 3))
