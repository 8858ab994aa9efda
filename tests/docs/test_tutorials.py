"""Every tutorial runs from its first cell to its last, in an empty folder."""

import ast
import re
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from nbclient.exceptions import CellExecutionError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from docs.support import tutorials
from quell.configs.support.paths import ROOT


@pytest.mark.parametrize("tutorial", tutorials.tutorials(), ids=lambda path: path.stem)
def test_a_tutorial_imports_only_what_its_page_says_to_install(tutorial: Path) -> None:
    text = tutorial.read_text("utf-8")
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    named = [extra for words in re.findall(r"pip install \S*\[([\w,]+)\]", text) for extra in words.split(",")]
    lines = settings["options"]["install_requires"] + "".join(settings["options.extras_require"][e] for e in named)
    installed = {canonicalize_name(Requirement(line).name) for line in lines.splitlines() if line.strip()}
    cells = re.findall(r"^```python\n(?:%.*\n)?(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    imports = [node for cell in cells for node in ast.walk(ast.parse(cell))]
    modules = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in imports if isinstance(node, ast.ImportFrom)}
    packages = packages_distributions()
    for module in {module.partition(".")[0] for module in modules} & packages.keys() - {
        "quell",
        "IPython",
    }:  # Jupyter brings it
        assert installed & set(map(canonicalize_name, packages[module])), f"{module} is in no package that is installed"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("tutorial", tutorials.tutorials(), ids=lambda path: path.stem)
def test_a_tutorial_runs(tutorial: Path, tmp_path: Path) -> None:
    notebook = tutorials.run(tutorial, tmp_path / "work")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs
    assert str(tmp_path) not in str(outputs)
    assert not any(output.output_type == "error" for output in outputs)


@pytest.mark.slow
def test_a_cell_of_bash_fails_with_its_first_failing_line(tmp_path: Path) -> None:
    tutorial = tmp_path / "wrong.md"
    tutorial.write_text("# Wrong\n\n```bash\nfalse\necho still here\n```\n", "utf-8")
    with pytest.raises(CellExecutionError):
        tutorials.run(tutorial, tmp_path / "work")
