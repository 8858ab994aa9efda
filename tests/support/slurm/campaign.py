"""The stages that test_on_cluster.py hands in: a chain, interruptions, failures, a sweep, a job of two GPUs."""

from tests.support.slurm.driver import TINY

NAME = "campaign"
STEPS = list(range(1, TINY["loop.max_steps"] + 1))

WARMUP = {"config": "configs/progressive_training.yaml", "resources": {"nodes": 2}}
DENOISE = {
    "config": "configs/progressive_training_stage2.yaml",
    "init_from": {"stage": "warmup", "parts": ["encoder", "decoder_a"], "which": "best"},
}
EVALUATION = {
    "command": ["launch/evaluate.py", "--run", "{denoise}", "--output", "{here}/report.json"],
    "after": ["denoise"],
}
CHAIN = {"warmup": WARMUP, "denoise": DENOISE}

ONE = {"config": "configs/cross_no_skip.yaml"}
SWEEP = {
    "sweep": {**ONE, "grid": {"optimizer.lr": [3.0e-4, 1.0e-9]}},
    "best": {"pick": {"stage": "sweep", "metric": "psnr"}},
    "longer": {**ONE, "overrides": {"loop.max_steps": 2}, "use": "best", "init_from": {"stage": "best"}},
    "report": {"command": ["-c", "import sys; print(*sys.argv[1:])", "{sweep.*}", "{longer}"], "after": ["longer"]},
}
INTERRUPTED = {
    "preempted": {**ONE, "resources": {"partition": "low"}},
    "timed": {**ONE, "resources": {"grace_s": 110}, "overrides": {"tracking.tensorboard": True}},
    "requeued": ONE,
    "drained": ONE,
}
FAILING = {
    "bad": {**WARMUP, "overrides": {"loop.max_steps": 4000}},
    "never": {**ONE, "after": ["bad"]},
    "cleanup": {"command": ["-c", "print('cleaned up')"], "after": {"bad": "afternotok"}},
}
NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "CUDA_VISIBLE_DEVICES")
GPUS = {
    "command": ["-c", f"import os; print(*[os.environ[name] for name in {NAMES}])"],
    "resources": {"gpus_per_node": 2, "nodes": 2},
}
ONCE_MORE = "import pathlib, sys; seen = pathlib.Path(sys.argv[1], 'seen'); found = seen.exists(); seen.touch()"
RESTARTED = {"each": "sweep", "command": ["-c", f"{ONCE_MORE}; sys.exit(0 if found else 75)", "{here}"]}
EVERYTHING = {**INTERRUPTED, **FAILING, **CHAIN, "evaluation": EVALUATION, **SWEEP, "restarted": RESTARTED}
