"""A newcomer installs the wheel on a clean machine and follows the tour: every line of it, as a notebook."""

import json
import os
import re
from pathlib import Path

import nbclient
import pytest
from traitlets.config import Config

from docs.support.tutorials import notebook_of
from quell.configs.support.paths import ROOT
from tests.quell.environments import Environment, build, copy_of_tree

TOUR = ROOT / "docs" / "tutorials" / "tour.md"
KERNEL = "newcomer"


def kernel_of(environment: Environment, folder: Path) -> Path:
    """A folder for JUPYTER_PATH, with a kernel that runs the Python of an environment."""
    place = folder / "kernels" / KERNEL
    place.mkdir(parents=True)
    start = [str(environment.bin / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (place / "kernel.json").write_text(json.dumps({"argv": start, "display_name": KERNEL, "language": "python"}))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_newcomer_restores_trains_exports_and_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (wheel,) = build(copy_of_tree(tmp_path / "tree"), tmp_path / "wheel", "--wheel")
    documented = re.search(r"pip install '(\S+\.whl)\[export\]'", TOUR.read_text("utf-8"))
    assert documented and documented[1] == wheel.name, "the tour installs the present version"
    environment = Environment(tmp_path / "environment")
    environment.install(wheel)
    monkeypatch.setenv("JUPYTER_PATH", str(kernel_of(environment, tmp_path / "jupyter")))
    folder = tmp_path / "newcomer"
    folder.mkdir()
    strict = tmp_path / "strict.sh"
    strict.write_text("set -euo pipefail\nunset BASH_ENV\n")
    notebook = notebook_of(TOUR)
    client = nbclient.NotebookClient(
        notebook,
        kernel_name=KERNEL,
        config=Config(AsyncKernelManager={"transport": "ipc", "ip": str(tmp_path / "kernel")}),
        timeout=900,
        startup_timeout=300,
        resources={"metadata": {"path": str(folder)}},
    )
    path = f"{environment.bin}{os.pathsep}{os.environ['PATH']}"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "QUELL_BASE"))}
    client.execute(env={**clean, "PATH": path, "BASH_ENV": str(strict), "ACCELERATE_USE_CPU": "true"})
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"restored/scan.png", "runs/r2r/report.json", "photos.onnx"} <= written
    printed = "".join(str(output.get("text", "")) for cell in notebook.cells for output in cell.get("outputs", []))
    assert "dB after" in printed and "(1, 1, 512, 512)" in printed and "supervised" in printed
