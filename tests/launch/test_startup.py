"""A run starts quickly because it imports only what it uses, and that only when it uses it."""

import json
import sys
from pathlib import Path

from quell.configs import registry
from tests.support.commands import Command

UNUSED = {
    "bm3d",
    "clearml",
    "comet_ml",
    "deepspeed",
    "h5py",
    "matplotlib",
    "mlflow",
    "submitit",
    "sympy",
    "tensorboard",
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed.tensor",
    "transformers",
    "wandb",
    "webdataset",
}
NOT_YET_USED = {"scipy.fft", "scipy.ndimage", "scipy.special", "skimage.metrics"}
"""What evaluation needs, but no training step."""

SCRIPT = """
import json, sys
sys.path[0] = {root!r}
from quell.launch import train
from quell.launch.training import loop

def first_step(*args):
    values = step(*args)
    imported.append(sorted(sys.modules))
    return values

step, loop.train_step, imported = loop.train_step, first_step, []
code = train.main(sys.argv[2:])
json.dump([*imported, sorted(sys.modules)], open(sys.argv[1], "w"))
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
            "configs/supervised.yaml",
            f"data.root={mini}",
            "data.fields={noisy: pd, clean: pd_clean}",
            "data.representation=magnitude",
            "data.crop=8",
            "pipeline.network={name: dncnn, depth: 3, width: 4}",
            "loop.max_steps=1",
            "tracking.tensorboard=false",
            "--run-dir",
            tmp_path / "run",
        ]
    )
    after_a_step, at_the_end = map(set, json.loads(modules.read_text()))
    assert "torch.optim" in after_a_step
    assert after_a_step.isdisjoint(UNUSED | NOT_YET_USED), sorted(after_a_step & (UNUSED | NOT_YET_USED))
    assert at_the_end.isdisjoint(UNUSED), sorted(at_the_end & UNUSED)
    methods = at_the_end & {f"quell.pipelines.{name}" for name in registry.names("pipelines")}
    assert methods == {"quell.pipelines.supervised"}


def test_help_imports_neither_torch_nor_accelerate(command: Command, root: Path) -> None:
    printed = command([sys.executable, "-X", "importtime", "launch/train.py", "--help"]).output
    imported = {line.rpartition("|")[2].strip() for line in printed.splitlines()}
    assert "quell.launch.cli" in imported
    assert imported.isdisjoint({"torch", "accelerate", "numpy", "scipy"})
