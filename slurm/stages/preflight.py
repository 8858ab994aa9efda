"""What would stop a training run only after it has waited in the queue, checked before anything is submitted."""

from typing import Any

from quell.configs import registry
from quell.configs.batching import batch_problem
from quell.configs.fields import FieldSpec
from quell.configs.schema import RunConfig
from quell.configs.support.paths import resolve
from quell.configs.support.suggestions import did_you_mean
from quell.slurm.stages.schema import Stage

_NETWORKS: dict[str, list[str]] = {}
"""Names of the networks of each method built so far: the stages of a file often share one."""


def check(stage: Stage, config: RunConfig, *, data_may_be_built: bool) -> list[str]:
    """Missing data, missing weights, unknown networks, and batches that do not divide over the processes.

    Args:
        stage: The stage.
        config: Its configuration.
        data_may_be_built: An earlier stage runs a command, which may build the data.
    """
    problems = []
    root = config.data.root
    if "://" not in root and not data_may_be_built and not resolve(root).is_dir():
        problems.append(f"data.root: no folder {resolve(root)}; build the shards first or set data.root")
    if config.init_from and stage.init_from is None and not resolve(config.init_from.run).is_dir():
        problems.append(f"init_from.run: no run at {resolve(config.init_from.run)}; give the stage an init_from")
    batch = batch_problem(
        config.data.batch_size, world_size=stage.resources.world_size, accumulate=config.loop.accumulate
    )
    return [*problems, *filter(None, [batch]), *_unknown_parts(stage, config)]


def networks(config: RunConfig) -> list[str]:
    """Names of a run's networks, found by building its method on the meta device, without memory for the weights."""
    import torch  # only here: everything else about stages works without it, on a login node

    method = config.pipeline.model_dump_json()
    if method not in _NETWORKS:
        cls: Any = registry.find("pipelines", config.pipeline.name)
        fields = {field: FieldSpec(channels=1) for field in cls.needs(config.pipeline).fields}
        with torch.device("meta"):
            pipeline = cls(config.pipeline, fields)
        _NETWORKS[method] = sorted({key.split(".")[0] for key in pipeline.checkpoint_state()})
    return _NETWORKS[method]


def _unknown_parts(stage: Stage, config: RunConfig) -> list[str]:
    """Names in `init_from.parts` that are no networks of this stage."""
    parts = stage.init_from.parts if stage.init_from else ()
    known = networks(config) if parts else []
    return [f"init_from.parts: no network '{part}'; {did_you_mean(part, known)}" for part in parts if part not in known]
