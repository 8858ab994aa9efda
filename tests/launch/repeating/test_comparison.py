"""Two sets of weights are the same if every bit is, and two logs if every number is that both have."""

import json
from pathlib import Path

import pytest
import torch

from quell.configs.support.json_files import Record
from quell.launch.repeating.comparison import compare, first_difference

NAN = float("nan")


def test_equal_bits_are_equal_also_where_they_are_nan() -> None:
    weights = {"a": torch.tensor([1.0, NAN]), "b": torch.tensor(2, dtype=torch.int64), "c": torch.zeros(2, 0)}
    assert compare(weights, {name: tensor.clone() for name, tensor in weights.items()}) == []


@pytest.mark.parametrize(
    ("a", "b", "differing", "largest"),
    [
        (torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]), 1, 0.0),
        (torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.5, 3.0]), 2, 1.0),
        (torch.tensor([NAN]), torch.tensor([1.0]), 1, float("inf")),
        (torch.tensor([1 + 1j]), torch.tensor([1 + 0j]), 1, 1.0),
        (torch.ones(2), torch.ones(3), 0, float("inf")),
        (torch.ones(2), torch.ones(2, dtype=torch.float64), 0, float("inf")),
        (torch.tensor(1.0, dtype=torch.bfloat16), torch.tensor(2.0, dtype=torch.bfloat16), 1, 1.0),
    ],
)
def test_any_other_bit_is_a_difference(a: torch.Tensor, b: torch.Tensor, differing: int, largest: float) -> None:
    (row,) = compare({"a": a, "same": torch.ones(1)}, {"a": b, "same": torch.ones(1)})
    assert (row.name, row.differing, row.largest) == ("a", differing, largest)


def test_a_tensor_that_one_of_the_two_lacks_is_a_difference() -> None:
    assert [row.name for row in compare({"a": torch.ones(1)}, {"b": torch.ones(1)})] == ["a", "b"]


def write(file: Path, *events: Record) -> Path:
    file.write_text("".join(json.dumps({"time": 1.0, **event}) + "\n" for event in events), encoding="utf-8")
    return file


def line(step: int, loss: float, speed: float = 1.0) -> Record:
    return {"event": "train", "step": step, "loss": loss, "images_per_s": speed}


def test_logs_are_compared_where_their_means_are_over_the_same_steps(tmp_path: Path) -> None:
    resumed = {"event": "resume", "step": 3}
    a = write(
        tmp_path / "a", line(2, 1.0), resumed, line(4, 9.0), line(6, 3.0), {"event": "eval", "step": 6, "psnr": 1.0}
    )
    b = write(tmp_path / "b", line(2, 1.0, 5.0), line(4, 2.0), line(6, 3.0), {"event": "eval", "step": 6, "psnr": 2.0})
    first, compared = first_difference(a, b, 5)
    assert first is None and compared == 1
    first, compared = first_difference(a, b, 6)
    assert first is not None and (first.step, first.name, first.recorded, first.repeated) == (6, "eval psnr", 1.0, 2.0)
    assert compared == 3
