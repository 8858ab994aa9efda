"""Whatever a configuration file holds, reading it ends soon, with plain values or one sentence."""

import json
from pathlib import Path

import numpy as np
import pytest

from quell.configs import loader
from quell.configs.documents import MAX_DEPTH, parse_json, parse_yaml
from quell.configs.errors import ConfigError
from quell.configs.support.paths import ROOT
from tests.support.mutations import NASTY_VALUES, mutate_yaml

BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: {{ WIDTH }}", "line 1: the template {{ WIDTH }} has not been filled in"),
        ('a: 1\nb: "x{{WIDTH}}"', "line 2: the template {{WIDTH}}"),
        ("a: {% if x %}1{% endif %}", "the template {% if x %}"),
        ("{{ WIDTH }}: 3", "the template {{ WIDTH }}"),
        ("1: x", "a key must be text: write '1' in quotes (line 1"),
        ("a: {true: x}", "write 'true' in quotes"),
        ("2026-01-31: x\nnull: y", "write 'null' in quotes"),
        ("? [a]\n: b", "not a list or a mapping"),
        ("a: " + "9" * 5000, "a number of 5000 digits"),
        ("a: 0x" + "f" * 500, "digits"),
        ("[" * 900 + "]" * 900, f"nested more than {MAX_DEPTH} levels deep"),
        ("[" * 100_000, f"nested more than {MAX_DEPTH} levels deep"),
        ("- " * 100_000, f"nested more than {MAX_DEPTH} levels deep"),
        ("{a: " * 100_000, f"nested more than {MAX_DEPTH} levels deep"),
        (BOMB, "with aliases expanded"),
        ("a: &a [*a]", "*a refers to a value that contains it"),
        ("a: &a {<<: *a}", "*a refers to a value that contains it"),
        ("a: {<<: 3}", "merging"),
        ("<<: {a: 1}\n<<: {b: 2}", "'<<' is given twice"),
        ("a: {b: 1, b: 2}", "'b' is given twice"),
        ("a: !!python/object/apply:os.system [x]", "the tag !!python/object/apply:os.system is not supported"),
        ("a: !!binary aGk=", "the tag !!binary is not supported"),
        ("a: !!int abc", "does not fit its tag"),
        ("x" * 1_000_001, "characters are more than"),
        ("\ud800", "no text"),
        ("a: 1\n---\nb: 2", "single document"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_merge_keys_are_merged_and_may_be_overridden() -> None:
    text = "base: &b {x: 1, y: 2}\nmore: &m {<<: *b, y: 3, z: 4}\nboth: {<<: [*m, {w: 5}], x: 6}\nagain: *b"
    merged = parse_yaml(text)
    assert merged["more"] == {"x": 1, "y": 3, "z": 4}
    assert merged["both"] == {"x": 6, "y": 3, "z": 4, "w": 5}
    assert merged["again"] == {"x": 1, "y": 2}


def test_dates_and_equal_signs_are_text_and_comments_may_hold_templates() -> None:
    assert parse_yaml("a: 2026-13-45  # {{ X }}\n# {{ Y }}\nb: =") == {"a": "2026-13-45", "b": "="}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested more than"),
        ('{"a": ' * 5000, "nested more than"),
        ("9" * 5000, "a number of 5000 digits"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ('"' + '\\"' * 100_000, "not readable as JSON"),
        ("", "not readable as JSON"),
    ],
)
def test_json_is_bounded_in_the_same_way(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_json(text)
    assert parse_json('{"a": "[[[[{", "b": [1, 2.5, null]}') == {"a": "[[[[{", "b": [1, 2.5, None]}


def test_a_file_and_an_override_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "deep.yaml").write_text("pipeline: " + "[" * 900)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "huge.yaml").write_text("#" * 5_000_000)
    for name, says in (("deep.yaml", "levels deep"), ("deep.json", "levels deep"), ("huge.yaml", "too large")):
        with pytest.raises(ConfigError, match=says) as caught:
            loader.load(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(ConfigError, match="'data.crop=.*the template {{ X }}"):
        loader.load(ROOT / "configs" / "quickstart.yaml", ["data.crop={{ X }}"])
    with pytest.raises(ConfigError, match="an override looks like"):
        loader.apply({}, [".".join("a" * 1000) + "=1"])


@pytest.mark.parametrize("name", ["quickstart", "tcfl", "original_flat_cross", "spectroformer_official"])
def test_damaged_configurations_are_valid_or_refused(name: str, tmp_path: Path) -> None:
    """Never another exception, and never more than a sentence a problem."""
    intact = (ROOT / "configs" / f"{name}.yaml").read_text()
    random, file, refused = np.random.default_rng(7), tmp_path / f"{name}.yaml", 0
    for _ in range(250):
        file.write_bytes(mutate_yaml(intact, random).encode("utf-8", "surrogatepass"))
        try:
            loader.load(file)
        except ConfigError as error:
            refused += 1
            assert all("\n" not in problem and "secret" not in problem for problem in error.problems)
    assert refused > 100


@pytest.mark.parametrize(
    "key", ["data.root", "name", "pipeline", "optimizer.phases", "loop.epochs", "init_from", "seed"]
)
def test_nasty_values_are_valid_or_refused(key: str) -> None:
    for value in NASTY_VALUES:
        try:
            config = loader.load(ROOT / "configs" / "quickstart.yaml", [f"{key}={value}"])
        except ConfigError as error:
            assert "secret" not in str(error)
        else:
            assert json.loads(config.model_dump_json())


@pytest.mark.parametrize("number", ["010", "-017", "1:30", "12:30:45.5", "0_7"])
def test_numbers_that_yaml_reads_differently_from_what_they_look_like_are_refused(number: str) -> None:
    with pytest.raises(ConfigError, match=f"{number} is octal or sexagesimal in YAML: write the decimal number"):
        parse_yaml(f"a: {number}")


def test_ordinary_numbers_and_quoted_ones_are_read() -> None:
    assert parse_yaml("a: [0, 0.5, 10, 0x10, 1_000, '010', \"1:30\"]") == {"a": [0, 0.5, 10, 16, 1000, "010", "1:30"]}
