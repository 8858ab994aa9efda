"""Trained models in Python: `quell.load(run).restore(image)`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch

from quell.api.given_images import Image, given_images
from quell.api.process_state import in_user_program
from quell.configs.errors import ConfigError, DataError, MachineError
from quell.configs.support.logs import get_logger
from quell.launch.inference.finding import find_inputs
from quell.launch.inference.restoration import Restoration, Task
from quell.launch.inference.restorer import Restorer, Tiles
from quell.launch.machine import out_of_memory
from quell.launch.machine.arithmetic import set_tf32
from quell.launch.sharing.locating import locate

if TYPE_CHECKING:
    from quell.configs.schema import RunConfig
    from quell.launch.options.choices import Format, Which

PathLike = str | os.PathLike[str]
Restored = np.ndarray | dict[str, np.ndarray]
"""An array, or one for each field or each array of a file."""
OfPath = Restored | dict[Path, Restored]
"""What a path gives: as a file, or for a folder as one for each file in it."""

log = get_logger(__name__)


@in_user_program
def load(
    source: PathLike,
    *,
    which: Which = "best",
    device: str | torch.device | None = None,
    tile: int = 256,
    overlap: int = 32,
    batch: int = 4,
    trust_code: bool = False,
) -> Model:
    """Load a trained model.

    Args:
        source: A run folder, one checkpoint folder inside it, or the folder of a shared model; `hub:owner/name` or
            `hub:owner/name@revision`, a shared model on the Hugging Face Hub; `zoo:NAME`, one that comes with Quell.
        which: The best checkpoint by the validation metric, or the last one; ignored for a checkpoint folder.
        device: Where to restore, such as "cpu" or "cuda:1"; default the accelerator, or the CPU where there is none.
        tile: Side in pixels of the tiles that large images are divided into; 0 restores full images.
        overlap: Pixels that neighbouring tiles share.
        batch: Tiles restored together.
        trust_code: Whether the configuration of a shared model may import classes from outside of Quell.

    Returns:
        The model, ready to restore.

    Raises:
        CheckpointError: There is no usable checkpoint, or no such model on the Hub.
        ConfigError: There is no such model in the zoo, or a shared model would import code that was not trusted.
        MachineError: The device cannot be used, or the Hub cannot be reached.
    """
    chosen = None if device is None else _device(device)
    folder = locate(os.fspath(source), trust_code=trust_code)
    return Model(Restorer(folder, which=which, tiles=Tiles(tile, overlap, batch), device=chosen, trust_code=trust_code))


class Model:
    """A trained model that restores arrays and files of the kind it was trained on; `quell.load` makes it."""

    def __init__(self, restorer: Restorer) -> None:
        """Wrap a restorer."""
        self._restorer = restorer

    @property
    def config(self) -> RunConfig:
        """The complete configuration of the run."""
        return self._restorer.model.config

    @property
    def checkpoint(self) -> Path:
        """The folder that the weights were read from."""
        return self._restorer.model.checkpoint

    @property
    def device(self) -> torch.device:
        """Where it restores."""
        return self._restorer.device

    @property
    def fields(self) -> tuple[str, ...]:
        """The noisy fields that it restores, all of which it needs."""
        return tuple(self._restorer.restored_fields)

    @property
    def card(self) -> str:
        """The model card of a shared model, in Markdown; of a run folder, which has none, the same as `describe`."""
        file = self.checkpoint / "README.md"
        return file.read_text(encoding="utf-8") if file.is_file() else self.describe()

    def describe(self) -> str:
        """What the model reads, and what it was trained on, in a few lines."""
        model = self._restorer.model
        lines = [f"{model.config.name}: {model.config.pipeline.name}, {self.checkpoint.name}, on {self.device}"]
        for field in self.fields:
            text = f"restores {field}: {model.images[field].words} images"
            data = model.training_data
            if data is not None and field in data.levels:
                level = data.levels[field]
                text += f", trained on values from {level.low:g} to {level.high:g} ({level.dtype})"
            lines.append(text)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<quell.Model {self.describe().splitlines()[0]}>"

    @overload
    def restore(self, images: Image, *, force: bool = False) -> np.ndarray: ...

    @overload
    def restore(self, images: Mapping[str, Image], *, force: bool = False) -> dict[str, np.ndarray]: ...

    @overload
    def restore(self, images: PathLike, *, pattern: str | None = None, force: bool = False) -> OfPath: ...

    @overload
    def restore(self, images: list[PathLike], *, pattern: str | None = None, force: bool = False) -> list[OfPath]: ...

    @overload
    def restore(self, images: list[Image], *, force: bool = False) -> list[np.ndarray]: ...

    @overload
    def restore(self, images: list[Mapping[str, Image]], *, force: bool = False) -> list[dict[str, np.ndarray]]: ...

    @overload
    def restore(
        self,
        images: PathLike | list[PathLike],
        *,
        output: PathLike,
        format: Format = "same",
        pattern: str | None = None,
        force: bool = False,
    ) -> list[Path]: ...

    @in_user_program
    def restore(
        self,
        images: Image | Mapping[str, Image] | PathLike | list[Image] | list[Mapping[str, Image]] | list[PathLike],
        *,
        output: PathLike | None = None,
        format: Format = "same",
        pattern: str | None = None,
        force: bool = False,
    ) -> Any:
        """Restore images; the same numbers as `quell denoise` gives.

        Args:
            images: An array (H, W), (H, W, C), (N, H, W) or (N, H, W, C), or one for each field by name, or a list of
                these; tensors and Pillow's images are taken as arrays. Or a file, a folder, or `pd=FILE,pdfs=FILE` for
                several fields, or a list of these. uint8 and uint16 are read as fractions of their maximum; everything
                else is in the units of the training images.
            output: Folder to write copies of the files to, each in its own format and with its metadata.
            format: Of the files written.
            pattern: Take only files of folders that match, such as "*.png".
            force: Also restore images far from the level of the training images, or with a shared model images with
                other noise, or noise that cannot be measured.

        Returns:
            For an array, an array of its shape: integers keep their type, rounded and clipped, and float16 keeps its;
            complex images become complex64; everything else becomes float32 and is not clipped. For a mapping, an array
            for each restored field. For a file the restored array in the file's units, or a mapping where it holds
            several. For a folder, a mapping from the path of each image in it (of several fields, that of the first) to
            what a file gives: files that are no images, and hidden ones, are not in it. For a list, a list of these in
            its order. With `output`, the files that were written.

        Raises:
            DataError: Images that are not of the kind the model was trained on, or cannot be read, or are none.
            ConfigError: Fields or files that do not fit the model; `output` together with arrays; an unknown format.
        """
        restorer = self._restorer
        set_tf32(restorer.model.config.loop, "no")  # restoring is in float32, whatever the program has set since
        folder = None if output is None else Path(os.path.expanduser(output))
        restoration = Restoration(restorer, folder, format, force=force)
        items = list(images) if isinstance(images, list | tuple) else [images]
        named = [item for item in items if isinstance(item, str | os.PathLike)]
        if named and len(named) < len(items):
            raise DataError("restore takes files or arrays, not both in one list: call it twice")
        if not named:
            results: list[Any] = self._restore_arrays(restoration, items, folder)
        elif folder is not None:
            return self._write_files(restoration, self._tasks(restoration, named, pattern, folder))
        else:
            results = self._restore_files(restoration, self._tasks(restoration, named, pattern, folder), named)
        return results if isinstance(images, list | tuple) else results[0]

    @in_user_program
    def export(
        self,
        path: PathLike,
        *,
        format: Literal["onnx", "torch.export", "torchscript"] = "onnx",
        data: PathLike | None = None,
        split: str | None = None,
        on: list[PathLike] | None = None,
        tolerance: float = 1e-3,
    ) -> Path:
        """Write the whole restoration as a file for other programs, as `quell export` does (docs/export.md).

        Args:
            path: File to write; an existing one is replaced.
            format: Of the file.
            data: Root of the shards on whose images the file is compared with this model; default the run's own.
            split: Of these shards; default the run's test split.
            on: Files, or `pd=FILE,pdfs=FILE`, on which the file is compared instead.
            tolerance: Largest difference that is accepted, as a share of the range of the image.

        Returns:
            The file.

        Raises:
            ConfigError: The method cannot be written in this format, the file has the suffix of another one, or both
                shards and files are given.
            DataError: There are no images to compare on.
            MachineError: A package that the format needs is missing.
            QuellError: The file restores otherwise than this model; it is not kept.
        """
        from quell.launch.exporting.writing import export, samples  # torch.export takes a second to import

        if on is not None and (data is not None or split is not None):
            raise ConfigError("on= compares on files, data= and split= on shards: give only one of them")
        texts = None if on is None else [os.fspath(file) for file in on]
        root = None if data is None else os.fspath(data)
        return export.export(
            self.checkpoint,
            Path(os.path.expanduser(path)),
            format=format,
            images=lambda restorer: (
                samples.of_split(restorer, root, split) if texts is None else samples.of_files(restorer, texts)
            ),
            tolerance=tolerance,
            trust_code=self._restorer.trust_code,
        ).file

    def _tasks(
        self, restoration: Restoration, named: list[PathLike], pattern: str | None, folder: Path | None
    ) -> list[Task]:
        """The files that arguments name, checked."""
        inputs, left_out = find_inputs([os.fspath(text) for text in named], pattern, folder)
        for sentence in left_out.sentences():
            log.warning(sentence)
        return restoration.check(inputs, lambda given: given)

    def _write_files(self, restoration: Restoration, tasks: list[Task]) -> list[Path]:
        """Files in, files out."""
        with self._memory_explained():
            written = [file for task in tasks for file in restoration.restore(task)]
        restoration.warn_of_losses()
        return written

    def _restore_files(self, restoration: Restoration, tasks: list[Task], named: list[PathLike]) -> list[OfPath]:
        """Files in, arrays out: for each argument those of its file, or of the files in its folder by their paths."""
        texts = [os.fspath(text) for text in named]
        of_files: dict[str, Restored] = {}
        of_folders: dict[str, dict[Path, Restored]] = {}
        with self._memory_explained():
            for task in tasks:
                restored, given = self._of_file(restoration, task), task.given
                if given.is_found:
                    of_folders.setdefault(given.argument, {})[next(iter(given.files.values()))] = restored
                else:
                    of_files[given.argument] = restored
        return [of_files[text] if text in of_files else of_folders.get(text, {}) for text in texts]

    def _restore_arrays(self, restoration: Restoration, items: list[Any], folder: Path | None) -> list[Any]:
        """Arrays in, arrays out."""
        if folder is not None:
            raise ConfigError("output= writes copies of files, and an array is none: save what restore returns")
        places = [f" of image {number + 1}" if len(items) > 1 else "" for number in range(len(items))]
        inputs = [given_images(item, self.fields, place) for item, place in zip(items, places, strict=True)]
        tasks = restoration.check(inputs, lambda given: given)
        with self._memory_explained():
            by_field = [self._by_field(restoration.arrays(task)[0].arrays) for task in tasks]
        return [
            result if isinstance(item, Mapping) else result[self.fields[0]]
            for item, result in zip(items, by_field, strict=True)
        ]

    def _memory_explained(self) -> AbstractContextManager[None]:
        return out_of_memory.explained(self.device, lambda: "restoring; lower batch or tile")

    def _of_file(self, restoration: Restoration, task: Task) -> Restored:
        """The arrays of a file: by name where it holds several, by field where there are several."""
        jobs = restoration.arrays(task)
        results = {job.name: self._by_field(job.arrays) for job in jobs}
        flat = {
            "/".join(filter(None, [name, field if len(by_field) > 1 else ""])): array
            for name, by_field in results.items()
            for field, array in by_field.items()
        }
        return flat[""] if list(flat) == [""] else flat

    def _by_field(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Results by the field that they restore; by the method's name for the output where a field has several."""
        noisy = {name: self._restorer.outputs[name].noisy for name in arrays}
        counts = Counter(noisy.values())
        return {noisy[name] if counts[noisy[name]] == 1 else name: array for name, array in arrays.items()}


def _device(device: str | torch.device) -> torch.device:
    """The device, tried. Raises MachineError where it does not exist or cannot be used."""
    try:
        found = torch.device(device)
        torch.zeros((), device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise MachineError(f"device {device!s} cannot be used: {str(error).splitlines()[0]}") from error
    return found
