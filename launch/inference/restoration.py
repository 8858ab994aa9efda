"""Restoring many files: everything is opened, measured and checked before the first result is written."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quell.configs.errors import ConfigError, DataError, QuellError
from quell.configs.support import logs
from quell.launch.inference.files.open_file import is_without_image, open_file
from quell.launch.inference.files.opened import OpenedFile
from quell.launch.inference.files.stored_file import StoredFile
from quell.launch.inference.inputs import ArrayRef, RestorationInput, RestorationJob, restoration_jobs
from quell.launch.inference.measuring import Measurements
from quell.launch.inference.noise_comparison import NoiseFindings
from quell.launch.inference.restorer import Layout, Restorer
from quell.launch.inference.results import Results, in_memory, write_target
from quell.launch.inference.targets import Target, Targets
from quell.launch.options.checks import check_choice
from quell.launch.options.choices import FORMATS

KEPT_BYTES = 1 << 28
"""Pixels of so many bytes stay in memory between checking and restoring; those of further files are read again."""
NOISE_ROWS = 512
"""Rows of a large image whose noise is compared with that of the training images."""
NOISE_IMAGES = (1 / 2, 1 / 4, 3 / 4)
"""Where in a stack the images are whose noise is compared: the first and the last of a volume are often air."""
EXPECT = "expect noise that is left or detail that is lost, and train on images like this one"
"""What a warning of other noise ends with."""
MAX_PROBLEMS = 10
"""Of many inputs that cannot be restored so many are named."""

_logger = logs.get_logger(__name__)


@dataclass
class Task:
    """One input, ready to be restored."""

    given: RestorationInput
    files: dict[str, OpenedFile]
    """By field."""
    jobs: list[RestorationJob]
    layouts: list[Layout]
    """Of each job."""
    targets: list[Target] = field(default_factory=list)

    def refs(self) -> Iterator[tuple[str, ArrayRef, Layout, str]]:
        """Field, array, its shape, and what messages call it, for every array that is restored."""
        for job, layout in zip(self.jobs, self.layouts, strict=True):
            for name, ref in job.arrays.items():
                yield name, ref, layout, self.source(job)

    def source(self, job: RestorationJob) -> str:
        """What messages call a job."""
        return self.given.text + (f": {job.name}" if job.name else "")

    def release(self) -> None:
        """Forget pixels that are kept in memory."""
        for file in self.files.values():
            file.release()


class RestoredArrays(NamedTuple):
    """What came out of one job."""

    name: str
    """Name of the arrays inside their file; "" where the input holds one job only."""
    arrays: dict[str, np.ndarray]
    """Output of the method -> restored array."""


class Restoration:
    """Files to be restored by one run, checked together and then restored one after another."""

    def __init__(self, restorer: Restorer, folder: Path | None, format_: str = "same", *, force: bool = False) -> None:
        """Prepare.

        Args:
            restorer: The run.
            folder: Where to write; None writes nothing, and results are only taken as arrays.
            format_: "same" as the noisy file's, or a suffix without its dot.
            force: Whether to restore images that are far from the level of the training images, or with a shared model
                images with other noise, or with noise that cannot be measured.

        Raises:
            ConfigError: There is no such format.
        """
        check_choice("format", format_, FORMATS)
        self._restorer, self._folder, self._format, self._force = restorer, folder, format_, force
        self._refuses = restorer.is_shared and not force
        """Whether other noise, or noise that cannot be measured, is refused before anything is restored."""
        self._measurements = Measurements(restorer.model, restorer.noise.reach())
        self.notes: dict[str, list[Path]] = {}
        """What could not be kept -> the files concerned."""

    def check(
        self, inputs: list[RestorationInput], follow: Callable[[list[RestorationInput]], Iterable[RestorationInput]]
    ) -> list[Task]:
        """Open and check all inputs and all targets.

        Args:
            inputs: What to restore.
            follow: Shows the progress of an iterable.

        Returns:
            What `restore` takes.

        Raises:
            QuellError: Any of them cannot be restored; where there are several, all of them are named.
        """
        problems: list[QuellError] = []
        tasks: list[Task] = []
        kept = 0
        targets = Targets(self._folder, self._format, inputs) if self._folder is not None else None
        for given in follow(inputs):
            try:
                task = self._open(given)
                if targets is not None:
                    noisy = {name: output.noisy for name, output in self._restorer.outputs.items()}
                    task.targets = targets.of_input(given, task.jobs, noisy)
                for _, ref, layout, source in task.refs():
                    self._measurements.add(ref, layout, source)
            except (DataError, ConfigError) as error:
                if given.is_found and is_without_image(error):
                    _logger.warning(f"left out: {error}")
                else:
                    problems.append(error)
                continue
            tasks.append(task)
            kept += sum(int(np.prod(ref.shape)) * ref.dtype.itemsize for _, ref, _, _ in task.refs())
            if kept > KEPT_BYTES or any(file.is_large for file in task.files.values()):
                task.release()
        problems += self._check_levels(tasks) or self._check_noise(tasks)
        if problems:
            raise _together(problems, len(inputs))
        return tasks

    def restore(self, task: Task) -> list[Path]:
        """Restore one input; the files that were written."""
        with self._restored(task) as (results, white):
            written: list[Path] = []
            for target in task.targets:
                files, notes = write_target(
                    target, results, self._description(), colour=self._restorer.colour, white=white or 1.0
                )
                written += files
                for note in notes:
                    self.notes.setdefault(note, []).append(target.path)
            return written

    def arrays(self, task: Task) -> list[RestoredArrays]:
        """Restore one input in memory; the results of each of its jobs.

        Values are in the units of the input. Arrays, and those of npy, npz and h5 files, keep their integer types; of
        other formats uint8 and uint16 do, and what has other units is not rounded to their numbers.
        """
        with self._restored(task) as (results, _):
            arrays = []
            for number, job in enumerate(task.jobs):
                restored = {}
                for name, output in self._restorer.outputs.items():
                    ref = job.arrays[output.noisy]
                    values = in_memory(results.of(number, name)).reshape(ref.shape)
                    restored[name] = ref.file.as_stored(ref.name, values)
                arrays.append(RestoredArrays(job.name, restored))
            return arrays

    def noisy_arrays(self, task: Task) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """What is to be restored: for each job what messages call it, and by field its stack (N, H, W, C).

        Values are in the units of the training images; integers are as in the file.
        """
        for job, layout in zip(task.jobs, task.layouts, strict=True):
            yield (
                task.source(job),
                {
                    name: self._measurements.units(ref).to_training(ref.file.read(ref.name)).reshape(layout)
                    for name, ref in job.arrays.items()
                },
            )
        task.release()

    def warn_of_losses(self) -> None:
        """Log what could not be kept in the files that were written."""
        for note, files in self.notes.items():
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            _logger.warning(f"{files[0]}{more}: {note}")

    @contextmanager
    def _restored(self, task: Task) -> Iterator[tuple[Results, float]]:
        """The results of an input, and the greatest magnitude of its noisy images; forgotten after the block."""
        results = Results(Path(tempfile.gettempdir()) if self._folder is None else self._folder / task.given.folder)
        white = 0.0
        try:
            for number, (job, layout) in enumerate(zip(task.jobs, task.layouts, strict=True)):
                if not self._refuses:
                    self._warn_of_noise(task, job, layout)
                units = {name: self._measurements.units(ref) for name, ref in job.arrays.items()}
                white = max(white, results.restore(number, job, layout, units, self._restorer, task.source(job)))
            yield results, white
        finally:
            results.close()
            task.release()

    def _open(self, given: RestorationInput) -> Task:
        restorer = self._restorer
        channels = restorer.model.images[restorer.restored_fields[0]].channels
        files = given.opened or {
            name: open_file(path, channels, self._measurements.slice_axis) for name, path in given.files.items()
        }
        for file in files.values():
            if channels == 1 and any(facts.is_colour for facts in file.facts.values()):
                raise DataError(
                    f"{file.path}: a colour image, but this run was trained on grey images: convert it to grey, or "
                    "choose a run that was trained on colour"
                )
        _check_aligned(files, given)
        contents = {name: ArrayRef.all_of(file) for name, file in files.items()}
        jobs = list(restoration_jobs(given, contents, restorer.input_fields, restorer.restored_fields))
        task = Task(given, files, jobs, [])
        task.layouts = [restorer.check(job.arrays, task.source(job)) for job in jobs]
        return task

    def _check_levels(self, tasks: list[Task]) -> list[QuellError]:
        """Inputs whose level is far from that of the training images; with --force they are warned about."""
        problems: list[QuellError] = []
        if sentence := self._measurements.cannot_check():
            _logger.warning(sentence)
        for task in tasks:
            for name, ref, _, source in task.refs():
                problem = self._measurements.problem(name, ref, source)
                if problem is None:
                    continue
                if self._force:
                    _logger.warning(f"{problem} (--force was given)")
                else:
                    problems.append(problem)
        return problems

    def _check_noise(self, tasks: list[Task]) -> list[QuellError]:
        """Inputs whose noise is not known to be what a shared model was trained on.

        A run only warns, when it is their turn.
        """
        problems: list[QuellError] = []
        for task in tasks if self._refuses else ():
            for job, layout in zip(task.jobs, task.layouts, strict=True):
                found = self._compare_noise(task, job, layout)
                if found.differences:
                    problems.append(
                        DataError(
                            f"{task.source(job)}: {'; '.join(found.differences)}: choose a model that was trained on "
                            "such noise, or go on with --force (in Python, force=True)"
                        )
                    )
                elif found.unknown:
                    problems.append(
                        DataError(
                            f"{task.source(job)}: {'; '.join(found.unknown)}: restore it unchecked with --force (in "
                            "Python, force=True), if it has the noise that this model was trained on"
                        )
                    )
            if len(tasks) > 1:
                task.release()
        return problems

    def _warn_of_noise(self, task: Task, job: RestorationJob, layout: Layout) -> None:
        found = self._compare_noise(task, job, layout)
        for sentence in found.differences:
            _logger.warning(f"{task.source(job)}: {sentence}: {EXPECT}")
        for sentence in found.unknown:
            _logger.warning(f"{task.source(job)}: {sentence}: whether it is that of the training images is not known")

    def _compare_noise(self, task: Task, job: RestorationJob, layout: Layout) -> NoiseFindings:
        """Compare the noise of some images with that of the training."""
        if not self._restorer.noise.ranges:
            return NoiseFindings([], [])
        numbers = list(dict.fromkeys(int(place * layout.images) for place in NOISE_IMAGES))
        units = {name: self._measurements.units(ref) for name, ref in job.arrays.items()}
        arrays = {name: units[name].to_training(_some_images(ref, layout, numbers)) for name, ref in job.arrays.items()}
        several = layout.images > 1
        names = [f" in image {number + 1} of {layout.images}" if several else "" for number in numbers]
        return self._restorer.compare_noise(arrays, task.source(job), names)

    def _description(self) -> str:
        checkpoint = self._restorer.model.checkpoint
        return f"Noise reduced by Quell, run {self._restorer.model.config.name}, checkpoint {checkpoint.name}"


def _some_images(ref: ArrayRef, layout: Layout, numbers: list[int]) -> np.ndarray:
    """Images of a stack, of a large file the rows in their middle: (N, rows, W) or (N, rows, W, C)."""
    if ref.file.is_large:
        top = max(0, (layout.height - NOISE_ROWS) // 2)
        rows = ref.file.rows(ref.name, layout)
        bands = [rows.rows(number, top, min(top + NOISE_ROWS, layout.height)) for number in numbers]
        images = np.stack(bands).reshape(len(numbers), -1, layout.width, layout.channels)
    else:
        images = ref.file.read(ref.name).reshape(layout)[numbers]
    return images[..., 0] if layout.channels == 1 else images


def _check_aligned(files: Mapping[str, OpenedFile], given: RestorationInput) -> None:
    """Raise DataError where the files of several fields say that they show different places."""
    first, *others = files
    for name in others:
        a, b = files[first], files[name]
        if isinstance(a, StoredFile) and isinstance(b, StoredFile) and (problem := a.misalignment(b)):
            raise DataError(f"{given.text}: '{first}' and '{name}' are not aligned: {problem}; register them first")


def _together(problems: list[QuellError], count: int) -> QuellError:
    """One error for all problems, of the class of the first."""
    first = problems[0]
    if len(problems) == 1:
        return first
    lines = "".join(f"\n  - {problem}" for problem in problems[:MAX_PROBLEMS])
    more = f"\n  - and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
    return type(first)(f"{len(problems)} problems with {count} inputs, so that nothing was restored:{lines}{more}")
