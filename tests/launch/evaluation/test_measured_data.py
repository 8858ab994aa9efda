"""What a report says of its data: members instead of fields, and the group of every sample."""

from pathlib import Path

import numpy as np

from quell.configs.fields import Needs, Source
from quell.configs.schema import DataConfig
from quell.launch.evaluation.evaluator import ImageRow
from quell.launch.evaluation.measured_data import add_groups, measured_outputs
from quell.pipelines.base import Output
from quell.shards.building.writer import write_split
from quell.shards.reading.shard_set import ShardSet


def test_outputs_are_named_by_the_members_that_their_fields_are_read_from() -> None:
    needs = Needs({"noisy": Source(), "clean": Source(scale_of="noisy", optional=True)})
    data = DataConfig(root="x", batch_size=1, fields={"noisy": "pd", "clean": "pd_clean"})
    outputs = {"restored": Output("noisy", "clean"), "other": Output("noisy", "clean", primary=False)}
    assert measured_outputs(outputs, needs, data) == {
        "restored": {"noisy": "pd", "clean": "pd_clean", "primary": True},
        "other": {"noisy": "pd", "clean": "pd_clean", "primary": False},
    }


def test_rows_name_the_group_of_their_sample_where_the_notes_do(tmp_path: Path) -> None:
    image = np.zeros((8, 8), np.float32)
    notes: list[dict[str, object]] = [{"group": "knee1"}, {"case": "b"}, {"group": 7}]
    samples = [{"__key__": f"s{i}", "noisy.npy": image, "json": note} for i, note in enumerate(notes)]
    write_split(tmp_path / "test", samples, name="t", meta={"data_range": 1.0})
    rows = [ImageRow(index, f"s{index}", values={"restored/psnr": 30.0}) for index in range(3)]
    add_groups(rows, ShardSet.open(tmp_path / "test"))
    assert [row.group for row in rows] == ["knee1", None, "7"]
    assert [row.to_json().get("group") for row in rows] == ["knee1", None, "7"]
