"""A run imports what it uses: packages of other jobs stay out of its start.

(torch imports its compiler with the first optimizer, used or not.)
"""

import json
import sys
from pathlib import Path

from configs import registry
from tests.support.commands import Command
from tests.support.small_runs import SMALL_CONFIG

NOT_USED = ("bm3d", "deepspeed", "h5py", "matplotlib", "submitit", "tensorboard", "transformers", "wandb", "webdataset")

SCRIPT = """
import json, sys
sys.path[0] = {root!r}
from launch import train
code = train.main(sys.argv[2:])
json.dump(sorted(sys.modules), open(sys.argv[1], "w"))
sys.exit(code)
"""


def test_a_run_imports_nothing_that_it_does_not_use(mini: Path, command: Command, root: Path, tmp_path: Path) -> None:
    script, found = tmp_path / "script.py", tmp_path / "modules.json"
    script.write_text(SCRIPT.format(root=str(root)))
    command(
        [
            sys.executable,
            script,
            found,
            "--config",
            SMALL_CONFIG,
            f"data.root={mini}",
            "loop.max_steps=1",
            "tracking.tensorboard=false",
            "--run-dir",
            tmp_path / "run",
        ]
    )
    imported = set(json.loads(found.read_text()))
    assert imported.isdisjoint(NOT_USED), sorted(imported & set(NOT_USED))
    methods = imported & {f"pipelines.{name}" for name in registry.names("pipelines")}
    assert methods == {"pipelines.dual_domain"}
