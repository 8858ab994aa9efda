"""A full training step of each method, ours against a straightforward loop written as its publication describes it.

The same networks, weights, batches and losses, one thread each, step about; each in a process of its own, as a user's
script would be: what ours sets for the whole process (how freed memory is kept) is not lent to the other.
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from benchmarks import _common as common
from benchmarks import _published as published
from configs.schema import RunConfig
from launch import environment, session
from launch.averaging import Average
from launch.phases import train_step


def ours(config: RunConfig) -> Callable[[], object]:
    """`launch/phases.py`, with the moving average of the weights where the configuration keeps one."""
    accelerator = environment.make_accelerator(config.loop)
    pipeline, batches = common.built(config)
    environment.place(pipeline, accelerator.device, config.loop)
    phases = session.make_phases(accelerator, pipeline, config)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    average = Average(pipeline, config.loop.ema_decay) if config.loop.ema_decay else None

    def go() -> None:
        train_step(phases, pipeline, 0, batches, scaler)
        if average is not None:
            average.update(0)

    return go


def main() -> None:
    options = common.options(__doc__ or "")
    quick = options.quick
    warnings.simplefilter("ignore")
    rows = []
    variants: list[tuple[str, str, list[str]]] = [(name, name, []) for name in options.only]
    if "tcfl" in options.only:
        variants.append(("tcfl", "tcfl, batched passes", ["pipeline.batch_passes=true"]))
    for name, label, more in variants:
        seconds = measured(name, more, rounds=1 if quick else 3 if name == "spectroformer" else 7)
        gains = [common.times_faster(seconds["published"], seconds[way]) for way in ("planar", "ours")]
        rows.append([label, *(f"{1e3 * common.middle(seconds[way]):.1f}" for way in ("published", "planar", "ours")),
                     common.spread(seconds["ours"]), *(f"{gain:.2f}" for gain in gains)])
    common.table(["method", "as published, ms", "ours planar, ms", "ours, ms", "spread", "planar: times as fast",
                  "ours: times as fast"], rows)


def measured(name: str, more: list[str], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way to take one method's step: published, ours without channels-last, ours as configured."""
    side = common.SIDE.get(name, 64)
    with common.temporary() as folder:
        root = common.shards(Path(folder), side=side, **common.colours(name))

        def config(*words: str) -> RunConfig:
            return common.configured(name, root, *common.SMALL[name], f"data.crop={side}", "data.batch_size=4",
                                     "loop.accumulate=1", *words)

        rivals: dict[str, Callable[[], Callable[[], object]]] = {
            "published": lambda: published.step(config()), "ours": lambda: ours(config(*more))}
        if config().loop.channels_last:
            rivals["planar"] = lambda: ours(config(*more, "loop.channels_last=false"))
        seconds = common.in_turns_apart(rivals, rounds=rounds)
        return {"planar": seconds["ours"], **seconds}


if __name__ == "__main__":
    main()
