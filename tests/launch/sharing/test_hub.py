"""Models on the Hugging Face Hub, played by a server on this machine."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from quell.configs.errors import CheckpointError, ConfigError, MachineError
from quell.launch import denoise, evaluate
from quell.launch.inference import trained_model
from quell.launch.sharing.locating import locate
from tests.launch.sharing import hub_server
from tests.launch.sharing.hub_server import COMMIT, FakeHub
from tests.support.small_runs import single_error


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: Path) -> Iterator[FakeHub]:
    """A hub with the shared model as `ann/small`, and an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    with hub_server.serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.models["ann/small"] = shared
        yield hub


def test_a_model_is_downloaded_once_and_then_found_without_a_network(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = locate("hub:ann/small")
    assert trained_model.load(folder).config.name == "small"
    assert locate(f"hub:ann/small@{COMMIT}") == folder
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nothing listens
    assert locate("hub:ann/small") == folder


def test_only_the_files_of_a_model_are_downloaded(hub: FakeHub, shared: Path, tmp_path: Path) -> None:
    shutil.copytree(shared, tmp_path / "more")
    for name in ("pytorch_model.bin", "weights.pt", "code.py"):
        (tmp_path / "more" / name).write_bytes(b"import os")
    hub.models["ann/more"] = tmp_path / "more"
    folder = locate("hub:ann/more")
    assert {file.name for file in folder.iterdir()} == {file.name for file in shared.iterdir()}
    assert not any(name in request for request in hub.requests for name in ("pytorch_model", "weights.pt", "code.py"))


def test_denoise_takes_it_and_says_which_revision_it_was(
    hub: FakeHub, noisy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert denoise.main(["--run", "hub:ann/small", str(noisy_file), "--output", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert f"hub:ann/small@{COMMIT}" in captured.out + captured.err
    assert (tmp_path / "out" / "noisy.npy").is_file()


def test_evaluate_asks_where_the_report_should_go(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["--run", "hub:ann/small", "--data", "anywhere"]) == ConfigError.exit_code
    assert "give --output" in single_error(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("hub:ann/other", CheckpointError, "no such model on the Hub, or it is private"),
        ("hub:ann/small@v9", CheckpointError, "ann/small has no revision 'v9'"),
        ("hub:ann/gated", CheckpointError, "is gated: ask for access"),
        ("hub:ann/text", CheckpointError, "holds no model that Quell can read"),
        ("hub:small", ConfigError, "expected hub:owner/name"),
        ("hub:ann/--small", ConfigError, "expected hub:owner/name"),
        ("hub:ann/small@../..", CheckpointError, "has no revision"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    hub: FakeHub, shared: Path, tmp_path: Path, source: str, error: type[Exception], words: str
) -> None:
    hub.models["ann/gated"] = shared
    hub.gated.add("ann/gated")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "README.md").write_text("words")
    hub.models["ann/text"] = tmp_path / "text"
    with pytest.raises(error) as caught:
        locate(source)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_without_a_network_and_a_cache_it_says_so(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MachineError, match="is not in the cache, and the Hub cannot be reached") as caught:
        locate("hub:ann/small")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["nohub://example.org", "http://127.0.0.1:port"])
def test_a_mistyped_endpoint_is_one_sentence(endpoint: str, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(MachineError, match=r"check the network, .*HF_ENDPOINT") as caught:
        locate("hub:ann/small")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("failure", [RuntimeError("disk full\nat byte 3"), ValueError()])
def test_whatever_the_library_raises_is_one_sentence(
    failure: Exception, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(MachineError, match=f"cannot be downloaded .{type(failure).__name__}") as caught:
        locate("hub:ann/small")
    assert "\n" not in str(caught.value)


def test_a_token_is_sent_and_never_shown(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    locate("hub:ann/small")
    with pytest.raises(CheckpointError) as caught:
        locate("hub:ann/other")
    captured = capsys.readouterr()
    assert hub.tokens == {"Bearer hf_secret"}
    assert "hf_secret" not in captured.out + captured.err + str(caught.value)


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MachineError, match=r"pip install 'quell\[hub\]'"):
        locate("hub:ann/small")
