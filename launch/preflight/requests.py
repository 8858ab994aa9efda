"""What is asked of `launch/check.py`, and what it answers: JSON on stdin and stdout."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from quell.configs.schema import Positive, Section


class Request(Section):
    """One run that is to be checked."""

    name: str
    """Name by which its problems are returned, and by which other requests refer to it."""
    config: str
    """The complete configuration as YAML."""
    run_dir: str
    """Its run folder, which it continues where that has checkpoints."""
    world: Positive = 1
    """Number of processes."""
    environment: dict[str, str] = {}
    """Environment variables of its processes, which may ask for DeepSpeed."""
    on_cpu: bool = True
    """Whether it runs on CPUs; what GPUs support is not known here."""
    same_packages: bool = True
    """Whether it runs with the packages that are installed here."""
    weights_of: tuple[str, ...] = ()
    """Requests from one of whose weights it starts, which are not trained yet. Otherwise `init_from` exists already."""


Requests = TypeAdapter(Annotated[list[Request], Field(min_length=1)])
"""The JSON on stdin."""

Answer = TypeAdapter(dict[str, list[str]])
"""The JSON on stdout: the problems of each request by its name."""
