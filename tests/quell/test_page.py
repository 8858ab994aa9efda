"""The examples of docs/python.md run, in order, in one program in a folder of the user's."""

import sys
from pathlib import Path

from quell.configs.support.paths import ROOT
from tests.support.commands import Command
from tests.test_docs import blocks

SMALLER = (("16 --val 4 --test 4", "8 --val 2 --test 2 --size 64"), ('"max_steps": 20', '"max_steps": 2'))


def test_the_examples_of_the_page_run(command: Command, tmp_path: Path) -> None:
    found = list(blocks((ROOT / "docs" / "python.md").read_text("utf-8")))
    (build,) = (block.text for block in found if block.language == "bash")
    script = "\n".join(block.text for block in found if block.language == "python")
    for large, small in SMALLER:
        build, script = build.replace(large, small), script.replace(large, small)
    command([sys.executable, "-m", *build.split()], cwd=tmp_path)
    script += "\nassert (restored['pd'] == arrays['pd']).all() and sorted(arrays) == ['pd', 'pdfs']\n"
    output = command([sys.executable, "-c", script], cwd=tmp_path).output
    assert "finished 2" in output and "| pd | noisy |" in output and "restored/scan.npz" in output
    assert (tmp_path / "runs" / "python" / "report.json").is_file() and not (ROOT / "runs" / "python").exists()
