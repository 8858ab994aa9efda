"""Logs and small JSON files are read, or passed over, but never waited for."""

import os
from pathlib import Path

from quell.configs.support.event_log import read_events
from quell.configs.support.json_files import read_json


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file")
    assert read_events(tmp_path / "file") == []
    assert read_json(tmp_path / "file") == {}
