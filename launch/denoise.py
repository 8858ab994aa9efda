"""Restore images with a trained run: npy, npz, h5, png and tif, in and out, large ones in tiles.

`launch/denoise.py --run runs/NAME noisy1.png noisy2.npy --output restored/`; a method that reads several images takes
`pd=FILE,pdfs=FILE`, or one npz or h5 file that holds arrays of these names. What dtypes become is in
launch/inference/file_formats.py and launch/inference/restorer.py.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a script: the folder on the path must be the project's, not launch/
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from configs.support import paths
from configs.support.arguments import whole
from launch import cli
from launch.inference import file_formats


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, restore, write; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--run", required=True, metavar="DIR", help="run folder, or one checkpoint folder inside it")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="FILE, or field=FILE,field=FILE")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="which checkpoint of the run")
    parser.add_argument("--tile", type=whole(0), default=256, metavar="PX", help="tile size; 0 restores whole images")
    parser.add_argument("--overlap", type=whole(0), default=32, metavar="PX", help="pixels neighbouring tiles share")
    parser.add_argument("--batch", type=whole(1), default=4, metavar="N", help="tiles restored together")
    parser.add_argument("--format", choices=("same", "npy", "png", "tif"), default="same", help="what files to write")
    options = cli.parse(parser, arguments)
    return cli.run(lambda: denoise(options))


def denoise(options: argparse.Namespace) -> int:
    """Restore every input; the files written are printed. Raises a QuellError at the first input that cannot be."""
    from launch.inference import inputs
    from launch.inference import restorer as restoring
    from launch.machine import memory_layout  # torch is slow to import: not before the arguments are right

    run, folder = paths.resolve(options.run), Path(options.output)
    tiles = restoring.Tiles(options.tile, options.overlap, options.batch)
    asked = [inputs.parse(text) for text in options.inputs]
    targets = inputs.Targets(folder, options.format, [file for one in asked for file in one.files.values()])
    restorer = restoring.Restorer(run, which=options.which, tiles=tiles)
    if restorer.device.type == "cpu":
        memory_layout.keep_freed_memory()
    for one in asked:
        images = {field: file_formats.read(file) for field, file in one.files.items()}
        top = 0.0
        for job, arrays in inputs.jobs(one, images, restorer.fields, restorer.restored):
            top = max([top, *(float(np.abs(noisy).max()) for noisy in arrays.values())])
            restored = restorer.restore(arrays, one.text + (f": {job}" if job else ""))
            targets.add(one, job, {name: (restorer.outputs[name].noisy, array) for name, array in restored.items()})
        for file in targets.write(colour=restorer.colour, top=top or 1.0):
            print(file, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
