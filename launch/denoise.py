"""Restore images with a trained run: npy, npz, h5, png and tif files in and out, large images in tiles.

`launch/denoise.py --run runs/NAME noisy1.png noisy2.npy --output restored/`; a method that reads several fields takes
`pd=FILE,pdfs=FILE`, or one npz or h5 file with arrays of these names. launch/inference/file_formats.py and
launch/inference/restorer.py say which data types are written.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a script: the folder on the path must be the project's, not launch/
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from configs.support import paths
from configs.support.arguments import whole_number
from launch import cli
from launch.inference import file_formats


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, restore, write; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--run", required=True, metavar="DIR", help="run folder, or one checkpoint folder inside it")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="FILE, or field=FILE,field=FILE")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="which checkpoint of the run")
    parser.add_argument(
        "--tile", type=whole_number(0), default=256, metavar="PX", help="tile size; 0 restores full images"
    )
    parser.add_argument(
        "--overlap", type=whole_number(0), default=32, metavar="PX", help="pixels that neighbouring tiles share"
    )
    parser.add_argument("--batch", type=whole_number(1), default=4, metavar="N", help="tiles restored together")
    parser.add_argument(
        "--format", choices=("same", "npy", "png", "tif"), default="same", help="format of the files written"
    )
    options = cli.parse(parser, arguments)
    return cli.run(lambda: denoise(options))


def denoise(options: argparse.Namespace) -> int:
    """Restore every input and print the files written; a QuellError ends it at the first input that fails."""
    # torch is slow to import: not before the arguments are known to be valid
    from launch.inference.inputs import OutputWriter, RestoredImage, parse_input, restoration_jobs
    from launch.inference.restorer import Restorer, Tiles
    from launch.machine import memory_layout

    run, folder = paths.resolve(options.run), Path(options.output)
    tiles = Tiles(options.tile, options.overlap, options.batch)
    inputs = [parse_input(text) for text in options.inputs]
    writer = OutputWriter(folder, options.format, [file for given in inputs for file in given.files.values()])
    restorer = Restorer(run, which=options.which, tiles=tiles)
    if restorer.device.type == "cpu":
        memory_layout.keep_freed_memory()
    for given in inputs:
        contents = {field: file_formats.read(file) for field, file in given.files.items()}
        maximum = 0.0
        for job, arrays in restoration_jobs(given, contents, restorer.input_fields, restorer.restored_fields):
            maximum = max([maximum, *(float(np.abs(noisy).max()) for noisy in arrays.values())])
            restored = restorer.restore(arrays, given.text + (f": {job}" if job else ""))
            results = {name: RestoredImage(restorer.outputs[name].noisy, array) for name, array in restored.items()}
            writer.add(given, job, results)
        for file in writer.write(colour=restorer.colour, white=maximum or 1.0):
            print(file, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
