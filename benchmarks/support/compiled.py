"""Our step with each network under `torch.compile`, against the same without: what a step gains, what compiling takes.

Not part of `make bench`: compiling takes minutes on one CPU thread.
"""

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])


from benchmarks.method_steps import ours
from benchmarks.support import common
from configs.schema import RunConfig
from pipelines.base import Batch, Pipeline

built = common.built


def compiled(config: RunConfig) -> tuple[Pipeline, list[Batch]]:
    """`common.built`, every network compiled for its shapes; the weights keep their names."""
    pipeline, batches = built(config)
    for part in pipeline.children():
        if any(True for _ in part.parameters()):
            part.compile(dynamic=False)
    return pipeline, batches


def fast(config: RunConfig) -> Callable[[], object]:
    """Our compiled step, warm; prints how long that took."""
    common.built = compiled
    began = time.perf_counter()
    step = ours(config)
    step()
    print(f"{config.pipeline.name}: first step after {time.perf_counter() - began:.0f} s", flush=True)
    return step


def main() -> None:
    options = common.options(__doc__ or "")
    warnings.simplefilter("ignore")
    rows = []
    for name in options.only:
        side = common.SIDE.get(name, 64)
        with common.temporary() as folder:
            root = common.shards(Path(folder), side=side, **common.colours(name))
            config = common.configured(
                name, root, *common.SMALL[name], f"data.crop={side}", "data.batch_size=4", "loop.accumulate=1"
            )
            rivals = {"plain": lambda c=config: ours(c), "compiled": lambda c=config: fast(c)}
            seconds = common.in_turns_apart(rivals, rounds=1 if options.quick else 9)
        rows.append(
            [
                name,
                *(f"{1e3 * common.middle(seconds[way]):.1f}" for way in rivals),
                f"{common.times_faster(seconds['plain'], seconds['compiled']):.2f}",
            ]
        )
    common.table(["method", "plain, ms", "compiled, ms", "times as fast"], rows)


if __name__ == "__main__":
    main()
