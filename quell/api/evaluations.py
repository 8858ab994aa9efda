"""Measuring in Python: `quell.evaluate(run)`, and the report that comes of it."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quell.api.process_state import in_user_program, own_run
from quell.configs.errors import DataError, MachineError
from quell.launch.evaluation import evaluate_run
from quell.launch.evaluation.report import markdown_table

if TYPE_CHECKING:
    from quell.api.models import PathLike
    from quell.configs.baseline_names import Baseline, Preset
    from quell.launch.options.choices import Which


class Evaluation:
    """The report of an evaluation, as report.json holds it."""

    def __init__(self, path: PathLike) -> None:
        """Read a report. Raises DataError where there is none, or it is damaged."""
        self.path = Path(path)
        """The JSON file; the table (.md) and the pictures (.png) are beside it."""
        try:
            self.content: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            """Everything in it."""
            self.rows: list[dict[str, Any]] = [
                {key: _number(value) for key, value in row.items()} for row in self.content["rows"]
            ]
            """One mapping for each image: index, key, and values such as `restored/psnr` and `noisy/nlm/ssim`."""
            self.means: dict[str, float] = {key: _number(value) for key, value in self.content["means"].items()}
            """The mean over images of each value."""
            self.table: list[dict[str, str]] = self.content["table"]
            """The rows of the table as text."""
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise DataError(f"{self.path}: no report of an evaluation ({error}); quell.evaluate writes one") from error

    def to_pandas(self) -> Any:
        """The rows as a pandas.DataFrame. Raises MachineError where pandas is not installed."""
        try:
            pandas = importlib.import_module("pandas")
        except ModuleNotFoundError as error:
            raise MachineError("to_pandas needs the package pandas: pip install pandas, or take .rows") from error
        return pandas.DataFrame(self.rows)

    def __str__(self) -> str:
        try:
            return self.path.with_suffix(".md").read_text(encoding="utf-8")
        except OSError:  # only the JSON file was copied
            return markdown_table(self.table)

    def __repr__(self) -> str:
        return f"<quell.Evaluation {self.path}: {len(self.rows)} images>"

    def _repr_markdown_(self) -> str:
        """What a notebook shows: the table."""
        return "\n".join(line for line in str(self).splitlines() if not line.startswith("!["))


@in_user_program
def evaluate(
    run: PathLike,
    *,
    which: Which = "best",
    data: PathLike | None = None,
    split: str | None = None,
    baselines: Sequence[Baseline] = (),
    tune: int = 0,
    noise: PathLike | None = None,
    preset: Preset = "tuned",
    rois: PathLike | None = None,
    metrics: Sequence[str] | None = None,
    batch: int | None = None,
    limit: int | None = None,
    pictures: int = 2,
    output: PathLike | None = None,
    trust_code: bool = False,
) -> Evaluation:
    """Measure a trained run on a split; the same report as `quell evaluate` writes.

    Args:
        run: Run folder, one checkpoint folder inside it, or a shared model as of `quell.load`.
        which: Which checkpoint of the run.
        data: Folder of shards; default the run's own.
        split: Default the run's test split.
        baselines: Classical methods to measure as well: "noisy", "gaussian", "nlm", "bm3d".
        tune: Choose each baseline's strength on so many training samples (needs clean images).
        noise: Noise model that baselines are told (.npz); default what was found in the run's training images.
        preset: Parameters of NLM and BM3D: from the noise level, or those of the scripts published with TCFL.
        rois: Regions of interest (.json) for cnr, enl and msr; default detected.
        metrics: Names of files of losses/metrics/; default psnr, ssim and rmse.
        batch: Images restored together; default the run's `data.eval_batch_size`.
        limit: Measure only the first so many images.
        pictures: Images shown in the .png.
        output: Report file; default report.json in the folder that `run` names, which of a checkpoint is its own.
        trust_code: Whether the configuration of a shared model may import classes from outside of Quell.

    Returns:
        The report.

    Raises:
        QuellError: There is no usable checkpoint, the shards do not suit the run, or options do not go together.
    """
    return _measured(
        run=os.fspath(run),
        which=which,
        data=_text(data),
        split=split,
        baseline=list(baselines),
        tune=tune,
        noise=_text(noise),
        preset=preset,
        rois=_text(rois),
        metrics=metrics,
        batch=batch,
        limit=limit,
        pictures=pictures,
        output=_text(output),
        trust_code=trust_code,
    )


def _measured(**named: Any) -> Evaluation:
    options = evaluate_run.EvaluationOptions(**named)
    with own_run():
        evaluate_run.evaluate(options, quiet=True)
    return Evaluation(options.report)


def _text(path: PathLike | None) -> str | None:
    return None if path is None else os.fspath(path)


def _number(value: Any) -> Any:
    """A value of the strict JSON of a report: infinities are texts in it, and NaN is null."""
    if value is None:
        return float("nan")
    return float(value) if value in ("inf", "-inf") else value
