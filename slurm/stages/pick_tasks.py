"""The task of a stage with a `pick`: the candidates to choose from."""

from pathlib import Path

from quell.slurm.stages.read import StageGraph
from quell.slurm.stages.sweep import member_changes, run_dir, variants
from quell.slurm.stages.task import StageTasks, digest, new_task


def build(graph: StageGraph, root: Path, name: str) -> StageTasks:
    """One task that chooses among the members of the sweep."""
    stage = graph.stages[name]
    pick = stage.pick
    assert pick is not None
    sweep = graph.stages.get(pick.stage)
    members = list(variants(sweep)) if sweep else []
    task = new_task(
        root, graph.site, stage, name, kind="pick", pick=pick, digest=digest(pick.model_dump(), members),
        candidates={member: str(run_dir(root, pick.stage, member)) for member in members},
        changes={member: member_changes(sweep, member) for member in members if sweep},
    )  # fmt: skip
    return StageTasks([task])
