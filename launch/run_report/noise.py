"""The noise of the page: what was found in the training images, and whether the method suits it."""

import numpy as np
from numpy.typing import NDArray

from quell.configs.errors import QuellError
from quell.configs.schema import RunConfig
from quell.configs.support.paths import resolve
from quell.launch.evaluation.known_noise import describe
from quell.launch.run_report.html import Html, element, table
from quell.launch.run_report.pictures import data_uri, reduced
from quell.launch.runs.folder import RunFolder
from quell.losses.noise.model import FieldNoise, NoiseModel
from quell.losses.noise.verdicts import verdict

LAG = 2
"""Largest lag of the table of correlations, in pixels."""
SPECTRUM_PX, MAP_PX = 96, 96
DECIBELS = (-20.0, 10.0)
"""Power that is black and white in the picture of a spectrum, relative to its mean."""


def content(folder: RunFolder, config: RunConfig) -> list[Html]:
    """The section's content: a verdict, and a picture of each field's noise."""
    model = noise_model(folder, config)
    if model is None:
        remedy = f"quell noise {config.data.root}"
        return [element("p", "The noise was not measured. ", element("code", remedy), " looks at the training images.")]
    judged = verdict(config.pipeline.name, model)
    fits = judged.status == "fits"
    sentence = f"{config.pipeline.name} {judged.status}: {judged.reason}." + (
        f" What to do: {judged.remedy}." if judged.remedy else ""
    )
    shown = element("p", sentence, class_=f"verdict {'ok' if fits else 'problem'}")
    return [
        element("p", f"Known from: {model.source}. Levels are in stored units."),
        shown,
        *(_field(name, noise) for name, noise in model.fields.items()),
    ]


def noise_model(folder: RunFolder, config: RunConfig) -> NoiseModel | None:
    """What the run saved of its noise, else what the audit of its data found; None where there is neither."""
    files = [folder.noise]
    if "://" not in config.data.root:
        files.append(resolve(config.data.root) / "noise.npz")
    for file in files:
        if file.is_file():
            try:
                return NoiseModel.load(file)
            except QuellError:
                continue
    return None


def _field(name: str, noise: FieldNoise) -> Html:
    summary = element("h3", name), element("p", describe(noise) + ".")
    if noise.kind == "white":  # nothing to see: all frequencies alike, no correlation, one level
        return element("div", *summary, class_="field")
    power = np.fft.fftshift(noise.spectrum_at(SPECTRUM_PX, SPECTRUM_PX))
    low, high = DECIBELS
    decibels = 10 * np.log10(np.maximum(power / power.mean(), 1e-3))
    spectrum = (np.clip((decibels - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)
    pictures = [_picture(spectrum, f"power spectrum of {name}, {low:g} to {high:+g} dB")]
    if noise.level_map is not None:
        levels = reduced(noise.map_at(MAP_PX, MAP_PX), MAP_PX)
        grey = (255 * levels / max(float(levels.max()), 1e-300)).round().astype(np.uint8)
        pictures.append(_picture(grey, f"level over the image, 0 to {levels.max():.3g}"))
    rows = []
    for down in range(-LAG, LAG + 1):
        row: dict[str, Html | str] = {"pixels down": str(down)}
        row |= {str(across): _cell(noise.correlation(down, across)) for across in range(-LAG, LAG + 1)}
        rows.append(row)
    correlations = table(rows, caption=f"Correlation of the noise of {name} by distance in pixels, across and down")
    return element("div", *summary, element("div", *pictures, correlations, class_="side"), class_="field")


def _picture(pixels: NDArray[np.uint8], caption: str) -> Html:
    image = element("img", src=data_uri(pixels), alt=caption, width=pixels.shape[1] * 2, height=pixels.shape[0] * 2)
    return element("figure", image, element("figcaption", caption), class_="picture")


def _cell(value: float) -> Html:
    """A number on a background that is stronger the larger it is."""
    side = "plus" if value > 0 else "minus"
    return element("span", f"{value:.2f}", class_=f"heat {side}", style=f"--strength:{min(abs(value), 1):.2f}")
