"""The pictures of the gallery are drawn by the commands that its page names."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.figures import gallery
from tests.support.commands import Command


@pytest.mark.slow
def test_pictures_are_drawn_from_the_runs_of_the_study(
    tmp_path: Path, root: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    data, runs = tmp_path / "data", tmp_path / "runs"
    sizes = ["--train", "4", "--val", "2", "--test", "2", "--size", "64"]
    command([sys.executable, "-m", "quell", "build", "phantom", "--second", *sizes, "--output", data], cwd=root)
    small = [f"data.root={data}", "data.crop=32", "data.batch_size=2", "loop.max_steps=2", "pipeline.adapt_steps=2"]
    study = ["experiments", "--study", "gallery", "--only", "zs_n2n", "--output", runs]
    command([sys.executable, "-m", "quell", *study, *small], cwd=root)
    gallery.main(["--runs", str(runs), "--output", str(tmp_path / "pictures")])
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["zs_n2n.webp"]
    with Image.open(tmp_path / "pictures" / "zs_n2n.webp") as picture:
        assert picture.format == "WEBP" and picture.width <= gallery.MAX_WIDTH_PX
    assert "sure: no run in" in capsys.readouterr().out
