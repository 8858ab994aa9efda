"""The environment in which a run is trained again: variables that change numbers are as they were."""

import os

from quell.configs.support.json_files import Record
from quell.configs.support.paths import BASE_VARIABLE, base
from quell.configs.support.secrets import MASK

_NUMERIC = (
    "ACCELERATE_", "CUBLAS_", "CUDNN_", "GOMP_", "KMP_", "MKL_", "NCCL_ALGO", "NCCL_PROTO", "NUMEXPR_", "NVIDIA_TF32",
    "OMP_", "ONEDNN_", "OPENBLAS_", "PYTHONHASHSEED", "PYTORCH_", "TORCH_",
)  # fmt: skip
"""Beginnings of the names of variables that can change numbers."""
_OF_THE_MACHINE = ("TORCH_HOME", "TORCH_EXTENSIONS_DIR", "TORCH_CUDA_ARCH_LIST", "ACCELERATE_LOG_LEVEL")
_OF_A_LAUNCHER = (
    "ACCELERATE_", "GROUP_", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_", "PET_", "RANK", "ROLE_", "TORCHELASTIC_",
    "WORLD_SIZE",
)  # fmt: skip


def restored_variables(start: Record) -> dict[str, str] | None:
    """The variables of a start that its repetition gets; None where none were recorded."""
    recorded = start.get("variables")
    if recorded is None:
        return None
    return {name: value for name, value in recorded.items() if _is_numeric(name) and value != MASK}


def environment_of(start: Record) -> dict[str, str]:
    """The environment variables of a process that repeats a start, on this machine.

    What a launcher around this process has set is left out, as is what can change numbers and was not set then.
    """
    restored = restored_variables(start)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OF_A_LAUNCHER)}
    if restored is not None:
        kept = {name: value for name, value in kept.items() if not _is_numeric(name)} | restored
    if str(start.get("device", "")).startswith("cpu"):
        kept["ACCELERATE_USE_CPU"] = "true"
    return {**kept, BASE_VARIABLE: str(base())}


def _is_numeric(name: str) -> bool:
    return name.startswith(_NUMERIC) and name not in _OF_THE_MACHINE
