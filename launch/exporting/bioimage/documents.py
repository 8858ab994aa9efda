"""What people read and see of a package: its documentation and its cover."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from quell.launch.exporting.program.restoration import RestorationProgram
from quell.launch.exporting.writing.samples import Sample
from quell.launch.inference.restorer import Restorer

COVER_PX = 512
"""Side of each of the two images on the cover."""


def write_cover(file: Path, sample: Sample, restored: Mapping[str, np.ndarray], program: RestorationProgram) -> None:
    """The test image before and after, side by side."""
    port = program.outputs[0]
    noisy = _grey_or_colour(sample.images[port.field])
    low, high = np.percentile(noisy, [0.5, 99.5])
    halves = [_square(image, low, high) for image in (noisy, _grey_or_colour(restored[port.name]))]
    Image.fromarray(np.concatenate(halves, axis=1)).save(file)


def readme(record: Mapping[str, Any], restorer: Restorer) -> str:
    """The documentation, from what the manifest knows."""
    images = "\n".join(f"- `{each['name']}`: {_shape(each)}, {each['channels']}" for each in record["inputs"])
    outputs = "\n".join(
        f"- `{each['file_name']}`: {_shape(each)}, in the units of `{each['in_the_units_of']}`"
        for each in record["outputs"]
    )
    parity = record["parity"]
    ranges = "\n".join(
        f"- `{each['field']}`: {each['low']:.3g} to {each['high']:.3g}"
        for each in ({**(each["training_images"] or {}), "field": each["name"]} for each in record["inputs"])
        if "low" in each
    )
    noise = "\n".join(
        f"- `{name}`: standard deviation {each['sigma']:.3g}, {each['kind']}"
        for name, each in (record["noise_found_in_training_images"] or record["noise_assumed"]).items()
    )
    return f"""# {record["run"]}

Restores noisy images with the method `{record["method"]}`, trained by Quell {record["quell"]}. The whole restoration is
in the weights: no normalisation, padding or other processing belongs before or after them.

## Inputs

{images}

Values are in stored units: {record["units"]["stored_units"]}.

Range of the training images (0.1th to 99.9th percentile):

{ranges or "- not recorded"}

Noise of the training images:

{noise or "- not recorded"}

Images whose noise differs from it keep noise or lose detail.

## Outputs

{outputs}

Random numbers: {record["random_numbers"]}.

## Large images

{record["tiles"]["advice"]} Quell takes tiles of {record["tiles"]["size_px"]} px that overlap by
{record["tiles"]["overlap_px"]} px.

## Validation

Compared with `quell denoise` on {parity["compared_on"]}, the weights differ by at most
{parity["max_relative_error"]:.2g} of the range of an image. On your own data, compare restored images with clean ones
or with repeated measurements before you rely on them.
"""


def _shape(described: Mapping[str, Any]) -> str:
    return f"({', '.join(map(str, described['shape']))}) {described['dtype']}"


def _grey_or_colour(image: np.ndarray) -> np.ndarray:
    real = np.abs(image) if np.iscomplexobj(image) else image
    return real if real.ndim == 2 or real.shape[-1] == 3 else real[..., 0]


def _square(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """The centre of an image as 8-bit RGB."""
    side = min(image.shape[:2])
    top, left = ((size - side) // 2 for size in image.shape[:2])
    shown = np.clip((image[top : top + side, left : left + side] - low) / max(high - low, 1e-12), 0, 1)
    picture = Image.fromarray(np.uint8(np.rint(255 * shown))).convert("RGB")
    return np.asarray(picture.resize((COVER_PX, COVER_PX), Image.Resampling.NEAREST))
