"""A run starts quickly because it imports only what it uses."""

import json
import sys
from pathlib import Path

from configs import registry
from tests.support.commands import Command
from tests.support.small_runs import SMALL_CONFIG

UNUSED = ("bm3d", "deepspeed", "h5py", "matplotlib", "submitit", "tensorboard", "transformers", "wandb", "webdataset")

SCRIPT = """
import json, sys
sys.path[0] = {root!r}
from launch import train
code = train.main(sys.argv[2:])
json.dump(sorted(sys.modules), open(sys.argv[1], "w"))
sys.exit(code)
"""


def test_a_run_imports_no_package_and_no_method_that_it_does_not_use(
    mini: Path, command: Command, root: Path, tmp_path: Path
) -> None:
    script, modules = tmp_path / "script.py", tmp_path / "modules.json"
    script.write_text(SCRIPT.format(root=str(root)))
    command(
        [
            sys.executable,
            script,
            modules,
            "--config",
            SMALL_CONFIG,
            f"data.root={mini}",
            "loop.max_steps=1",
            "tracking.tensorboard=false",
            "--run-dir",
            tmp_path / "run",
        ]
    )
    imported = set(json.loads(modules.read_text()))
    assert imported.isdisjoint(UNUSED), sorted(imported & set(UNUSED))
    methods = imported & {f"pipelines.{name}" for name in registry.names("pipelines")}
    assert methods == {"pipelines.dual_domain"}
