"""Every tutorial runs from its first cell to its last, in an empty folder."""

from pathlib import Path

import pytest
from nbclient.exceptions import CellExecutionError

from docs.support import tutorials


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
