"""Shared models on the Hugging Face Hub: `hub:owner/name`, or `hub:owner/name@revision`.

Only the files of a shared model are downloaded, none of which can hold code, into the cache of huggingface_hub. Its
environment variables apply: HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE, and HF_TOKEN for models that are private or gated.
"""

import os
import re
from pathlib import Path

from quell.configs.errors import CheckpointError, ConfigError, MachineError
from quell.configs.support.logs import get_logger
from quell.launch.checkpoints.layout import META, is_shared
from quell.launch.sharing.files import FILES

PREFIX = "hub:"
_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")

log = get_logger(__name__)


def download(source: str) -> Path:
    """The folder of a model on the Hub: downloaded, or from the cache where it is there already.

    Args:
        source: `hub:owner/name` or `hub:owner/name@revision`; a revision is a branch, a tag or a commit.

    Raises:
        ConfigError: The text has another form.
        CheckpointError: There is no such model or revision, nobody may read it without asking, or it is no shared
            model.
        MachineError: huggingface_hub is missing, or the Hub cannot be reached and the model is not in the cache.
    """
    name = source.removeprefix(PREFIX)
    if not _NAME.fullmatch(name):
        raise ConfigError(f"'{source}': expected hub:owner/name or hub:owner/name@revision")
    repository, _, revision = name.partition("@")
    folder = _snapshot(repository, revision or None, source)
    if not (is_shared(folder) and (folder / META).is_file()):
        raise CheckpointError(
            f"{source} holds no model that Quell can read: expected the files that `quell share` writes ("
            f"{', '.join(FILES)})"
        )
    if revision != folder.name:
        log.info("%s is revision %s; hub:%s@%s always means this one", source, folder.name, repository, folder.name)
    return folder


def _snapshot(repository: str, revision: str | None, source: str) -> Path:
    try:
        from huggingface_hub import errors, snapshot_download
    except ModuleNotFoundError as error:
        raise MachineError(f"{source} needs the package huggingface_hub: pip install 'quell[hub]'") from error
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=list(FILES),
                endpoint=os.environ.get("HF_ENDPOINT"),
                library_name="quell",
            )
        )
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{source} is gated: ask for access on its page, then log in with `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{source}: no such model on the Hub, or it is private: check the name, or log in with `hf auth login` or "
            "HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{source}: {repository} has no revision '{revision}'") from error
    except errors.HFValidationError as error:
        raise ConfigError(f"'{source}': expected hub:owner/name or hub:owner/name@revision") from error
    except (errors.LocalEntryNotFoundError, OSError) as error:
        raise MachineError(
            f"{source} is not in the cache, and the Hub cannot be reached ({_first_line(error)}): check the network, "
            "HF_ENDPOINT and HF_HUB_OFFLINE"
        ) from error
    except Exception as error:  # of its HTTP library (a proxy, a mistyped endpoint), and of hf_xet, which has no class
        raise MachineError(
            f"{source} cannot be downloaded ({_first_line(error)}): check the network, HTTPS_PROXY, HF_ENDPOINT, and "
            "the free space in HF_HOME"
        ) from error


def _first_line(error: Exception) -> str:
    """The reason in a few words; the library's own texts go on for paragraphs."""
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else ''}".rstrip(": ")[:200]
