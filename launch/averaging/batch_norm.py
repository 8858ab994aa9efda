"""The running statistics of batch normalisation, computed anew: those of other weights do not fit their average."""

from dataclasses import replace

import torch
from torch import nn

from quell.configs.schema import RunConfig
from quell.launch.data import loading
from quell.launch.data.finishing import Finisher
from quell.launch.training.build import make_order
from quell.models.blocks.norms import FrozenBatchNorm2d
from quell.pipelines.base import Pipeline
from quell.shards.reading.streaming import TrainingSplit

BatchNorm = nn.modules.batchnorm._BatchNorm
"""torch's common base of its batch normalisations; it has no public name."""


def layers_with_statistics(pipeline: Pipeline) -> list[BatchNorm]:
    """The layers whose statistics depend on the weights; those of frozen ones are constants of the run."""
    return [
        layer
        for layer in pipeline.modules()
        if isinstance(layer, BatchNorm) and layer.running_mean is not None and not isinstance(layer, FrozenBatchNorm2d)
    ]


@torch.no_grad()
def recompute(
    pipeline: Pipeline, config: RunConfig, shards: TrainingSplit, *, batches: int, device: torch.device, step: int
) -> int:
    """Set the statistics to their mean over training batches, of which the losses are computed as in training.

    Args:
        pipeline: In evaluation mode, on the device.
        config: The run's.
        shards: The training split.
        batches: How many batches to read.
        device: Where to compute.
        step: The step whose active phases are computed.

    Returns:
        The number of layers; 0 where there are none, and then nothing is read.

    Source:
        Izmailov et al., UAI 2018, section 3.3 (stochastic weight averaging).
    """
    layers = layers_with_statistics(pipeline)
    if not layers:
        return 0
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
        layer.train()
    recipe = loading.training_recipe(pipeline.training_needs(), config.data, shards, pipeline.draws)
    order = replace(make_order(config, len(shards), 0, 1), accumulate=1)
    finish = Finisher(recipe, shards, order.seed)
    with loading.training_loader(recipe, config.data, shards, order, steps=batches) as loader:
        for batch in (part for global_batch in loader for part in global_batch):
            on_device = finish(loading.to_device(batch | finish.seeds(batch), device))
            carry: dict[str, torch.Tensor] = {}
            for phase in pipeline.phases:
                if pipeline.is_active(phase, step):
                    carry |= pipeline.loss(phase, on_device, carry).carry
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
    return len(layers)
