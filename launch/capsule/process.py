"""How this process was started: command, launcher, and the environment variables that matter."""

import os
import re
import sys
from collections.abc import Sequence

from quell.configs.support.json_files import Record
from quell.configs.support.secrets import MASK, mask

PREFIXES = (
    "ACCELERATE_", "CUBLAS_", "CUDA_", "CUDNN_", "GLOO_", "GOMP_", "HIP_", "HSA_", "KMP_", "MKL_", "NCCL_", "NUMEXPR_",
    "NVIDIA_", "OMP_", "ONEDNN_", "OPENBLAS_", "PYTHONHASHSEED", "PYTORCH_", "QUELL_", "ROCR_", "TORCH_", "UCX_", "ZE_",
)  # fmt: skip
"""Beginnings of the names of variables that are recorded, beside those of the world."""

WORLD = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_NNODES", "SLURM_RESTART_COUNT")

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)

_LAUNCHERS = re.compile(r"\b(accelerate|torchrun|torch\.distributed\.(?:run|launch)|deepspeed|mpirun|srun|submitit)\b")


def variables() -> dict[str, str]:
    """The environment variables that can change a run or say where it ran, by name; secrets are masked."""
    chosen = {name: value for name, value in os.environ.items() if name.startswith(PREFIXES) or name in WORLD}
    return {name: MASK if _SECRET.search(name) else mask(value) for name, value in sorted(chosen.items())}


def command() -> Record:
    """What was typed, where, and what started this process if that was a launcher."""
    launcher = _launcher()
    return {
        "words": [mask(word) for word in sys.orig_argv],
        "folder": os.getcwd(),
        "launcher": launcher[0],
        "launcher_words": [mask(word) for word in launcher[1]],
    }


def _launcher() -> tuple[str, Sequence[str]]:
    """Name and command line of the launcher that started this process; `python` without one."""
    try:
        import psutil

        words = psutil.Process(os.getppid()).cmdline()
    except Exception:  # not installed, or a process that may not be looked at
        words = []
    named = [_LAUNCHERS.search(word) for word in words[:4]]
    name = next((match[1] for match in named if match), None)
    if name is None:
        return ("slurm" if "SLURM_JOB_ID" in os.environ else "python"), []
    return ("torchrun" if name.startswith("torch") else name), words
