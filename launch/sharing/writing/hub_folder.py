"""A run's checkpoint as the folder of a shared model, complete or not there at all."""

import os
import shutil
from pathlib import Path
from typing import Any

from quell.configs.errors import CheckpointError, MachineError
from quell.configs.support.atomic_files import temporary_beside
from quell.configs.support.logs import get_logger
from quell.launch.checkpoints import integrity, store
from quell.launch.checkpoints.files import sync, write_durably
from quell.launch.checkpoints.layout import META, MODEL, is_shared
from quell.launch.inference import trained_model
from quell.launch.inference.trained_model import TrainedModel
from quell.launch.runs.folder import RunFolder
from quell.launch.sharing.files import CARD, NOISE
from quell.launch.sharing.writing import facts
from quell.launch.sharing.writing.facts import ModelFacts
from quell.launch.sharing.writing.model_card import model_card
from quell.launch.sharing.writing.portable import portable

NOT_SHARED = ("files", "format", "checksum", "config", "line", "world")
"""Entries of a checkpoint's meta.json that are about its own files, or about resuming."""

READABLE = 0o644
"""Permissions of a file that others may read."""

log = get_logger(__name__)


def write_hub_folder(
    run: Path, folder: Path, *, which: str = "best", licence: str | None = None, report: Path | None = None
) -> ModelFacts:
    """Write a folder that others can load and publish.

    It holds `model.safetensors` (the averaged weights where the run kept them), `config.yaml`, `meta.json` with the
    checksums of both, `noise.npz` where the run examined noise, and `README.md`, the model card. The configuration is
    without trackers, and its addresses and paths outside of the working folder are replaced by their last part, because
    they say where the author keeps files.

    Args:
        run: Run folder, or one checkpoint folder inside it.
        folder: A new folder.
        which: "best" or "last" checkpoint of the run.
        licence: Of the weights; None takes that of the training data.
        report: report.json of an evaluation of this checkpoint; None takes that of the run, if it has one.

    Returns:
        What the card says.

    Raises:
        CheckpointError: There is no usable checkpoint, or the folder exists already.
        DataError: No licence is known, or the report is of another checkpoint.
        MachineError: The folder cannot be written.
    """
    if folder.exists():
        raise CheckpointError(f"{folder} exists already: choose another folder, or remove it first")
    if is_shared(run):
        raise CheckpointError(f"{run} is the folder of a shared model already: copy it as it is")
    model = trained_model.load(run, which=which)
    source = trained_model.folder_of(run)
    meta = store.read_meta(model.checkpoint)
    report = report or source.path / "report.json"
    collected = facts.collect(source, model, meta, licence=licence, report=report)
    if not collected.results:
        log.warning("no %s: the card will say that nothing was measured; run quell evaluate first", report)
    hidden = temporary_beside(folder)
    try:
        hidden.mkdir(parents=True)
        _write(hidden, model, source, meta, collected)
        os.rename(hidden, folder)
        sync(folder.parent)
    except OSError as error:
        raise MachineError(f"cannot write {folder} ({error.strerror or error}): choose another folder") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return collected


def _write(hidden: Path, model: TrainedModel, run: RunFolder, meta: dict[str, Any], collected: ModelFacts) -> None:
    config = portable(model.config)
    RunFolder(hidden).write_config(config)
    store.write_weights(hidden, model.pipeline.checkpoint_state(), None)
    os.rename(hidden / store.WEIGHTS, hidden / MODEL)
    os.chmod(hidden / MODEL, READABLE)  # safetensors writes for its owner only
    if run.noise.is_file():
        shutil.copyfile(run.noise, hidden / NOISE)
    content = {
        **{name: value for name, value in meta.items() if name not in NOT_SHARED},
        "world": 1,
        "draws": model.pipeline.draws,
        "config": config.model_dump(mode="json"),
        "images": {name: vars(kind) for name, kind in model.images.items()},
        "training_data": model.training_data.to_json() if model.training_data else {"levels": {}, "notes": {}},
        "shared": collected.to_json(),
        "files": integrity.describe(hidden),
    }
    (hidden / CARD).write_text(model_card(collected), encoding="utf-8")
    for file in sorted(hidden.iterdir()):
        sync(file)
    write_durably(hidden / META, integrity.to_json(content))
