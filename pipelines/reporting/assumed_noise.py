"""What a trained method takes the noise of a field to be, for a diagnosis to compare with what the noise is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AssumedNoise:
    """The noise that a method was told of, or found, before its first step."""

    kind: str = "white"
    """`white`, `spectrum`, `map` or `spectrum_map`, as `FieldNoise.kind`."""
    sigma: float = 0.0
    """Standard deviation in stored units; 0 where it is estimated per image or not needed."""
    signal: str = ""
    """The one dependence on the signal that it is set for, as `Estimate.signal`; empty: all that the method models."""
    cure: str = ""
    """What to set where the noise has another shape; empty: as `losses.noise.verdicts` says."""
