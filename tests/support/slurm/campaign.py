"""The stages that test_on_cluster.py submits: a chain, interruptions, failures, a sweep, a job of two GPUs."""

from tests.support.slurm.launcher import TINY

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

SINGLE = {"config": "configs/cross_no_skip.yaml"}
SWEEP = {
    "sweep": {**SINGLE, "grid": {"optimizer.lr": [3.0e-4, 1.0e-9]}},
    "best": {"pick": {"stage": "sweep", "metric": "psnr"}},
    "longer": {**SINGLE, "overrides": {"loop.max_steps": 2}, "use": "best", "init_from": {"stage": "best"}},
    "report": {"command": ["-c", "import sys; print(*sys.argv[1:])", "{sweep.*}", "{longer}"], "after": ["longer"]},
}
INTERRUPTED = {
    "preempted": {**SINGLE, "resources": {"partition": "low"}},
    "timed": {**SINGLE, "resources": {"grace_s": 110}, "overrides": {"tracking.tensorboard": True}},
    "requeued": SINGLE,
    "drained": SINGLE,
}
FAILING = {
    "bad": {**WARMUP, "overrides": {"loop.max_steps": 4000}},
    "never": {**SINGLE, "after": ["bad"]},
    "cleanup": {"command": ["-c", "print('cleaned up')"], "after": {"bad": "afternotok"}},
}
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "CUDA_VISIBLE_DEVICES")
GPUS = {
    "command": ["-c", f"import os; print(*[os.environ[name] for name in {VARIABLES}])"],
    "resources": {"gpus_per_node": 2, "nodes": 2},
}
STOP_AT_FIRST = (
    "import pathlib, sys; marker = pathlib.Path(sys.argv[1], 'started'); restarted = marker.exists(); marker.touch(); "
    "sys.exit(0 if restarted else 75)"
)
RESTARTED = {"each": "sweep", "command": ["-c", STOP_AT_FIRST, "{here}"]}
EVERYTHING = {**INTERRUPTED, **FAILING, **CHAIN, "evaluation": EVALUATION, **SWEEP, "restarted": RESTARTED}
