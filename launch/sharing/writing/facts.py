"""What a shared model says of itself, collected from its run, the report of its evaluation, and its training data."""

import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from quell.configs.errors import DataError, MachineError
from quell.configs.support.event_log import read_events
from quell.configs.support.json_files import Record, read_json
from quell.launch.data import splits
from quell.launch.evaluation import known_noise
from quell.launch.inference.trained_model import TrainedModel
from quell.launch.runs.folder import RunFolder
from quell.launch.sharing.writing.portable import without_folders
from quell.losses.noise.model import NoiseModel
from quell.losses.noise.verdicts import METHODS
from quell.pipelines.base import Output
from quell.shards.format.fingerprint import same_content

PACKAGES = ("quell", "torch", "numpy", "accelerate", "safetensors")
"""Packages whose versions are noted."""
LEFT_OUT_NOTES = ("plan", "left_out", "licence")
"""Notes of the shards that say nothing to a reader, or that the card has elsewhere."""


@dataclass(frozen=True)
class ModelFacts:
    """All of it as plain values, for `meta.json` and the card."""

    name: str
    method: str
    assumes: str
    """What the method assumes of the noise or the data, in words; empty where nothing is known."""
    licence: str
    """Of the weights: an SPDX identifier, or words."""
    fields: dict[str, str]
    """Field that is restored -> the kind of its images in words: complex, grey, colour."""
    noise: dict[str, str]
    """Field -> the noise of its training images in words."""
    noise_ranges: dict[str, Record]
    """Field -> its `NoiseRange`."""
    parameters: int
    """Numbers in the weights file."""
    data: Record
    """Of the training data: source, notes, licence, number of samples, fingerprint."""
    training: Record
    """Step, epochs, seed, processes, precision, device, commit."""
    versions: dict[str, str]
    results: Record = field(default_factory=dict)
    """Table, notes and gain of the report; empty without one."""
    warnings: tuple[str, ...] = ()
    """What the run and its evaluation warned of."""

    def to_json(self) -> Record:
        """As plain values."""
        return asdict(self)


def collect(folder: RunFolder, model: TrainedModel, meta: Record, *, licence: str | None, report: Path) -> ModelFacts:
    """The facts about a checkpoint of a run.

    Args:
        folder: The run.
        model: The pipeline with the weights of the checkpoint.
        meta: The checkpoint's meta.json.
        licence: Of the weights; None takes that of the training data.
        report: report.json of an evaluation of this checkpoint; may be missing.

    Raises:
        DataError: There is no licence, or the report is of another checkpoint.
    """
    data = _data(model, meta)
    licence = licence or data.get("licence")
    if not licence:
        raise DataError(
            f"{folder.path}: the training data do not say under which licence their weights may be passed on: give one "
            "with --licence, such as --licence MIT"
        )
    pipeline, method = model.pipeline, model.config.pipeline.name
    found = NoiseModel.load(folder.noise) if folder.noise.is_file() else None
    results = _results(report, model)
    warnings = [*folder.summary().get("warnings", {}).values(), *results.pop("warnings", ())]
    return ModelFacts(
        name=model.config.name,
        method=method,
        assumes=METHODS[method].what if method in METHODS else "",
        licence=licence,
        fields={output.noisy: model.images[output.noisy].words for output in _primary_outputs(model).values()},
        noise={name: known_noise.describe(noise) for name, noise in (found.fields if found else {}).items()},
        noise_ranges={name: asdict(levels) for name, levels in pipeline.noise_ranges(found).items()},
        parameters=sum(tensor.numel() for tensor in pipeline.checkpoint_state().values()),
        data=data,
        training=_training(folder, model, meta),
        versions={name: number for name in PACKAGES if (number := _version(name))}
        | {"python": platform.python_version()},
        results=results,
        warnings=tuple(warnings),
    )


def _data(model: TrainedModel, meta: Record) -> Record:
    """Of the training split, as the checkpoint recorded it, and as its shards say where they are still there."""
    facts: Record = {"fingerprint": meta.get("data"), "samples": meta["samples"]}
    facts["notes"] = dict(model.training_data.notes) if model.training_data is not None else {}
    try:
        shards = splits.open_split(model.config.data, model.config.data.train_split)
    except (DataError, MachineError):
        return dict(without_folders(facts))
    if same_content(meta.get("data"), shards.fingerprint):
        notes = {key: value for key, value in shards.meta.items() if isinstance(value, str | int | float)}
        facts["licence"] = notes.get("licence")
        facts["notes"] |= {key: value for key, value in notes.items() if key not in LEFT_OUT_NOTES}
    return dict(without_folders(facts))


def _training(folder: RunFolder, model: TrainedModel, meta: Record) -> Record:
    starts = [event for event in read_events(folder.metrics_file) if event["event"] == "start"]
    last = starts[-1] if starts else {}
    return {
        "step": meta["step"],
        "epochs": round(meta["epoch"], 2),
        "seed": model.config.seed,
        "processes": meta["world"],
        "precision": meta.get("precision") or model.config.loop.precision,
        "device": last.get("device_name") or last.get("device") or "",
        "commit": meta.get("commit", ""),
    }


def _results(report: Path, model: TrainedModel) -> Record:
    """The table, what belongs to it, and the gain in PSNR of the primary outputs; empty where there is no report."""
    content = read_json(report)
    if not content:
        return {}
    if content.get("checkpoint") != model.checkpoint.name:
        raise DataError(
            f"{report} measures {content.get('checkpoint')}, but {model.checkpoint.name} is to be shared: run `quell "
            f"evaluate --run {model.checkpoint.parent.parent}` again, or choose the checkpoint with --which"
        )
    means = content["means"]
    measured = {
        output.noisy: (means[f"{name}/psnr"], means[f"{name}/noisy_psnr"])
        for name, output in _primary_outputs(model).items()
        if all(isinstance(means.get(f"{name}/{key}"), float) for key in ("psnr", "noisy_psnr"))
    }
    return {
        "split": Path(content["data"]).name,
        "images": content["images"],
        "table": content["table"],
        "notes": list(content.get("notes", ())),
        "warnings": list(content.get("warnings", ())),
        "psnr": {field: psnr for field, (psnr, _) in measured.items()},
        "gain_db": {field: psnr - noisy_psnr for field, (psnr, noisy_psnr) in measured.items()},
    }


def _primary_outputs(model: TrainedModel) -> dict[str, Output]:
    """The outputs that restore a field, one for each."""
    return {name: output for name, output in model.pipeline.outputs.items() if output.primary}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
