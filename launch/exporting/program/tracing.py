"""Tracing a restoration with torch.export, for images of any number, height and width."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram, export

from quell.configs.errors import ConfigError, MachineError, QuellError
from quell.configs.export_mode.flag import exporting
from quell.launch.exporting.program.restoration import RestorationProgram
from quell.launch.inference.restorer import MIN_SIDE_PX

CAN_TRACE = hasattr(Dim, "DYNAMIC")
"""Whether this torch can leave sizes open without knowing how they depend on each other."""
EXAMPLE = (2, 45, 37)
"""Images, height and width of what is traced: no side is a multiple of anything, as nothing may depend on them."""


def traced(program: RestorationProgram, *, source: str) -> ExportedProgram:
    """The program as operators of torch.

    Args:
        program: To trace, on the CPU.
        source: What messages call the run.

    Raises:
        ConfigError: It does something that is no operator, or depends on the size of the images.
        MachineError: This torch is too old.
    """
    if not CAN_TRACE:
        raise MachineError(f"exporting needs torch 2.6 or newer, this is {torch.__version__}: pip install -U torch")
    if obstacle := program.pipeline.export_obstacle():
        raise ConfigError(f"{source}: {program.pipeline.config.name} cannot be exported: {obstacle}")
    side = Dim.DYNAMIC(min=MIN_SIDE_PX)
    image: dict[int, object] = {0: Dim.DYNAMIC(min=1), 2: side, 3: side}
    dimensions = (*(image for _ in program.inputs), *({} for _ in program.levels))
    try:
        with exporting(), _without_autocast(), quiet(), torch.no_grad():
            return export(program.eval(), example(program), dynamic_shapes=(dimensions,), strict=False)
    except QuellError as error:
        raise ConfigError(f"{source} cannot be exported: {error}") from error
    except Exception as error:  # torch.export documents no class of its own
        raise ConfigError(
            f"{source}: {program.pipeline.config.name} cannot be exported: torch.export stopped at "
            f"{first_sentence(error)}"
        ) from error


def example(program: RestorationProgram) -> tuple[Tensor, ...]:
    """Inputs of the kind that the program takes, with neither a median nor a variance of zero."""
    count, height, width = EXAMPLE
    images = [
        (torch.arange(count * port.channels * height * width) % 251 + 1.0).view(count, port.channels, height, width)
        / 251
        for port in program.inputs
    ]
    return (*images, *(torch.zeros(1) for _ in program.levels))


def first_sentence(error: BaseException) -> str:
    """The first line of an error's text that says something, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters warn of: themselves, and packages that nothing here needs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _without_autocast() -> Iterator[None]:
    """Parts of networks switch autocast off around themselves; it is off, and would be traced as a nested program."""
    autocast = torch.autocast
    torch.autocast = _NoAutocast  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        torch.autocast = autocast  # type: ignore[misc]


class _NoAutocast(nullcontext[None]):
    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()
