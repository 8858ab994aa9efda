"""The division of a global batch into equal micro-batches, checked with the same words wherever a batch is divided."""


def batch_problem(batch_size: int, *, world_size: int = 1, accumulate: int = 1) -> str:
    """Why a global batch cannot be divided into equal micro-batches; empty if it can.

    Args:
        batch_size: Samples of one optimizer step, over all processes and accumulated micro-batches.
        world_size: Number of processes.
        accumulate: Micro-batches of each process per optimizer step.
    """
    parts = world_size * accumulate
    if batch_size > 0 and batch_size % parts == 0:
        return ""
    processes = "process" if world_size == 1 else "processes"
    micro_batches = "micro-batch" if accumulate == 1 else "accumulated micro-batches"
    return (
        f"data.batch_size must be a multiple of {parts} ({world_size} {processes} x {accumulate} {micro_batches}), "
        f"got {batch_size}: it is the global batch of one optimizer step"
    )
