"""The noise that a trained method restores, for images with other noise to be told apart from those it can restore."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NoiseRange:
    """Of one field."""

    low: float
    """Least standard deviation of the noise it was trained on, in stored units."""
    high: float
    """Greatest."""
    any_shape: bool = False
    """Whether it was trained on noise of many spectra and maps, rather than on that of the training images."""

    @property
    def words(self) -> str:
        """The levels, and whether the noise may be correlated."""
        levels = f"{self.low:.3g}" + (f" to {self.high:.3g}" if self.high > self.low else "")
        return f"sigma {levels}" + (", white or not" if self.any_shape else "")
