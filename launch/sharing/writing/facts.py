"""What a shared model says of itself, collected from its run, the report of its evaluation, and its training data."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from quell.configs.errors import DataError, MachineError
from quell.configs.support.json_files import Record
from quell.configs.support.logs import get_logger
from quell.launch.data import splits
from quell.launch.evaluation import known_noise
from quell.launch.inference.trained_model import TrainedModel
from quell.launch.runs.folder import RunFolder
from quell.launch.sharing.writing import measured, provenance
from quell.launch.sharing.writing.portable import without_folders
from quell.losses.noise.model import NoiseModel
from quell.losses.noise.verdicts import METHODS
from quell.shards.format.fingerprint import same_content

LEFT_OUT_NOTES = ("plan", "left_out", "licence")
"""Notes of the shards that say nothing to a reader, or that the card has elsewhere."""

log = get_logger(__name__)


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
    """Of what it was trained with; empty where the run did not record them."""
    shared_with: dict[str, str]
    """Versions of what wrote the folder."""
    results: Record = field(default_factory=dict)
    """Of the report: what was measured, table, notes and gains; empty without one."""
    warnings: tuple[str, ...] = ()
    """What the validation of these weights and their evaluation warned of."""

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
    licence = _licence(licence, data.get("licence"))
    if not licence:
        raise DataError(
            f"{folder.path}: the training data do not say under which licence their weights may be passed on: give one "
            "with --licence, such as --licence MIT"
        )
    pipeline, method = model.pipeline, model.config.pipeline.name
    found = NoiseModel.load(folder.noise) if folder.noise.is_file() else None
    results = measured.results(report, model)
    warnings = [*measured.warnings(model, meta["metrics"]), *results.pop("warnings", ())]
    start = provenance.start_of(folder.path, meta["step"])
    return ModelFacts(
        name=model.config.name,
        method=method,
        assumes=METHODS[method].what if method in METHODS else "",
        licence=licence,
        fields={output.noisy: model.images[output.noisy].words for output in measured.primary_outputs(model).values()},
        noise={name: known_noise.describe(noise) for name, noise in (found.fields if found else {}).items()},
        noise_ranges={name: asdict(levels) for name, levels in pipeline.noise_ranges(found).items()},
        parameters=sum(tensor.numel() for tensor in pipeline.checkpoint_state().values()),
        data=data,
        training=_training(folder, model, meta, start),
        versions=provenance.versions(folder.path, start),
        shared_with=provenance.versions_here(),
        results=results,
        warnings=tuple(warnings),
    )


def _licence(given: str | None, of_data: str | None) -> str | None:
    """The licence of the weights; a warning where that of the data says otherwise."""
    if given and of_data and given.casefold() != of_data.casefold():
        log.warning(
            "the weights get the licence %s, but the training data have %s: make sure that it allows this",
            given,
            of_data,
        )
    return given or of_data


def _data(model: TrainedModel, meta: Record) -> Record:
    """Of the training split, as the checkpoint recorded it, and as its shards say where they are still there."""
    facts: Record = {"fingerprint": meta.get("data"), "samples": meta["samples"]}
    facts["notes"] = dict(model.training_data.notes) if model.training_data is not None else {}
    licence: Record = {}
    try:
        shards = splits.open_split(model.config.data, model.config.data.train_split)
        if same_content(meta.get("data"), shards.fingerprint):
            notes = {key: value for key, value in shards.meta.items() if isinstance(value, str | int | float)}
            licence = {"licence": notes.get("licence")}
            facts["notes"] |= {key: value for key, value in notes.items() if key not in LEFT_OUT_NOTES}
    except (DataError, MachineError):
        log.debug("the training shards are gone: the card says what the checkpoint recorded of them")
    return {**without_folders(facts), **licence}  # a licence may be the address of its text


def _training(folder: RunFolder, model: TrainedModel, meta: Record, start: Record) -> Record:
    return {
        "step": meta["step"],
        "epochs": round(meta["epoch"], 2),
        "seed": model.config.seed,
        "processes": meta["world"],
        "precision": meta.get("precision") or model.config.loop.precision,
        "device": provenance.device(folder, start),
        "commit": provenance.commit(start, meta),
    }
