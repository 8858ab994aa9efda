"""What an evaluation says of the data it has measured, so that others can tell whether theirs was of the same."""

from collections.abc import Mapping
from typing import TypedDict

from quell.configs.errors import DataError
from quell.configs.fields import Needs
from quell.configs.schema import DataConfig
from quell.launch.evaluation.evaluator import Rows
from quell.pipelines.base import Output
from quell.shards.reading.shard_set import ShardSet


class MeasuredOutput(TypedDict):
    """An output of the method, by the members of the shards, which all methods share, rather than by its fields."""

    noisy: str
    """Member that it was restored from."""
    clean: str
    """Member of the ground truth."""
    primary: bool
    """Whether it counts towards the headline metric."""


def measured_outputs(outputs: Mapping[str, Output], needs: Needs, data: DataConfig) -> dict[str, MeasuredOutput]:
    """The method's outputs by name, with the members that its fields are read from."""
    members = needs.members(data.fields)
    return {
        name: {
            "noisy": members.get(output.noisy, output.noisy),
            "clean": members.get(output.clean, output.clean),
            "primary": output.primary,
        }
        for name, output in outputs.items()
    }


def add_groups(rows: Rows, shards: ShardSet) -> None:
    """Note in each row which group (patient, subject or scene) its sample belongs to, where the shards say so."""
    for row in rows:
        row.group = group_of(shards, row.index)


def group_of(shards: ShardSet, sample: int) -> str | None:
    """The group in a sample's notes; None where there is none, or the notes cannot be read."""
    try:
        group = shards.json(sample).get("group")
    except DataError:  # the images are intact, and they are what is measured; `verify` reports damaged notes
        return None
    return None if group is None else str(group)
