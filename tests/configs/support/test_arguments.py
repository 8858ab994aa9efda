"""Numbers outside their range are refused on the command line; the message names argument, range and value."""

import argparse
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from quell.configs.support import paths
from quell.configs.support.arguments import real_number, whole_number
from quell.launch import denoise, evaluate, experiments
from quell.shards import build


def refused(kind: Callable[[str], object], text: str) -> str:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        kind(text)
    return str(caught.value)


def test_whole_numbers_and_numbers_have_bounds() -> None:
    assert whole_number(0)("0") == 0 and whole_number(-2)("-2") == -2 and whole_number(1)("12") == 12
    assert refused(whole_number(1), "0") == "expected a whole number of 1 or more, got '0'"
    for text in ("-1", "1.5", "six", "", "--1", "nan"):
        assert f"got '{text}'" in refused(whole_number(0), text)
    assert real_number(least=0)("0") == 0 and real_number(above=0)("1e-3") == 1e-3
    assert refused(real_number(above=0), "0") == "expected a number above 0, got '0'"
    assert refused(real_number(least=0), "-0.1") == "expected a number of 0 or more, got '-0.1'"
    for text in ("nan", "inf", "much"):
        assert f"got '{text}'" in refused(real_number(least=0), text)


@pytest.mark.parametrize(
    "words",
    [
        ["phantom", "--size", "0"],
        ["phantom", "--train", "-3"],
        ["phantom", "--sigma", "-1"],
        ["phantom", "--limit", "0"],
        ["phantom", "--workers", "0"],
        ["phantom", "--shard-mb", "0"],
        ["awgn", "--sigma", "-5"],
        ["oct_synthetic", "--frames", "0"],
        ["underwater_synthetic", "--scenes", "0"],
        ["arrays", "--group-size", "0"],
        ["folder", "--data-range", "0"],
        ["oct", "--register", "-1"],
        ["knee_mese", "--sigma", "nan"],
        ["ldct", "--low", "("],
        ["ldct", "--patient", "L.."],
    ],
)
def test_builders_refuse_numbers_outside_their_range(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build.main([*words, "--output", "nowhere"])
    assert ended.value.code == 2
    assert f"argument {words[1]}: expected a " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (denoise, ["--batch", "0", "--run", "r", "--output", "o", "i"]),
        (evaluate, ["--limit", "0", "--run", "r"]),
        (experiments, ["--processes", "0", "--all"]),
    ],
)
def test_scripts_refuse_numbers_outside_their_range(
    script: ModuleType, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        script.main(words)
    assert ended.value.code == 2 and f"argument {words[0]}: expected a whole number" in capsys.readouterr().err


def test_a_tilde_of_an_unknown_user_is_not_expanded(root: Path) -> None:
    assert paths.resolve("~nobody-of-this-name/x") == root / "~nobody-of-this-name" / "x"
    assert paths.resolve("~nobody-of-this-name/x") == root / "~nobody-of-this-name" / "x"
