"""A training step of each method: the launcher's, against a plain loop written as the publication describes it.

Both train the same networks with the same weights, batches and losses, on one thread each, alternating step by step.
Each has a process of its own, as a user's script would: process-wide settings of the launcher (how freed memory is
kept) must not speed up the plain loop.
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from benchmarks.support import common, published
from quell.configs.schema import RunConfig
from quell.launch.machine import acceleration, memory_layout
from quell.launch.training.ema import Average

FULL_WIDTH = {"cross_guided": ["loop.precision=no"], "drgan": ["pipeline.noise_patch_px=32"]}
"""Overrides with which a configuration trains on a CPU, at full width and with images of 64 px."""


def our_step(config: RunConfig) -> Callable[[], object]:
    """The launcher's step, with the moving average of the weights if the configuration has one."""
    step = common.TrainingStep.build(config, acceleration.make_accelerator(config.loop))
    average = Average(step.pipeline, config.loop.ema_decay) if config.loop.ema_decay else None

    def run() -> None:
        step()
        if average is not None:
            average.update(0)

    return run


def main() -> None:
    options = common.parse_options(__doc__ or "", full_width="networks at full width; takes minutes")
    warnings.simplefilter("ignore")
    variants: list[tuple[str, str, list[str]]] = [(name, name, []) for name in options.only]
    if "tcfl" in options.only and not options.full_width:
        variants.append(("tcfl", "tcfl, batched passes", ["pipeline.batch_passes=true"]))
    rows = []
    for name, label, overrides in variants:
        if options.full_width and name == "spectroformer":
            continue  # has only one width: it is in the other table
        rounds = 1 if options.quick else 3 if options.full_width or name == "spectroformer" else 7
        used_layout, seconds = time_layouts(name, overrides, full_width=options.full_width, rounds=rounds)
        row = [label, f"{1e3 * common.median(seconds['published']):.0f}"]
        for layout in ("NCHW", "channels-last"):
            if layout not in seconds:
                row += ["", "", ""]
                continue
            mark = ", used" if layout == used_layout else ""
            row += [
                f"{1e3 * common.median(seconds[layout]):.0f}",
                common.spread(seconds[layout]),
                f"{common.speedup(seconds['published'], seconds[layout]):.2f}{mark}",
            ]
        rows.append(row)
    common.print_table(
        [
            "method",
            "as published, ms",
            "NCHW, ms",
            "spread",
            "speed-up",
            "channels-last, ms",
            "spread",
            "speed-up",
        ],
        rows,
    )


def time_layouts(
    name: str, overrides: list[str], *, full_width: bool, rounds: int
) -> tuple[str, dict[str, list[float]]]:
    """Time one method's step as published, and the launcher's in both memory layouts.

    Returns:
        The layout that a run would use, and the seconds of each candidate in each round.
    """
    side, batch = (64, 2) if full_width else (common.SIDE_PX.get(name, 64), 4)
    widths = FULL_WIDTH.get(name, []) if full_width else common.SMALL[name]
    with common.temporary_folder() as folder:
        root = common.write_shards(Path(folder), side=side, **common.image_kind(name))

        def config(*more: str) -> RunConfig:
            return common.load_config(
                name, root, *widths, f"data.crop={side}", f"data.batch_size={batch}", "loop.accumulate=1", *more
            )

        pipeline, _ = common.build_first_step(config())
        channels_last = memory_layout.takes_channels_last(pipeline, torch.device("cpu"), config().loop)
        candidates: dict[str, Callable[[], Callable[[], object]]] = {
            "published": lambda: published.step(config()),
            "NCHW": lambda: our_step(config(*overrides, "loop.channels_last=false")),
        }
        if config().loop.channels_last is not False:
            candidates["channels-last"] = lambda: our_step(config(*overrides, "loop.channels_last=true"))
        return "channels-last" if channels_last else "NCHW", common.time_in_processes(candidates, rounds=rounds)


if __name__ == "__main__":
    main()
