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

from benchmarks.support import common, published
from configs.schema import RunConfig
from launch.machine import acceleration, memory_layout
from launch.training import build
from launch.training.ema import Average
from launch.training.phases import train_step

FULL_WIDTH = {"cross_guided": ["loop.precision=no"], "drgan": ["pipeline.noise_patch_px=32"]}
"""What a configuration as shipped needs on a CPU, with images of 64 px."""


def ours(config: RunConfig) -> Callable[[], object]:
    """`launch/training/phases.py`, with the moving average of the weights where the configuration keeps one."""
    accelerator = acceleration.make_accelerator(config.loop)
    pipeline, batches = common.built(config)
    memory_layout.place(pipeline, accelerator.device, config.loop)
    phases = build.make_phases(accelerator, pipeline, config)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    average = Average(pipeline, config.loop.ema_decay) if config.loop.ema_decay else None

    def go() -> None:
        train_step(phases, pipeline, 0, batches, scaler)
        if average is not None:
            average.update(0)

    return go


def main() -> None:
    options = common.options(__doc__ or "", full_width="networks as wide as the configurations have them: minutes")
    warnings.simplefilter("ignore")
    variants: list[tuple[str, str, list[str]]] = [(name, name, []) for name in options.only]
    if "tcfl" in options.only and not options.full_width:
        variants.append(("tcfl", "tcfl, batched passes", ["pipeline.batch_passes=true"]))
    rows = []
    for name, label, more in variants:
        if options.full_width and name == "spectroformer":
            continue  # it has one width, that of the other table
        rounds = 1 if options.quick else 3 if options.full_width or name == "spectroformer" else 7
        used, seconds = measured(name, more, full_width=options.full_width, rounds=rounds)
        rows.append([label, f"{1e3 * common.middle(seconds['published']):.0f}"])
        for way in ("planar", "channels-last"):
            if way not in seconds:
                rows[-1] += ["", "", ""]
                continue
            mark = ", used" if way == used else ""
            rows[-1] += [
                f"{1e3 * common.middle(seconds[way]):.0f}",
                common.spread(seconds[way]),
                f"{common.times_faster(seconds['published'], seconds[way]):.2f}{mark}",
            ]
    common.table(
        [
            "method",
            "as published, ms",
            "planar, ms",
            "spread",
            "times as fast",
            "channels-last, ms",
            "spread",
            "times as fast",
        ],
        rows,
    )


def measured(name: str, more: list[str], *, full_width: bool, rounds: int) -> tuple[str, dict[str, list[float]]]:
    """Seconds of each way to take one method's step: published, ours in both memory orders; and which order it uses."""
    side, batch = (64, 2) if full_width else (common.SIDE.get(name, 64), 4)
    widths = FULL_WIDTH.get(name, []) if full_width else common.SMALL[name]
    with common.temporary() as folder:
        root = common.shards(Path(folder), side=side, **common.colours(name))

        def config(*words: str) -> RunConfig:
            return common.configured(
                name, root, *widths, f"data.crop={side}", f"data.batch_size={batch}", "loop.accumulate=1", *words
            )

        pipeline, _ = common.built(config())
        last = memory_layout.takes_channels_last(pipeline, torch.device("cpu"), config().loop)
        rivals: dict[str, Callable[[], Callable[[], object]]] = {
            "published": lambda: published.step(config()),
            "planar": lambda: ours(config(*more, "loop.channels_last=false")),
        }
        if config().loop.channels_last is not False:
            rivals["channels-last"] = lambda: ours(config(*more, "loop.channels_last=true"))
        return "channels-last" if last else "planar", common.in_turns_apart(rivals, rounds=rounds)


if __name__ == "__main__":
    main()
