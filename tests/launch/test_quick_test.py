"""quick_test.sh trains briefly, reports success or failure, and returns the exit code of the training."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import Command
from tests.support.small_runs import SMALL_CONFIG


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Environment variables that the script reads."""
    return {"PYTHON": sys.executable, "QUICK_TEST_DIR": str(tmp_path)}


def test_a_successful_run_passes_and_is_diagnosed(
    command: Command, env: dict[str, str], mini: Path, tmp_path: Path
) -> None:
    result = command(["launch/quick_test.sh", SMALL_CONFIG, "0.5", f"data.root={mini}"], env=env)
    assert "Decision tree (Quick reference)" in result.output
    assert result.output.splitlines()[-1] == f"PASSED: small trained for 0.5 epochs without errors ({tmp_path}/small)"
    assert (tmp_path / "small" / "summary.json").is_file()


def test_a_failed_training_sets_the_exit_code(command: Command, env: dict[str, str]) -> None:
    result = command(["launch/quick_test.sh", SMALL_CONFIG, "pipeline.latnt_channels=3"], env=env, code=2)
    assert "did you mean 'latent_channels'" in result.output
    assert "FAILED: small ended with exit code 2" in result.output


def test_wrong_arguments_print_the_usage_and_the_shell_syntax_is_valid(command: Command, root: Path) -> None:
    assert "usage:" in command(["launch/quick_test.sh", SMALL_CONFIG, "two"], code=2).output
    assert subprocess.run(["sh", "-n", root / "launch" / "quick_test.sh"], check=False).returncode == 0
