"""One optimizer per phase, and a step that is skipped when the gradient is not finite."""

import functools
import inspect
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.configs.schema import OptimizerConfig
from quell.configs.support.suggestions import did_you_mean

FUSED = ("cpu", "cuda", "xpu")
"""Kinds of devices whose fused kernels read `found_inf` and `grad_scale`; those of Apple GPUs refuse them."""


def make(config: OptimizerConfig, phase: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of one phase; settings in `optimizer.phases` override the common ones."""
    own = config.phases.get(phase)
    chosen = {key: value for key, value in (own.model_dump() if own else {}).items() if value is not None}
    settings = config.model_copy(update=chosen)
    lr, betas, decay = settings.lr, settings.betas, settings.weight_decay
    fused: dict[str, bool] = {"fused": True} if can_fuse(config, parameters) else {}
    match config.name:
        case "adamw":
            return uncompiled(torch.optim.AdamW)(parameters, lr=lr, betas=betas, weight_decay=decay, **fused)
        case "adam":
            return uncompiled(torch.optim.Adam)(parameters, lr=lr, betas=betas, weight_decay=decay, **fused)
        case "sgd":
            return uncompiled(torch.optim.SGD)(parameters, lr=lr, momentum=betas[0], weight_decay=decay, **fused)
        case _:
            return uncompiled(torch.optim.RMSprop)(parameters, lr=lr, weight_decay=decay)


@functools.cache
def uncompiled(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """The same optimizer, which does not import torch's compiler (1.4 s) for the decorators that keep it out of graphs.

    torch wraps these methods in functions that ask the compiler to leave them alone, and so load it even where nothing
    is compiled. What they wrap is the method itself.
    """
    plain = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in plain}
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(inspect.unwrap(kind.step))})


def refuse_other_phases(config: OptimizerConfig, phases: list[str]) -> None:
    """ConfigError unless every phase in `optimizer.phases` is one of the method's."""
    unknown = [
        f"optimizer.phases.{name}: the method has no such phase; {did_you_mean(name, phases)}"
        for name in config.phases
        if name not in phases
    ]
    if unknown:
        raise ConfigError(unknown)


def can_fuse(config: OptimizerConfig, parameters: list[nn.Parameter]) -> bool:
    """Whether torch has a fused kernel that can skip a step: real float parameters, not RMSprop, a device of FUSED."""
    return config.name != "rmsprop" and all(p.is_floating_point() and p.device.type in FUSED for p in parameters)


def apply(
    optimizer: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    *,
    clip: float | None,
    scaler: torch.amp.GradScaler,
    look: Callable[[], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Unscale and clip the gradients, and step unless they are not finite.

    Gradients have been averaged over ranks, so one bad rank makes every rank skip. A fused optimizer gets the decision
    as a tensor, and clips while it steps: nothing waits for the device, and gradients are not traversed once more.
    Other optimizers make the host wait.

    Args:
        optimizer: Of these parameters.
        parameters: Those of one phase.
        clip: Largest gradient norm; None does not clip.
        scaler: Loss scaler; disabled unless training in fp16.
        look: Called once the gradients are unscaled, before they are clipped.

    Returns:
        Gradient norm before clipping, and 1 if the step was skipped else 0: scalars on the device.
    """
    scaler.unscale_(optimizer)
    norm = gradient_norm(parameters)
    if look is not None:
        look()
    bad = (norm * 0).ne_(0).float()  # inf and NaN times zero are NaN; fewer kernels than isfinite
    fused = bool(optimizer.defaults.get("fused")) and not scaler.is_enabled()
    if fused or scaler.is_enabled():
        _begin_momentum(optimizer, parameters)
    if fused:
        # torch's fused kernels read these: they divide gradients by grad_scale, and change nothing if found_inf is 1
        optimizer.found_inf = bad  # type: ignore[attr-defined]
        optimizer.grad_scale = None  # type: ignore[attr-defined]
    if clip is not None:
        if fused and norm.dtype == torch.float32:  # the only dtype that grad_scale may have
            optimizer.grad_scale = ((norm + 1e-6) / clip).clamp_(min=1.0)  # type: ignore[attr-defined]
        else:
            torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    if scaler.is_enabled():
        scaler.step(optimizer)
    elif fused or not bool(bad):
        optimizer.step()
    return norm.detach(), bad


def _begin_momentum(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """Start momenta of SGD at zero, from which the first step computes what it would have computed without any.

    torch allocates them in the first step. Its fused kernel, told to skip that one, leaves them uninitialised.
    """
    if not optimizer.defaults.get("momentum") or len(optimizer.state) == len(parameters):
        return
    for parameter in parameters:
        if optimizer.state[parameter].get("momentum_buffer") is None:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of the gradients of all parameters together."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
