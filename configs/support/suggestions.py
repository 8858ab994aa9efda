"""What messages suggest: a name instead of one that does not exist, and commands as they are started here."""

import difflib
import re

from quell.configs.support.paths import IS_INSTALLED

_NAMES = {"import_weights": "import", "prove_device": "prove-device"}
"""Script -> its name as a command, where they differ."""
_SCRIPTS = (
    r"(build|inspect|verify|noise|train|evaluate|denoise|diagnose|experiments|import_weights|prove_device|quickstart"
    r"|submit)"
)
_LAUNCHED = re.compile(r"((?:accelerate launch|torchrun)\b[^`\n;]*? )launch/(\w+)\.py\b")
_STARTED = re.compile(
    rf"(?<![\w/.-])(?:python -m (?:shards|launch|slurm)\.{_SCRIPTS}\b|(?:python )?(?:launch|slurm)/{_SCRIPTS}\.py\b)"
)
_EXTRA = re.compile(r"pip install -e '?\.(\[[\w,]+\])'?")


def did_you_mean(name: str, known: list[str]) -> str:
    """A hint naming the nearest known name, or all of them when none is near."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"


def as_started_here(text: str) -> str:
    """A message in which commands are as the user starts them here.

    Messages name the scripts of a checkout, `python -m shards.verify DIR` and `launch/train.py`. Where Quell is
    installed there are none beside the user: it is `quell verify DIR`.
    """
    return as_installed(text) if IS_INSTALLED else text


def as_installed(text: str) -> str:
    """A text with the commands of a checkout replaced by those of an installed package."""
    if not any(word in text for word in ("launch", "shards", "slurm", "pip install")):
        return text
    text = _LAUNCHED.sub(r"\1-m quell.launch.\2", text)
    text = _STARTED.sub(lambda found: f"quell {_command(found[1] or found[2])}", text)
    return _EXTRA.sub(r"pip install 'quell\1'", text)


def _command(script: str) -> str:
    return _NAMES.get(script, script)
