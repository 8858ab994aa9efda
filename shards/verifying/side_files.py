"""The files beside the shards: notes, reports, cards and previews that a reader of the data set would stumble over."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from quell.configs.support.json_files import parse_json
from quell.shards.format import index
from quell.shards.verifying.samples import Defect

_TEXT = (".md", ".csv", ".txt", ".yaml", ".yml")
_PICTURES = (".png", ".jpg", ".jpeg")


def check(folder: Path) -> list[Defect]:
    """Warnings about the files in one folder that cannot be read, and about what unfinished builds left behind."""
    defects = []
    for path in sorted(folder.iterdir()):
        problem = next(_problems(path), None)
        if problem is not None:
            defects.append(Defect("warning", "side file", str(path), problem))
    return defects


def _problems(path: Path) -> Iterator[str]:
    if path.is_dir():
        if path.suffix == ".partial":
            yield f"{path}: left by a build that was interrupted; start it again, or remove the folder"
        return
    if path.exists() and not path.is_file():
        yield f"{path}: not a regular file but a pipe or device"
        return
    if path.name in (index.HEADER, index.TABLE) or path.suffix == ".tar":
        return
    if path.name.startswith(".") and (index.HEADER in path.name or index.TABLE in path.name):
        yield f"{path}: left by an interrupted write; remove it"
    try:
        if path.suffix == ".json":
            parse_json(path.read_bytes())
        elif path.suffix == ".jsonl":
            for line in path.read_bytes().splitlines():
                parse_json(line)
        elif path.suffix in _TEXT:
            path.read_text(encoding="utf-8")
        elif path.suffix in _PICTURES:
            with Image.open(path) as image:
                image.load()
    except OSError as error:
        yield f"{path}: cannot be read ({error.strerror or error})"
    except UnicodeDecodeError:
        yield f"{path}: is not UTF-8 text"
    except (ValueError, SyntaxError, Image.DecompressionBombError) as error:
        yield f"{path}: is damaged ({' '.join(str(error).split())})"
