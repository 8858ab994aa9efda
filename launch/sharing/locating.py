"""Where the model is that a user names."""

from pathlib import Path

from quell.configs.support.paths import resolve


def locate(source: str | Path) -> Path:
    """The folder of the model that a command or the Python API is given.

    Args:
        source: A run folder, or one checkpoint folder inside it; relative ones start at `paths.base()`.

    Returns:
        A folder that `launch.inference.trained_model.load` opens; whether it is there is for that to say.
    """
    return resolve(source)
