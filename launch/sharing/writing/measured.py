"""What a report says of the model that is shared, and what its own validation found wrong with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quell.configs.errors import DataError
from quell.configs.schema import DataConfig
from quell.configs.support.json_files import Record, read_json
from quell.configs.support.paths import resolve
from quell.launch.checkpoints import integrity
from quell.launch.evaluation import blind_checks
from quell.launch.inference.trained_model import TrainedModel
from quell.launch.sharing.writing.portable import without_folders
from quell.pipelines.base import Output


def results(report: Path, model: TrainedModel) -> Record:
    """The table, what belongs to it, and the gain in PSNR of the primary outputs; empty where there is no report.

    Raises:
        DataError: The report is of other weights, or does not say of which.
    """
    content = read_json(report)
    if not content:
        return {}
    _refuse_other_weights(report, content, model)
    means, outputs = content["means"], primary_outputs(model)
    measured = {
        output.noisy: (means[f"{name}/psnr"], means[f"{name}/noisy_psnr"])
        for name, output in outputs.items()
        if all(isinstance(means.get(f"{name}/{key}"), float) for key in ("psnr", "noisy_psnr"))
    }
    return {
        "split": Path(content["data"]).name,
        "source": content.get("source", ""),
        "fingerprint": content.get("fingerprint", ""),
        "is_training_data_set": _is_own_data(content["data"], model.config.data),
        "images": content["images"],
        "table": content["table"],
        "notes": [str(without_folders(note)) for note in content.get("notes", ())],
        "warnings": [str(without_folders(warning)) for warning in content.get("warnings", ())],
        "psnr": {field: psnr for field, (psnr, _) in measured.items()},
        "gain_db": {field: psnr - noisy_psnr for field, (psnr, noisy_psnr) in measured.items()},
        "best_baseline": {
            field: best
            for field, (psnr, _) in measured.items()
            if (best := _best_baseline(means, field, content.get("baselines", ()), psnr))
        },
    }


def warnings(model: TrainedModel, metrics: dict[str, float]) -> list[str]:
    """What the last validation of the shared weights found wrong with them, in sentences.

    The warnings of the run itself are another matter: they tell of its disks and servers, and of steps long past.
    """
    found = [*model.pipeline.findings(metrics), *blind_checks.findings(metrics)]
    sentences = [finding.message for finding in found if not finding.ok]
    psnr, noisy_psnr = metrics.get("psnr"), metrics.get("noisy_psnr")
    if psnr is not None and noisy_psnr is not None and psnr < noisy_psnr:
        sentences.append(f"validation PSNR {psnr:.2f} dB is below the noisy images' {noisy_psnr:.2f} dB")
    return sentences


def primary_outputs(model: TrainedModel) -> dict[str, Output]:
    """The outputs that restore a field, one for each."""
    return {name: output for name, output in model.pipeline.outputs.items() if output.primary}


def _refuse_other_weights(report: Path, content: Record, model: TrainedModel) -> None:
    name, again = model.checkpoint.name, f"run `quell evaluate --run {model.checkpoint.parent.parent}` again"
    if content.get("checkpoint") != name:
        raise DataError(
            f"{report} measures {content.get('checkpoint')}, but {name} is to be shared: {again}, or choose the "
            "checkpoint with --which"
        )
    if not (identity := content.get("identity")):
        raise DataError(
            f"{report} was written by an earlier version, which did not say which weights it measured: {again}"
        )
    if identity != integrity.identity(model.checkpoint):
        raise DataError(f"{report} measures other weights than those of {model.checkpoint}: {again}")


def _is_own_data(measured: str, data: DataConfig) -> bool:
    """Whether a split is one of the data set that the run was trained on."""
    root = data.root.rstrip("/") if "://" in data.root else str(resolve(data.root))
    return measured.rstrip("/").rpartition("/")[0] == root


def _best_baseline(means: Mapping[str, Any], field: str, baselines: Any, psnr: float) -> Record:
    """Name of the baseline with the highest PSNR, and how far the model is above it; empty without baselines."""
    measured = {
        name: value
        for name in baselines
        if name != "noisy" and isinstance(value := means.get(f"{field}/{name}/psnr"), float)
    }
    if not measured:
        return {}
    best = max(measured, key=lambda name: measured[name])
    return {"name": best, "gain_db": psnr - measured[best]}
