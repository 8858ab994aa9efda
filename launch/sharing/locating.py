"""Where the model is that a user names."""

from pathlib import Path

from quell.configs.support.paths import resolve
from quell.launch.checkpoints import store
from quell.launch.checkpoints.layout import is_shared
from quell.launch.runs.folder import RunFolder
from quell.launch.sharing import hub, zoo


def locate(source: str | Path, *, trust_code: bool = False) -> Path:
    """The folder of the model that a command or the Python API is given.

    Args:
        source: A run folder, one checkpoint folder inside it, or the folder of a shared model; relative ones start at
            `paths.base()`. `hub:owner/name[@revision]` is a shared model on the Hugging Face Hub, `zoo:NAME` one that
            comes with Quell.
        trust_code: Whether the configuration of a shared model may import classes from outside of Quell.

    Returns:
        A folder that `launch.inference.trained_model.load` opens; whether it is there is for that to say.

    Raises:
        ConfigError: The text has no such form, or a shared model would import code that was not trusted.
        CheckpointError: There is no such model on the Hub, or a shared model is damaged.
        MachineError: The Hub cannot be reached.
    """
    text = str(source)
    if text.startswith(hub.PREFIX):
        folder = hub.download(text)
    elif text.startswith(zoo.PREFIX):
        folder = zoo.folder(text.removeprefix(zoo.PREFIX))
    else:
        folder = resolve(source)
    if not is_shared(folder):
        return folder
    store.check_shared(folder)
    if not trust_code:
        RunFolder(folder).config()
    return folder


def is_own_folder(source: str | Path) -> bool:
    """Whether a model is a folder of the user's, in which results may be written."""
    return not str(source).startswith((hub.PREFIX, zoo.PREFIX))
