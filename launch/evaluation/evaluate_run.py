"""The work of launch/evaluate.py: measure a trained run and classical baselines on one split, and write the report."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator

from quell.configs.baseline_names import BASELINES, PRESETS, TITLES, Baseline, Preset
from quell.configs.errors import ConfigError, DataError, MachineError
from quell.configs.fields import Needs
from quell.configs.schema import DataConfig, RunConfig
from quell.configs.support import logs
from quell.configs.support.atomic_files import naming, write_atomically
from quell.configs.support.json_files import strict_json
from quell.configs.support.paths import resolve
from quell.launch.checkpoints import integrity, resume
from quell.launch.data import loading, splits
from quell.launch.differences.of_samples import difference_in_words
from quell.launch.evaluation import blind_checks, evaluator, fitness, known_noise, report, report_picture
from quell.launch.evaluation.baseline_evaluator import RISK_TUNED, BaselineEvaluator
from quell.launch.evaluation.baselines import BaselineOptions
from quell.launch.evaluation.blind_checks import BlindChecks
from quell.launch.evaluation.evaluator import Rows
from quell.launch.evaluation.measured_data import MeasuredOutput, add_groups, measured_outputs
from quell.launch.evaluation.measuring.metrics import Metric
from quell.launch.evaluation.measuring.metrics import find as find_metrics
from quell.launch.inference import trained_model
from quell.launch.inference.trained_model import TrainedModel
from quell.launch.machine import acceleration, precision
from quell.launch.machine.arithmetic import set_tf32
from quell.launch.options.checks import check_choice, check_whole
from quell.launch.options.choices import WHICH, Which
from quell.launch.sharing.locating import is_own_folder, locate
from quell.pipelines.base import Pipeline
from quell.shards.reading.shard_set import ShardSet

log = logs.get_logger(__name__)


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured, and how; the arguments of `launch/evaluate.py`, where each is explained."""

    run: str | Path
    which: Which = "best"
    data: str | None = None
    split: str | None = None
    baseline: Sequence[Baseline] = ()
    tune: int = 0
    noise: str | None = None
    preset: Preset = "tuned"
    rois: str | None = None
    metrics: Sequence[str] | None = None
    batch: int | None = None
    limit: int | None = None
    pictures: int = 2
    output: str | None = None
    trust_code: bool = False

    def __post_init__(self) -> None:
        """Refuse with ConfigError what a command's parser would refuse, for programs have none."""
        check_choice("which", self.which, WHICH)
        check_choice("preset", self.preset, PRESETS)
        for baseline in self.baseline:
            check_choice("baseline", baseline, BASELINES)
        check_whole("tune", self.tune, 0)
        check_whole("pictures", self.pictures, 0)
        for name, value in (("batch", self.batch), ("limit", self.limit)):
            if value is not None:
                check_whole(name, value, 1)

    @property
    def report(self) -> Path:
        """The report file."""
        return resolve(self.output or locate(self.run, trust_code=self.trust_code) / "report.json")


@dataclass(frozen=True)
class Summary:
    """The head of report.json: what was measured."""

    run: str
    checkpoint: str
    identity: str
    """Of the checkpoint (launch/checkpoints/integrity.py), which its name is not."""
    which: str
    """How that checkpoint was chosen: best, last or average."""
    method: str
    data: str
    data_range: float
    images: int
    baselines: dict[Baseline, BaselineOptions]
    fingerprint: str
    """Of the split's content (shards/format/fingerprint.py)."""
    source: str
    """What built the split's images, as its shards say; empty where they do not."""
    outputs: dict[str, MeasuredOutput]
    """What was restored from what."""
    seconds: float
    noise: str = ""
    """The noise of the training images in words; empty where it is not known."""
    warnings: tuple[str, ...] = ()
    """Why the numbers may be wrong, such as images that contradict their data range."""


def evaluate(options: EvaluationOptions, *, quiet: bool = False) -> int:
    """Measure, print the table unless `quiet`, write report.json and beside it .md and .png; return the exit code."""
    _refuse_contradictions(options)
    run = locate(options.run, trust_code=options.trust_code)
    config = trained_model.folder_of(run).config(trust_code=options.trust_code)
    data = _data(config, options)
    metrics = _metrics(options)
    accelerator = acceleration.make_accelerator(config.loop)
    try:
        shards = splits.open_split(data, options.split or data.test_split)
        model = _load(run, shards, options, accelerator)
        needs = type(model.pipeline).needs(config.pipeline)
        data_range = splits.data_range(shards)
        noise = known_noise.noise_for_baselines(options.noise, trained_model.folder_of(run), model.pipeline, data)
        fitness.refuse_small_images(model.pipeline.outputs, metrics, needs, data, shards)
        baselines = BaselineEvaluator(
            model.pipeline.outputs, list(options.baseline), metrics, data_range, pictures=options.pictures, noise=noise
        )
        _choose_parameters(baselines, options, data, needs)
        checks = _blind_checks(model.pipeline, config, data, shards)
        started = time.perf_counter()
        rows = evaluator.evaluate_split(
            model.pipeline,
            shards,
            loading.evaluation_recipe(needs, data, shards),
            count=splits.size(shards, options.limit),
            batch_size=data.eval_batch_size,
            data_range=data_range,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            device=accelerator.device,
            autocast=_autocast(config, model.checkpoint, accelerator),
            metrics=metrics,
            on_batch=checks,
            on_image=baselines,
            verify=data.verify,
        )
        if accelerator.is_main_process:
            add_groups(rows, shards)
            summary = Summary(
                run=str(run),
                checkpoint=model.checkpoint.name,
                identity=integrity.identity(model.checkpoint),
                which=options.which,
                method=config.pipeline.name,
                data=str(shards.path),
                data_range=data_range,
                images=len(rows),
                baselines=baselines.options,
                seconds=round(time.perf_counter() - started, 2),
                noise=known_noise.describe_model(noise),
                warnings=tuple(fitness.range_problems(model.pipeline.outputs, needs, data, shards, data_range)),
                fingerprint=shards.fingerprint,
                source=str(shards.meta.get("source", "")),
                outputs=measured_outputs(model.pipeline.outputs, needs, data),
            )
            _show(write_report(options.report, summary, rows, baselines), summary.warnings, quiet=quiet)
        return 0
    finally:
        acceleration.close(accelerator)


def _show(text: str, warnings: Sequence[str], *, quiet: bool) -> None:
    """Print the table unless `quiet`, and log the warnings."""
    if not quiet:
        print(text, flush=True)
    for problem in warnings:
        log.warning("%s", problem)


def _refuse_contradictions(options: EvaluationOptions) -> None:
    """ConfigError for arguments that do not fit together."""
    if options.output and Path(options.output).suffix in (".md", ".png"):
        raise ConfigError(
            f"--output must name the JSON file, got '{options.output}': the .md and .png are written beside it"
        )
    if not options.output and not is_own_folder(options.run):
        raise ConfigError(f"{options.run} is no folder of yours to write a report to: give --output FILE.json")
    if options.tune and options.preset == "published":
        raise ConfigError("--preset published fixes what --tune would choose: give only one of them")


def _load(run: Path, shards: ShardSet, options: EvaluationOptions, accelerator: Accelerator) -> TrainedModel:
    """The checkpoint that is measured."""
    return trained_model.load(
        run, shards, which=options.which, device=accelerator.device, trust_code=options.trust_code
    )


def _data(config: RunConfig, options: EvaluationOptions) -> DataConfig:
    """The run's data section, with what the command line changes in it."""
    given = {"root": options.data, "eval_batch_size": options.batch}
    return config.data.model_copy(update={key: value for key, value in given.items() if value})


def _metrics(options: EvaluationOptions) -> dict[str, Metric]:
    """The metrics that are asked for, by name."""
    return find_metrics(
        list(options.metrics or evaluator.DEFAULT_METRICS), Path(options.rois) if options.rois else None
    )


def _autocast(
    config: RunConfig, checkpoint: Path, accelerator: Accelerator
) -> Callable[[], AbstractContextManager[object]]:
    """The precision that the run was trained in, as far as this device supports it; TF32 is set with it. Collective."""
    chosen = precision.choose_together(
        config.loop,
        accelerator.device,
        accelerator.num_processes,
        complex_numbers=config.data.representation == "complex",
        began_with=resume.precision_of(checkpoint),
    )
    set_tf32(config.loop, chosen.name)
    return precision.autocast(accelerator.device, chosen.name)


def _blind_checks(pipeline: Pipeline, config: RunConfig, data: DataConfig, shards: ShardSet) -> BlindChecks:
    """Checks against the noise of the split's own images; none if the run is set so, or an image cannot be read."""
    if not config.evaluation.blind_checks:
        return BlindChecks.none(pipeline)
    try:
        return BlindChecks.of_split(pipeline, shards, type(pipeline).needs(config.pipeline), data)
    except DataError as error:  # an image that is to be measured is refused when it is its turn
        log.debug("no checks without clean images: %s", error)
        return BlindChecks.none(pipeline)


def _choose_parameters(
    baselines: BaselineEvaluator, options: EvaluationOptions, data: DataConfig, needs: Needs
) -> None:
    """Set the baselines' parameters as --preset and --tune ask; those that noise decides, on noisy training images."""
    if options.preset == "published":
        baselines.use_published_parameters()
        return
    if options.tune:
        training_shards = splits.open_split(data, data.train_split)
        baselines.tune(loading.load_whole_images(training_shards, needs, data, options.tune))
    elif baselines.noise and set(baselines.names) & set(RISK_TUNED):
        try:
            training_shards = splits.open_split(data, data.train_split)
        except DataError:
            return
        images = loading.load_whole_images(training_shards, needs, data, known_noise.TUNING_IMAGES)
        baselines.tune_without_clean_images(images)


def write_report(path: Path, summary: Summary, rows: Rows, baselines: BaselineEvaluator) -> str:
    """Write every row to the JSON file, and beside it the table (.md) and the pictures (.png); return table and notes.

    The file is strict JSON: an infinite PSNR is the text "inf", NaN is null (`strict_json`).
    """
    table = summary_table(summary.method, rows, baselines)
    text = report.markdown_table(table)
    notes = report_notes(summary, rows, baselines)
    content = {
        **asdict(summary),
        "table": table,
        "notes": notes,
        "means": evaluator.means(rows),
        "rows": [row.to_json() for row in rows],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, strict_json(content) + "\n")
        picture_line = f"\n![noisy, restored, clean]({path.stem}.png)\n" if baselines.picture_rows else ""
        write_atomically(
            path.with_suffix(".md"), f"# {Path(summary.run).name}\n\n{text}\n{' '.join(notes)}\n{picture_line}"
        )
        if baselines.picture_rows:
            with naming(path.with_suffix(".png")):
                report_picture.save(baselines.picture_rows, path.with_suffix(".png"))
    except OSError as error:
        raise MachineError(f"cannot write {path} ({error.strerror}): choose another --output") from error
    return f"{text}\n{' '.join(notes)}"


def summary_table(method: str, rows: Rows, baselines: BaselineEvaluator) -> list[dict[str, str]]:
    """For each noisy field one table row per baseline, then one per output of the pipeline."""
    metrics = list(baselines.metrics)
    table = []
    for field in baselines.fields:
        table += [
            report.summary_row(rows, f"{field}/{name}", metrics, image=field, method=name) for name in baselines.names
        ]
        outputs = [name for name, output in baselines.outputs.items() if output.noisy == field]
        for name in outputs:
            label = method if len(outputs) == 1 else f"{method} {name.removeprefix(field + '_')}"
            table.append(report.summary_row(rows, name, metrics, image=field, method=label))
    return table


def comparisons(rows: Rows, baselines: BaselineEvaluator) -> list[str]:
    """How the primary outputs compare with each baseline in PSNR, by sample or group."""
    sentences = []
    primary = {name: output for name, output in baselines.outputs.items() if output.primary}
    groups = {row.key: row.group for row in rows if row.group is not None}
    for baseline in baselines.names:
        samples = {
            row.key: [
                (row.values[f"{name}/psnr"], row.values[f"{output.noisy}/{baseline}/psnr"])
                for name, output in primary.items()
                if f"{name}/psnr" in row.values and f"{output.noisy}/{baseline}/psnr" in row.values
            ]
            for row in rows
        }
        if baseline != "noisy" and (words := difference_in_words("psnr", samples, groups)):
            sentences.append(f"PSNR over {TITLES[baseline]}: {words}.")
    return sentences


def failed_checks(rows: Rows, baselines: BaselineEvaluator) -> list[str]:
    """A sentence per check without clean images that the restored images fail."""
    means = evaluator.means(rows)
    primary = [name for name, output in baselines.outputs.items() if output.primary]
    sentences = []
    for name in primary:
        values = {key.removeprefix(f"{name}/"): value for key, value in means.items() if key.startswith(f"{name}/")}
        subject = f"'{name}' fails a check" if len(primary) > 1 else "The restored images fail a check"
        sentences += [
            f"{subject} without clean images ({finding.name}): {finding.message}."
            for finding in blind_checks.findings(values)
            if not finding.ok
        ]
    return sentences


def report_notes(summary: Summary, rows: Rows, baselines: BaselineEvaluator) -> list[str]:
    """Sentences that a reader of the table needs: what was measured, against which reference, with which parameters."""
    sizes = sorted({row.size_px for row in rows if row.size_px is not None})
    pixels = " to ".join("x".join(map(str, size)) for size in dict.fromkeys([sizes[0], sizes[-1]])) if sizes else "?"
    notes = [
        f"{summary.images} images of {Path(summary.data).name} ({pixels} px), data range {summary.data_range:g}, "
        f"checkpoint {summary.checkpoint}; mean ± standard deviation over images."
    ]
    chosen = {name: options for name, options in baselines.options.items() if options}
    if any("preset" in options for options in chosen.values()):
        notes.append(f"{' and '.join(chosen)} with the fixed parameters of the published scripts.")
    elif chosen:
        notes.append(f"Baselines tuned on training images: {chosen}.")
    if summary.noise:
        notes.append(f"Noise {summary.noise}.")
    if baselines.noise and baselines.names:
        notes.append("Baselines were told this noise: BM3D its spectrum and map, NLM and Gaussian its level and map.")
    notes += comparisons(rows, baselines)
    references = {row.reference for row in rows}
    if "second noisy copy" in references:
        notes.append("No clean images: measured against a second noisy copy, whose noise bounds every number.")
    if "none" in references:
        unavailable = [name.upper() for name, metric in baselines.metrics.items() if metric.needs_clean]
        notes.append(f"No clean images: {', '.join(unavailable) or 'nothing'} cannot be measured.")
    notes += failed_checks(rows, baselines)
    notes += [f"Warning: {problem}." for problem in summary.warnings]
    if "gcmse" in baselines.metrics:
        notes.append("GCMSE grows with the area of an image, GCMSE_PER_PIXEL does not.")
    return notes
