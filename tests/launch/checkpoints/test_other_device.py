"""A run that moves to a device of another kind continues, and says what changes."""

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from quell.configs.errors import CheckpointError
from quell.configs.support.json_files import Record
from quell.launch import evaluate
from quell.launch.checkpoints import resume, store
from quell.launch.machine import precision
from quell.launch.training import loop, run
from quell.launch.training.trainer import Trainer
from tests.support.runs import checkpoint_of, read_events
from tests.support.small_runs import SmallRun, TrainSmall

TINY = ("loop.ema_decay=0.9", "evaluation.every_epochs=null", "tracking.tensorboard=false", "loop.precision=auto")


def pretend_that_auto_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this processor stand for a device whose only half precision this is; it computes in both, slowly."""
    monkeypatch.setattr(precision, "_fastest", lambda *_: (name, "pretended"))
    monkeypatch.setattr(precision, "multiplies", lambda _, other: other in ("no", name))


@pytest.mark.parametrize(("first", "second"), [("bf16", "fp16"), ("fp16", "no"), ("no", "fp16")])
def test_a_run_continues_in_what_the_other_device_computes(
    first: str, second: str, train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float16 the loss is scaled, in the others it is not: a checkpoint may have no state for the scaler."""
    pretend_that_auto_is(first, monkeypatch)
    assert train_small(*TINY, "loop.max_steps=1")[0] == 0
    assert store.read_meta(checkpoint_of(tmp_path / "run", 1))["precision"] == first
    pretend_that_auto_is(second, monkeypatch)
    code, output = train_small(*TINY, "loop.max_steps=2")
    assert code == 0, output
    continues_with = second if first != "no" else "no"  # float32 is computed everywhere
    assert store.read_meta(checkpoint_of(tmp_path / "run", 2))["precision"] == continues_with
    assert (f"began with precision {first} and continues with {second} on cpu" in output) == (first != "no")
    assert [event["precision"] for event in read_events(tmp_path / "run") if "precision" in event] == [
        first,
        continues_with,
    ]


def test_averages_have_the_order_of_the_weights_after_a_resume(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise torch's multi-tensor kernels fall back to copying one tensor after the other."""

    def train(trainer: Trainer, batches: object) -> str:
        weights = trainer.state.pipeline.state_dict()
        assert trainer.average is not None
        trained = {p.data_ptr() for p in trainer.state.pipeline.parameters() if p.dim() == 4}
        planes = [name for name, weight in weights.items() if weight.data_ptr() in trained]
        orders.append({name: (trainer.average.state[name].stride(), weights[name].stride()) for name in planes})
        return original(trainer, batches)  # type: ignore[arg-type]

    orders: list[dict[str, tuple[tuple[int, ...], tuple[int, ...]]]] = []
    original = loop.train
    monkeypatch.setattr(loop, "train", train)
    for steps in (1, 2):
        config = small_run(*TINY, "loop.channels_last=true", f"loop.max_steps={steps}")
        assert run.train(config, tmp_path / "run") == 0
    for pairs in orders:
        assert any(own[1] == 1 for _, own in pairs.values())  # channels last
        assert all(averaged == own for averaged, own in pairs.values())


def test_auto_continues_with_what_a_checkpoint_was_trained_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`precision` in meta.json is since version 0.4; before, `auto` is what the log says."""
    checkpoint = tmp_path / "checkpoints" / "step-00000005"
    meta: Record = {}
    monkeypatch.setattr(store, "read_meta", lambda _: meta)
    log = [{"event": "start", "step": 0, "time": 1.0, "precision": "bf16"}]
    for written, expected in (
        ({"precision": "fp16", "config": {"loop": {"precision": "auto"}}}, "fp16"),
        ({"config": {"loop": {"precision": "no"}}}, "no"),
        ({"config": {"loop": {}}}, "no"),
        ({"config": {"loop": {"precision": "auto"}}}, None),
    ):
        meta.clear()
        meta.update(written)
        assert resume.precision_of(checkpoint) == expected
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in log))
    assert resume.precision_of(checkpoint) == "bf16"


def test_a_precision_may_be_left_open_but_not_changed(small_run: SmallRun) -> None:
    def config(wanted: str) -> dict[str, object]:
        return small_run(f"loop.precision={wanted}").model_dump(mode="json")

    for saved, current, trained_in in (("no", "auto", "no"), ("auto", "bf16", "bf16"), ("auto", "auto", None)):
        resume.refuse_other_config(config(saved), config(current), Path("c"), precision=trained_in)
    with pytest.raises(CheckpointError, match="loop.precision was no and is bf16"):
        resume.refuse_other_config(config("no"), config("bf16"), Path("c"), precision="no")


def test_a_finished_run_of_an_older_version_stays_finished(train_small: TrainSmall, tmp_path: Path) -> None:
    """The default of loop.precision was no until version 0.3, and is in its config.yaml."""
    words = [*TINY[:-1], "loop.max_steps=null", "loop.epochs=0.2"]
    assert train_small(*words, "loop.precision=no")[0] == 0
    code, output = train_small(*words)
    assert code == 0 and "is finished" in output


def test_a_scaler_that_was_saved_is_restored(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_that_auto_is("fp16", monkeypatch)
    for steps in (1, 2):
        assert train_small(*TINY, f"loop.max_steps={steps}")[0] == 0
    scaler = store.read_state(checkpoint_of(tmp_path / "run", 2), "state.pt")["scaler"]
    steps_without_overflow, halvings = scaler["_growth_tracker"], 16 - math.log2(scaler["scale"])
    assert steps_without_overflow == 2 or halvings == 2 or (halvings == 1 and steps_without_overflow <= 1)


def test_a_run_is_evaluated_in_the_precision_that_it_was_trained_in(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_that_auto_is("bf16", monkeypatch)
    assert train_small(*TINY, "loop.max_steps=1")[0] == 0
    pretend_that_auto_is("fp16", monkeypatch)
    monkeypatch.setattr(precision, "multiplies", lambda _, other: True)
    used: list[str] = []
    autocast = precision.autocast

    def noted(device: torch.device, name: str) -> Callable[[], AbstractContextManager[object]]:
        used.append(name)
        return autocast(device, name)

    monkeypatch.setattr(precision, "autocast", noted)
    assert evaluate.main(["--run", str(tmp_path / "run"), "--limit", "1"]) == 0
    assert used == ["bf16"]
