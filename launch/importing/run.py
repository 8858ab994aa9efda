"""Weights of other programs -> a run folder, checked against the original before anything is written."""

import copy
import importlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from quell.configs import loader
from quell.configs.errors import CheckpointError, ConfigError, QuellError
from quell.configs.schema import RunConfig
from quell.configs.support.git import git_commit
from quell.configs.support.logs import get_logger
from quell.configs.support.mappings import Settings
from quell.configs.support.paths import ROOT
from quell.launch.checkpoints import lineage, store
from quell.launch.checkpoints.layout import step_folders
from quell.launch.data.fields import specs_of_kinds
from quell.launch.importing import old_files
from quell.launch.importing.conversion import Comparison, Conversion, as_batch, to_double
from quell.launch.methods import method_of
from quell.launch.runs.folder import RunFolder
from quell.losses.common import frozen_vgg
from quell.pipelines.base import Pipeline

REFERENCE_TOLERANCE = 1e-4
"""Largest difference from the user's own reference, relative to its largest value, that float32 explains."""

log = get_logger(__name__)


def import_weights(
    kind: str,
    files: Sequence[Path],
    run_dir: Path,
    *,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    own_statistics: bool = False,
    reference: Path | None = None,
) -> Conversion:
    """Write a run folder whose only checkpoint holds the weights of another program.

    Args:
        kind: A name of `launch.importing.kinds.KINDS`.
        files: Weights files of that program.
        run_dir: A new run folder, or an empty one.
        config: YAML, or JSON of the older program, that the run's configuration starts from; default: the YAML that is
            named after the source.
        overrides: `a.b=c` changes to it.
        own_statistics: Evaluate batch norms by the statistics of each image, as some original test scripts do.
        reference: .npz with images (H, W) or (H, W, C) under the names of the method's fields, and what the original
            program made of them under the names of its outputs, both in stored units.

    Returns:
        What was converted.

    Raises:
        CheckpointError: The files are not of this kind, do not fit the configuration, or give other images than the
            original; nothing is written.
        ConfigError: The configuration.
    """
    folder = RunFolder(run_dir)
    if folder.config_file.exists() or step_folders(folder.checkpoints):
        raise CheckpointError(f"{run_dir} holds a run already: choose another folder with --run-dir")
    convert: Callable[..., Conversion] = importlib.import_module(f"quell.launch.importing.kinds.{kind}").convert
    conversion = convert([old_files.read(path) for path in files], own_statistics=own_statistics)
    run = _configuration(conversion, config, overrides, run_dir.name)
    pipeline, initialised = _pipeline(run, conversion)
    _compare(pipeline, conversion)
    if reference is not None:
        _compare_with_reference(pipeline, reference)
    _write(folder, run, conversion, pipeline, [str(path) for path in files], initialised)
    return conversion


def _configuration(conversion: Conversion, path: Path | None, overrides: Sequence[str], name: str) -> RunConfig:
    """The run's configuration: a YAML, what the weights ask for, and the user's changes, in this order."""
    start: Settings
    if path is None:
        start = loader.read(ROOT / "configs" / f"{conversion.base}.yaml")
    else:
        start = loader.load(path).model_dump(mode="json")
    settings = loader.apply(start, [*conversion.settings, *overrides])
    return loader.structure({**settings, "name": name}, source=str(path or f"configs/{conversion.base}.yaml"))


def _pipeline(run: RunConfig, conversion: Conversion) -> tuple[Pipeline, list[str]]:
    """The method with the imported weights, in evaluation mode, and the parts that the files do not hold."""
    torch.manual_seed(run.seed)
    method = method_of(run)
    needs = method.needs(run.pipeline)
    unread = sorted(set(conversion.images) - set(needs.fields))
    if unread:
        raise ConfigError(
            f"{conversion.variant} belongs to a method that reads {', '.join(conversion.images)}, but "
            f"{run.pipeline.name} does not read {unread[0]}: choose another --config"
        )
    with frozen_vgg.left_out():
        pipeline = method(run.pipeline, specs_of_kinds(conversion.images, run.data.representation))
    own = pipeline.checkpoint_state()
    imported = {name.split(".")[0] for name in conversion.weights}
    initialised = sorted({name.split(".")[0] for name in own if "." in name} - imported)
    of_imported_parts = {name: value for name, value in own.items() if name.split(".")[0] in imported}
    try:
        store.check_fit(conversion.weights, of_imported_parts, Path(conversion.variant))
    except CheckpointError as error:
        raise CheckpointError(
            f"the weights do not fit {run.pipeline.name} as configured: {error}; if the network was trained with other "
            "settings, give them as pipeline.KEY=VALUE"
        ) from error
    weights = {name: value.to(own[name].dtype) for name, value in conversion.weights.items()}
    pipeline.load_checkpoint_state({**own, **weights})
    return pipeline.eval(), initialised


def _compare(pipeline: Pipeline, conversion: Conversion) -> None:
    """Compute the original's output from the tensors of the files, and refuse weights that give another one here."""
    wide = copy.deepcopy(pipeline)
    to_double(wide)
    for comparison in conversion.compare(wide):
        _judge(comparison, conversion.tolerance, "which the original code computes from the same tensors")


def _compare_with_reference(pipeline: Pipeline, reference: Path) -> None:
    try:
        with np.load(reference, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{reference} cannot be read as an .npz of plain arrays ({error})") from error
    needed = sorted({output.noisy for output in pipeline.outputs.values()})
    outputs = [name for name in pipeline.outputs if name in arrays]
    missing = [name for name in needed if name not in arrays]
    if missing or not outputs:
        raise CheckpointError(
            f"{reference} holds {', '.join(arrays) or 'nothing'}; expected {', '.join(needed)} and what the original "
            f"program made of them: {' or '.join(pipeline.outputs)}"
        )
    batch = as_batch(**{name: _image(arrays[name]) for name in needed})
    for name, value in batch.items():
        if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
            batch[name] = value.float()
    with torch.no_grad():
        restored = pipeline.restore(batch)
    for name in outputs:
        expected = _image(arrays[name])
        if expected.shape != restored[name].shape:
            raise CheckpointError(
                f"{reference}: {name} has shape {arrays[name].shape}, but the images restored here have "
                f"{tuple(restored[name].shape[2:])}"
            )
        comparison = Comparison(name, restored[name].to(expected.dtype), expected)
        _judge(comparison, REFERENCE_TOLERANCE, f"in {reference}")


def _image(array: np.ndarray) -> torch.Tensor:
    """An image (H, W) or (H, W, C) as (1, C, H, W); integers as fractions of their largest value."""
    scale = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1
    wide = torch.from_numpy(np.ascontiguousarray(array / scale))
    return (wide[None] if wide.ndim == 2 else wide.movedim(-1, 0))[None]


def _judge(comparison: Comparison, tolerance: float, reference: str) -> None:
    """CheckpointError unless an output is that of the reference up to rounding."""
    difference = comparison.difference
    log.info("%s: equal to that %s to %.0e of its largest value", comparison.what, reference, difference)
    if not difference <= tolerance:
        raise CheckpointError(
            f"the imported weights give another {comparison.what} than that {reference}: it differs by "
            f"{difference:.1e} of its largest value, where at most {tolerance:.0e} was expected; nothing "
            "was written: check the settings of the run (--config, pipeline.KEY=VALUE)"
        )


def _write(
    folder: RunFolder,
    run: RunConfig,
    conversion: Conversion,
    pipeline: Pipeline,
    files: list[str],
    initialised: list[str],
) -> None:
    """Write the configuration and the checkpoint; nothing stays of a folder that could not be completed."""
    is_new = not folder.path.exists()
    folder.create()
    try:
        folder.write_config(run)
        hidden = store.begin(folder.checkpoints, 0)
        store.write_weights(hidden, pipeline.checkpoint_state(), None)
        imported = {
            "variant": conversion.variant,
            "files": files,
            "dropped": conversion.dropped,
            "initialised": initialised,
        }
        store.publish(
            hidden,
            {
                "step": 0,
                "epoch": 0.0,
                "world": 1,
                "precision": "no",  # in which the original programs computed
                "commit": git_commit(ROOT),
                "samples": 0,
                "line": lineage.fresh(),
                "config": run.model_dump(mode="json"),
                "metrics": {},
                "draws": pipeline.draws,
                "images": {name: asdict(kind) for name, kind in conversion.images.items()},
                "training_data": {"levels": {}, "notes": {}},
                "imported": imported,
            },
        )
        folder.write_summary(status="imported", step=0, steps=0, exit_code=0)
    except QuellError:
        if is_new:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
    for part in initialised:
        log.info("%s is not in the files and starts afresh; restoring does not use it", part)
