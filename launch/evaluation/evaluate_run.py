"""The body of launch/evaluate.py: a trained run and classical baselines over one split, as rows, table and picture."""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from configs.errors import ConfigError, DataError, MachineError
from configs.fields import Needs
from configs.schema import DataConfig
from configs.support.paths import resolve
from launch.data import loading, splits
from launch.evaluation import baselines, evaluator, report
from launch.evaluation import metrics as known_metrics
from launch.evaluation.evaluator import Rows, picture, reference_of
from launch.evaluation.images import to_uint8
from launch.evaluation.metrics import Metric
from launch.inference import trained_model
from launch.machine import acceleration
from pipelines.base import Batch, Output
from shards.reading.loaders import EvalLoader
from shards.reading.order import samples_of_rank


def evaluate(options: argparse.Namespace) -> int:
    """Measure, print the table, write report.json, .md and .png beside it; the exit code."""
    run = resolve(options.run)
    if options.output and Path(options.output).suffix in (".md", ".png"):
        raise ConfigError(f"--output {options.output}: the .md and .png are written beside the JSON file: name that")
    config = trained_model.folder_of(run).config()
    settings = config.data.model_copy(update={"root": options.data} if options.data else {})
    metrics = known_metrics.find(options.metrics or list(evaluator.METRICS), options.rois and Path(options.rois))
    if options.tune and options.preset == "seed":
        raise ConfigError("--preset seed fixes what --tune would choose: give one of them")
    accelerator = acceleration.make_accelerator(config.loop, complex_numbers=settings.representation == "complex")
    try:
        shards = splits.open_split(settings, options.split or settings.test_split)
        model = trained_model.load(run, shards, which=options.which, device=accelerator.device)
        needs = type(model.pipeline).needs(config.pipeline)
        rivals = Rivals(model.pipeline.outputs, options.baseline, metrics, splits.data_range(shards), options.pictures)
        if options.preset == "seed":
            rivals.use_seed_parameters()
        if options.tune:
            rivals.tune(training_batches(settings, needs, options.tune))
        recipe = loading.whole_recipe(needs, settings, shards)
        started = time.perf_counter()

        def mine() -> evaluator.Rows:
            part = samples_of_rank(
                splits.size(shards, options.limit), accelerator.process_index, accelerator.num_processes
            )
            with EvalLoader(shards, part, recipe, settings.eval_batch_size) as batches:
                return evaluator.rows(
                    model.pipeline,
                    batches,
                    range_=rivals.range_,
                    precision=accelerator.autocast,
                    metrics=metrics,
                    to_device=partial(loading.to_device, device=accelerator.device),
                    each=rivals,
                )

        rows = evaluator.together(mine, accelerator.num_processes)
        if accelerator.is_main_process:
            facts = {
                "run": str(run),
                "checkpoint": model.checkpoint.name,
                "method": config.pipeline.name,
                "data": str(shards.path),
                "data_range": rivals.range_,
                "images": len(rows),
                "baselines": rivals.arguments,
                "seconds": round(time.perf_counter() - started, 2),
            }
            write(resolve(options.output or run / "report.json"), facts, rows, rivals, model.pipeline.outputs)
        return 0
    finally:
        acceleration.close(accelerator)


class Rivals:
    """Adds each baseline's metrics to a row, and keeps pictures of the first samples.

    A row gets `<field>/<baseline>/<metric>`, one baseline run per noisy field, however many outputs restore it.
    """

    def __init__(
        self,
        outputs: dict[str, Output],
        methods: list[baselines.Baseline],
        metrics: dict[str, Metric],
        range_: float,
        pictures: int,
    ) -> None:
        self.outputs, self.methods, self.metrics, self.range_ = outputs, methods, metrics, range_
        self.fields = {output.noisy: output for output in outputs.values()}
        self.pictures = pictures
        self.arguments: dict[str, dict[str, Any]] = {str(name): {} for name in methods}
        self.strips: list[tuple[str, list[tuple[str, np.ndarray]]]] = []
        self._shown = 0

    def use_seed_parameters(self) -> None:
        """Restore by the published scripts' own fixed parameters, where they have any."""
        for name in self.methods:
            self.arguments[name] = {"preset": "seed"} if name in baselines.WITH_SEED_PARAMETERS else {}

    def tune(self, batches: list[Batch]) -> None:
        """Choose each baseline's arguments on training images, the best mean PSNR over their noisy fields."""
        pairs = []
        for batch in batches:
            for field, output in self.fields.items():
                if output.clean not in batch:
                    raise DataError(f"--tune needs clean training images, and these shards have no '{output.clean}'")
                scale, clean_scale = batch[f"{field}_scale"], batch[f"{output.clean}_scale"]
                pairs += [
                    (picture(noisy, scale[i]), picture(clean, clean_scale[i]))
                    for i, (noisy, clean) in enumerate(zip(batch[field], batch[output.clean], strict=True))
                ]
        for name in self.methods:
            self.arguments[name] = baselines.tune(pairs, name, data_range=self.range_)
            print(f"{name} tuned on {len(pairs)} training images: {self.arguments[name] or 'no choice'}", flush=True)

    def __call__(self, batch: Batch, restored: dict[str, Tensor], i: int) -> dict[str, Any]:
        row: dict[str, Any] = {}
        draw = self._shown < self.pictures
        self._shown += draw
        for field, output in self.fields.items():
            scale = batch[f"{field}_scale"][i]
            noisy = picture(batch[field][i], scale)
            reference = reference_of(output, batch)
            clean = picture(batch[reference][i], batch[f"{reference}_scale"][i]) if reference else None
            made = {
                str(name): baselines.restore(noisy, name, data_range=self.range_, **self.arguments[name])
                for name in self.methods
            }
            called = {f"{field}/{name}/": image for name, image in made.items()}
            row |= evaluator.scores(called, clean, noisy, range_=self.range_, metrics=self.metrics)
            if draw:
                self._draw(batch["key"][i], field, noisy, made, restored, scale, i, clean)
        return row

    def _draw(
        self,
        key: str,
        field: str,
        noisy: np.ndarray,
        made: dict[str, np.ndarray],
        restored: dict[str, Tensor],
        scale: Tensor,
        i: int,
        clean: np.ndarray | None,
    ) -> None:
        shown = [("noisy", noisy), *((name, image) for name, image in made.items() if name != "noisy")]
        shown += [
            (name, picture(restored[name][i], scale)) for name, output in self.outputs.items() if output.noisy == field
        ]
        shown += [] if clean is None else [("clean", clean)]
        self.strips.append((key, [(caption, to_uint8(image, self.range_)) for caption, image in shown]))


def training_batches(settings: DataConfig, needs: Needs, count: int) -> list[Batch]:
    """The first samples of the training split, whole."""
    shards = splits.open_split(settings, settings.train_split)
    recipe = loading.whole_recipe(needs, settings, shards)
    with EvalLoader(shards, np.arange(min(count, len(shards))), recipe, settings.eval_batch_size) as batches:
        return list(batches)


def remarks(facts: dict[str, Any], rows: Rows, rivals: Rivals) -> list[str]:
    """What must be known to read the table, in sentences."""
    sizes = sorted({tuple(row["size_px"]) for row in rows if "size_px" in row})
    pixels = " to ".join("x".join(map(str, size)) for size in dict.fromkeys([sizes[0], sizes[-1]])) if sizes else "?"
    said = [
        f"{facts['images']} images of {Path(facts['data']).name} ({pixels} px), data range "
        f"{facts['data_range']:g}, checkpoint {facts['checkpoint']}; mean ± standard deviation over images."
    ]
    chosen = {name: arguments for name, arguments in rivals.arguments.items() if arguments}
    if chosen and "preset" in next(iter(chosen.values())):
        said.append(f"{' and '.join(chosen)} with the fixed parameters of the published scripts.")
    elif chosen:
        said.append(f"Baselines tuned on training images: {chosen}.")
    found = {row.get("reference") for row in rows}
    if "second noisy copy" in found:
        said.append("No clean images: measured against a second noisy copy, whose noise bounds every number.")
    if "none" in found:
        without = [name.upper() for name, metric in rivals.metrics.items() if metric.needs_clean]
        said.append(f"No clean images: {', '.join(without) or 'nothing'} cannot be measured.")
    if "gcmse" in rivals.metrics:
        said.append("GCMSE grows with the area of an image, GCMSE_PER_PIXEL does not.")
    return said


def write(path: Path, facts: dict[str, Any], rows: Rows, rivals: Rivals, outputs: dict[str, Output]) -> None:
    """report.json with every row, report.md with the table, report.png with the pictures."""
    metrics = list(rivals.metrics)
    table = []
    for field in rivals.fields:
        for method in rivals.methods:
            table += report.summary_rows(rows, {f"{field}/{method}": field}, metrics, method)
        mine = {name: field for name, output in outputs.items() if output.noisy == field}
        for name in mine:
            label = facts["method"] if len(mine) == 1 else f"{facts['method']} {name.removeprefix(field + '_')}"
            table += report.summary_rows(rows, {name: field}, metrics, label)
    text = report.markdown_table(table)
    said = " ".join(remarks(facts, rows, rivals))
    means = evaluator.means(rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**facts, "table": table, "means": means, "rows": rows}, indent=1) + "\n")
        picture_line = f"\n![noisy, restored, clean]({path.stem}.png)\n" if rivals.strips else ""
        path.with_suffix(".md").write_text(f"# {Path(facts['run']).name}\n\n{text}\n{said}\n{picture_line}")
        if rivals.strips:
            report.sheet(rivals.strips, path.with_suffix(".png"))
    except OSError as error:
        raise MachineError(f"cannot write {path} ({error.strerror}): choose another --output") from error
    print(f"{text}\n{said}", flush=True)
