"""A job that asked for GPUs computes on GPUs or not at all."""

import os
import socket

import torch

from configs.errors import MachineError

VARIABLE = "QUELL_WANTS_GPUS"
"""Set by the launcher in jobs that asked SLURM for GPUs; slurm/node/node_faults.py knows the sentences below."""


def refuse_cpu() -> None:
    """MachineError, naming the node and what is missing, where GPUs were asked for; for a process without any."""
    if not os.environ.get(VARIABLE):
        return
    if not (torch.version.cuda or torch.version.hip):
        raise MachineError(
            f"this stage asks for GPUs, but PyTorch {torch.__version__} was built without CUDA support: install a CUDA "
            "build for the jobs' Python, or set resources.gpus_per_node=0 to train on CPUs"
        )
    node = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    raise MachineError(
        f"this stage asks for GPUs, but PyTorch finds none on node {node} (CUDA_VISIBLE_DEVICES is {visible}): look at "
        "nvidia-smi there, or set resources.gpus_per_node=0 to train on CPUs"
    )
