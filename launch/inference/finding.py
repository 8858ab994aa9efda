"""From the arguments of denoise.py to the files that are restored: folders are searched, fields are matched by name."""

import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from quell.configs.errors import ConfigError, DataError
from quell.launch.inference.files.dicom_pairs import pairs_by_position
from quell.launch.inference.inputs import RestorationInput, parse_input
from quell.launch.inference.writers.zarr_copies import is_zarr
from quell.shards.image_files.read import SUFFIXES, suffix_of
from quell.shards.listing.folders import is_junk


@dataclass
class LeftOut:
    """What a search did not take, by the reason."""

    examples: dict[str, Path] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, reason: str, path: Path) -> None:
        """Note one file or folder."""
        self.examples.setdefault(reason, path)
        self.counts[reason] += 1

    def sentences(self) -> list[str]:
        """One sentence for each reason, with the number and the first example."""
        return [
            f"left out {count} {reason}{'' if count == 1 else 's'} ({self.examples[reason]}"
            f"{', ...' if count > 1 else ''})"
            for reason, count in self.counts.items()
        ]


def find_inputs(texts: list[str], pattern: str | None, output: Path | None) -> tuple[list[RestorationInput], LeftOut]:
    """The inputs that arguments mean.

    Args:
        texts: FILE, FOLDER, or field=FILE,field=FILE, whose files may be folders too.
        pattern: What files in folders must match, such as `*.png`; None: every image.
        output: The output folder, which is not searched; None where nothing is written.

    Returns:
        The inputs in the order of the arguments, those of a folder by name; and what was left out of folders.

    Raises:
        ConfigError: An argument names a field twice, or a file is given twice.
        DataError: A folder holds no image, or the folders of two fields do not hold the same names.
    """
    left_out, inputs = LeftOut(), []
    for text in texts:
        given = replace(parse_input(_existing_form(text)), text=text)
        folders = {name: path for name, path in given.files.items() if path.is_dir() and not is_zarr(path)}
        if not folders:
            inputs.append(given)
            continue
        found = {name: _search(path, pattern, output, left_out) for name, path in folders.items()}
        if set(folders) == {""}:
            root = given.files[""]
            inputs += [RestorationInput(str(p), {"": p}, p.parent.relative_to(root), text) for p in found[""]]
        elif set(folders) == set(given.files):
            inputs += _match_fields(given, found, text)
        else:
            raise ConfigError(f"'{text}': give a folder for every field, or a file for every field")
    _refuse_repeated(inputs)
    return inputs, left_out


def _existing_form(text: str) -> str:
    """A path as the file system has it: accents may be stored composed or decomposed, and look the same."""
    if Path(text).exists() or text.isascii():
        return text
    forms = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    return next((form for form in forms if Path(form).exists()), text)


def _search(folder: Path, pattern: str | None, output: Path | None, left_out: LeftOut) -> list[Path]:
    """The images below a folder, by name. Raises DataError where there are none."""
    files = [
        path
        for path in _walk(folder, output and output.resolve(), left_out, set())
        if _is_wanted(path, folder, pattern)
    ]
    if not files:
        wanted = f"match {pattern}" if pattern else f"are images ({' '.join(SUFFIXES)} .zarr)"
        raise DataError(f"{folder}: no files in this folder {wanted}")
    return files


def _is_wanted(path: Path, folder: Path, pattern: str | None) -> bool:
    """Whether the name of a file, or its path below the folder, matches; `**/` stands for any folders, or none."""
    if pattern is None:
        return True
    texts = (path.name, path.relative_to(folder).as_posix())
    return any(fnmatchcase(text, each) for text in texts for each in (pattern, pattern.replace("**/", "")))


def _walk(folder: Path, output: Path | None, left_out: LeftOut, visited: set[Path]) -> Iterator[Path]:
    """Files and Zarr folders that are images, in the order of their names."""
    visited.add(folder.resolve())
    try:
        children = sorted(folder.iterdir(), key=lambda path: unicodedata.normalize("NFC", path.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be searched ({error.strerror})") from error
    for path in children:
        if path.is_symlink() and not path.exists():
            left_out.add("broken link", path)
        elif path.is_dir():
            if path.name.startswith(".") or is_junk(path.name):
                left_out.add("hidden folder", path)
            elif is_zarr(path):
                yield path
            elif path.resolve() == output:
                left_out.add("output folder", path)
            elif path.resolve() in visited:
                left_out.add("folder that is reached twice", path)
            else:
                yield from _walk(path, output, left_out, visited)
        elif path.name.startswith(".") or is_junk(path.name):
            left_out.add("hidden file", path)
        elif not path.is_file():  # a pipe or a device, which may never end
            left_out.add("special file", path)
        elif suffix_of(path) in SUFFIXES:
            yield path
        else:
            left_out.add("file of another type", path)


def _match_fields(given: RestorationInput, found: dict[str, list[Path]], text: str) -> list[RestorationInput]:
    """Inputs of several fields from folders that hold files of the same names, or DICOM slices of the same places.

    Args:
        given: The argument with its folders.
        found: Field -> the images in its folder.
        text: The argument as the user wrote it.

    Raises:
        DataError: They do not.
    """
    keyed = {
        name: {_key(path, given.files[name]): path for path in paths if not path.is_dir() or is_zarr(path)}
        for name, paths in found.items()
    }
    first = next(iter(keyed))
    if (pairs := pairs_by_position(found, given.files)) is not None:
        return [_several(pair, pair[first].parent.relative_to(given.files[first]), text) for pair in pairs]
    for name, files in keyed.items():
        alone = sorted(set(files) ^ set(keyed[first]))
        if alone:
            lacking = name if alone[0] in keyed[first] else first
            raise DataError(
                f"{given.text}: {len(alone)} names are in one folder only; the first, {alone[0]}, has no partner in "
                f"{given.files[lacking]}: give the same names for every field"
            )
    return [
        _several({name: files[key] for name, files in keyed.items()}, Path(key).parent, text) for key in keyed[first]
    ]


def _several(files: dict[str, Path], folder: Path, text: str) -> RestorationInput:
    return RestorationInput(",".join(f"{name}={path}" for name, path in files.items()), files, folder, text)


def _key(path: Path, folder: Path) -> str:
    """What a file is matched by: its place in the folder without the suffix, whatever the form of its accents."""
    relative = path.relative_to(folder)
    suffix = suffix_of(path)
    name = relative.name[: -len(suffix)] if suffix and relative.name.lower().endswith(suffix) else relative.name
    return unicodedata.normalize("NFC", str(relative.with_name(name)))


def _refuse_repeated(inputs: list[RestorationInput]) -> None:
    seen: dict[tuple[tuple[str, Path], ...], str] = {}
    for given in inputs:
        files = tuple(sorted((name, path.absolute()) for name, path in given.files.items()))
        if files in seen:
            raise ConfigError(
                f"{given.text} is given twice (also as {seen[files]}): two results would be written to one"
            )
        seen[files] = given.text
