"""Pages of the site that lie outside docs/, and links to them.

CONTRIBUTING.md and CHANGELOG.md become pages; a file of the code that a page links to becomes a page that shows it.
Links are rewritten to match, so that the same text works here, on a forge and in an editor.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent.parent

SHOWN = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""File of the project -> the page that shows it."""

INSTEAD = {"README.md": "README.md", "docs": "README.md"}
"""What a link to a file or folder of the project leads to in the site, where that is another page."""

LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/, and one for each file of the code that a page links to."""
    for origin, page in SHOWN.items():
        files.append(File.generated(config, page, content=moved((ROOT / origin).read_text("utf-8"), origin, page)))
    for path in sorted({path for file in files.documentation_pages() for path in linked_code(origin_of(file))}):
        code, language = (ROOT / path).read_text("utf-8"), path.rpartition(".")[2]
        content = f"---\nsearch: {{exclude: true}}\n---\n# {path}\n\n````{language}\n{code}\n````\n"
        unlisted = InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, source_page(path), content=content, inclusion=unlisted))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page of docs/ that leave the folder."""
    return moved(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def moved(text: str, origin: str, page: str) -> str:
    """A text whose links were written in the file `origin` of the project, with links for the page that shows it."""

    def rewritten(match: re.Match[str]) -> str:
        path = project_path(match[2], origin)
        if path is None or not (ROOT / path).exists():
            return match[0]
        place = SHOWN.get(path) or INSTEAD.get(path) or (path[5:] if path.startswith("docs/") else source_page(path))
        return f"{match[1]}{posixpath.relpath(place, posixpath.dirname(page) or '.')}{match[3] or ''}{match[4]}"

    return LINK.sub(rewritten, text)


def linked_code(origin: str) -> list[str]:
    """The files of the project that a file links to and that are neither in docs/ nor pages."""
    if not (ROOT / origin).is_file():
        return []
    links = LINK.findall((ROOT / origin).read_text("utf-8"))
    paths = [project_path(link, origin) for _, link, _, _ in links]
    pages = (*SHOWN, *INSTEAD)
    return [path for path in paths if path and path not in pages and is_code(path)]


def is_code(path: str) -> bool:
    """Whether a path of the project is a file outside docs/."""
    return not path.startswith(("docs/", "..")) and (ROOT / path).is_file()


def project_path(link: str, origin: str) -> str | None:
    """The path in the project that a link in the file `origin` names; None for a link to another server."""
    if re.match(r"[a-z]+:", link):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))


def origin_of(file: File) -> str:
    """The file of the project that a page shows."""
    return next((origin for origin, page in SHOWN.items() if page == file.src_uri), f"docs/{file.src_uri}")


def source_page(path: str) -> str:
    """The page that shows a file of the code."""
    return f"source/{path}.md"
