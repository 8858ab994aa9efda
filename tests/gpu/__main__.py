"""Rehearse every configuration and variant on the fake device, in this process.

python -m tests.gpu --precision bf16 --results FILE    write what was seen as JSON
python -m tests.gpu --record                           renew launches.json, the bound on what a step launches
"""

# The device has to be registered before torch is imported, hence the imports inside of functions.
import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.gpu import fake_cuda

PER_CHILD = 10
"""Rehearsals in one process; the first takes a second longer."""

LAUNCHES = Path(__file__).with_name("launches.json")
"""Operators of a step that launch a kernel, by precision and name."""


def main() -> None:
    """Parse the command line, rehearse, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=("no", "bf16", "fp16"), default="bf16")
    parser.add_argument("--results", type=Path, help="file to write")
    parser.add_argument("--record", action="store_true", help="renew the bounds, in all precisions")
    parser.add_argument("--only", action="append", help="rehearse this one only; may be repeated")
    args = parser.parse_args()
    fake_cuda.load_device()
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    fake_cuda.claim_device()
    with tempfile.TemporaryDirectory() as folder:
        if args.record:
            recorded = {}
            for precision in ("no", "bf16", "fp16"):
                seen = rehearse_all(precision, Path(folder), lambda name: True)
                recorded[precision] = {name: result["launches"] for name, result in sorted(seen.items())}
            LAUNCHES.write_text(json.dumps(recorded, indent=1) + "\n")
        else:
            seen = rehearse_all(args.precision, Path(folder), lambda name: not args.only or name in args.only)
            content = json.dumps({"rehearsals": seen, "faults": dict(notice_faults())}, indent=1)
            if args.results is None:
                print(content)
            else:
                args.results.write_text(content)
    sys.stdout.flush()
    os._exit(0)  # the device is not made to be unloaded


def rehearse_all(precision: str, folder: Path, is_wanted: Callable[[str], bool]) -> dict[str, dict[str, Any]]:
    """What was seen of everything, by name; an error is a problem like any other.

    Child processes rehearse a few each, for after some dozens torch crashes in one process: it was not made for fake
    tensors on a device that exists. What a crashed child had left is rehearsed once more, alone.
    """
    from quell.launch.proof.small_configs import write_roots
    from tests.gpu import variants

    roots = write_roots(folder / f"shards-{precision}", variants.IMAGE_SHAPE, repeats=True)
    wanted = {name: settings for name, settings in variants.all_settings().items() if is_wanted(name)}

    def rehearse_one(name: str) -> dict[str, Any]:
        from tests.gpu.rehearsal import rehearse

        try:
            rehearsal = rehearse(variants.configured(wanted[name], roots, name, precision), folder / "run")
            return asdict(rehearsal)
        except Exception as error:  # of any kind, and the others are still to be seen
            return {"problems": [f"{type(error).__name__}: {error}"], "launches": 0, "kernels": []}

    seen: dict[str, dict[str, Any]] = {}
    names = list(wanted)
    for first in range(0, len(names), PER_CHILD):
        seen |= in_child(rehearse_one, names[first : first + PER_CHILD])
    for name in names:
        if name not in seen:
            seen |= in_child(rehearse_one, [name])
        seen.setdefault(name, {"problems": ["the process crashed twice"], "launches": 0, "kernels": []})
    return seen


def in_child(work: Callable[[str], dict[str, Any]], names: list[str]) -> dict[str, dict[str, Any]]:
    """The results of `work` for each name, from a child process; without those that a crash prevented."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as lines:
            for name in names:
                lines.write(json.dumps({name: work(name)}) + "\n")
                lines.flush()
        os._exit(0)  # the device is not made to be unloaded
    os.close(writer)
    with os.fdopen(reader) as lines:
        results: dict[str, dict[str, Any]] = {}
        for line in lines:
            results |= json.loads(line)
    os.waitpid(child, 0)
    return results


def notice_faults() -> Iterator[tuple[str, list[str]]]:
    """What the observer reports of each fault."""
    import torch

    from quell.launch.machine import arithmetic
    from tests.gpu.faults import FAULTS
    from tests.gpu.operators import Observer

    arithmetic.set_determinism(True)
    for name, (_, do) in FAULTS.items():
        observer = Observer()
        with fake_cuda.fake_mode():
            x = torch.ones(2, 3, 8, 8, device="cuda", requires_grad=True)
            with observer, observer.step():
                try:
                    do(x)
                except Exception as error:
                    observer.report(str(error))
        yield name, list(observer.problems)


if __name__ == "__main__":
    main()
