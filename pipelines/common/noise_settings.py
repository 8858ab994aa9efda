"""The setting `pipeline.noise`: what a method is told about the noise of its images beyond the level."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator

from quell.configs.registry import SettingsError
from quell.configs.schema import Section
from quell.configs.support.suggestions import did_you_mean

NoiseKind = Literal["auto", "white", "spectrum", "map", "spectrum_map", "from_repeats"]


class GivenNoise(Section):
    """Noise that a file describes."""

    given: str
    """A noise model (.npz), as `python -m shards.noise DIR --save FILE` writes it; relative paths start at the
    project's root."""


def _check(value: Any) -> Any:
    """Refuse what is no kind of noise in one sentence, instead of one per member of the union."""
    if isinstance(value, GivenNoise) or value in get_args(NoiseKind):
        return value
    if isinstance(value, dict) and set(value) == {"given"} and isinstance(value["given"], str):
        return value
    kinds = [*get_args(NoiseKind), "given"]
    hint = f"; {did_you_mean(value, kinds)}" if isinstance(value, str) else ""
    raise SettingsError(
        [f"expected {', '.join(get_args(NoiseKind))}, or a file as {{given: FILE.npz}}; got {value!r}{hint}"]
    )


NoiseSetting = Annotated[NoiseKind | GivenNoise, BeforeValidator(_check)]
"""auto: what an audit of the training images finds, from repeats (`<field>_second`) where the shards hold some, else
from the noisy images alone; white: uncorrelated and equally strong everywhere; spectrum, map, spectrum_map: correlated,
of varying strength, or both, as the audit finds; from_repeats: as auto, but the shards must hold repeats; `{given:
FILE}`: read from a file."""
