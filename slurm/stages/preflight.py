"""What a training run would look for in vain, found before anything is submitted."""

from typing import Any

from configs import registry
from configs.fields import FieldSpec
from configs.schema import RunConfig
from configs.support.paths import resolve
from configs.support.suggestions import did_you_mean
from slurm.stages.schema import Stage

_NETWORKS: dict[str, list[str]] = {}
"""Names of the networks of each method already built; the stages of a file often share one."""


def problems(stage: Stage, config: RunConfig, *, data_is_made: bool) -> list[str]:
    """Data, weights and parts that will not be there, and batches that cannot be shared equally.

    `data_is_made`: an earlier stage runs a command, which may build the data.
    """
    found = []
    root = config.data.root
    if "://" not in root and not data_is_made and not resolve(root).is_dir():
        found.append(f"data.root: no folder {resolve(root)}; build the shards first or set data.root")
    if config.init_from and stage.init_from is None and not resolve(config.init_from.run).is_dir():
        found.append(f"init_from.run: no run at {resolve(config.init_from.run)}; give the stage an init_from")
    world, accumulate = stage.resources.world, config.loop.accumulate
    if config.data.batch_size % (world * accumulate):
        found.append(
            f"data.batch_size: {config.data.batch_size} does not divide over {world} processes x {accumulate} "
            "micro-batches"
        )
    return found + _unknown_parts(stage, config)


def networks(config: RunConfig) -> list[str]:
    """Names of what a run learns, found by building its method without memory for the weights."""
    import torch  # only here: everything else about stages is known without it

    method = config.pipeline.model_dump_json()
    if method not in _NETWORKS:
        cls: Any = registry.find("pipelines", config.pipeline.name)
        fields = {field: FieldSpec(channels=1) for field in cls.needs(config.pipeline).fields}
        with torch.device("meta"):
            pipeline = cls(config.pipeline, fields)
        _NETWORKS[method] = sorted({key.split(".")[0] for key in pipeline.checkpoint_state()})
    return _NETWORKS[method]


def _unknown_parts(stage: Stage, config: RunConfig) -> list[str]:
    """Parts of `init_from` that this stage's networks do not have: otherwise found out hours later."""
    parts = stage.init_from.parts if stage.init_from else ()
    known = networks(config) if parts else []
    return [f"init_from.parts: no network '{part}'; {did_you_mean(part, known)}" for part in parts if part not in known]
