"""Training steps with `loop.compile=true`, against the same steps without it.

Not part of `make bench`: compiling takes minutes on one CPU thread.
"""

import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from benchmarks.method_steps import our_step
from benchmarks.support import common
from quell.configs.schema import RunConfig


def compiled_step(config: RunConfig) -> Callable[[], object]:
    """The compiled step, after its first call; prints how long that took."""
    start = time.perf_counter()
    step = our_step(config)
    step()
    print(f"{config.pipeline.name}: first step after {time.perf_counter() - start:.0f} s", flush=True)
    return step


def main() -> None:
    options = common.parse_options(__doc__ or "")
    warnings.simplefilter("ignore")
    rows = []
    for name in options.only:
        side = common.SIDE_PX.get(name, 64)
        with common.temporary_folder() as folder:
            root = common.write_shards(Path(folder), side=side, **common.image_kind(name))
            settings = (*common.SMALL[name], f"data.crop={side}", "data.batch_size=4", "loop.accumulate=1")
            plain, compiled = (common.load_config(name, root, *settings, *more) for more in ([], ["loop.compile=true"]))
            candidates = {"plain": partial(our_step, plain), "compiled": partial(compiled_step, compiled)}
            seconds = common.time_in_processes(candidates, rounds=1 if options.quick else 9)
        milliseconds = [f"{1e3 * common.median(seconds[variant]):.1f}" for variant in candidates]
        rows.append([name, *milliseconds, f"{common.speedup(seconds['plain'], seconds['compiled']):.2f}"])
    common.print_table(["method", "plain, ms", "compiled, ms", "speed-up"], rows)


if __name__ == "__main__":
    main()
