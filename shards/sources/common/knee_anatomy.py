"""Random knee-like anatomy: the fraction of each tissue in every pixel, different for every draw.

A sagittal knee in the square [-1, 1]^2, x from anterior to posterior, y from thigh to shank: femur and tibia with
marrow, cortex and cartilage, menisci, fluid, patella and its tendon, fat pad, muscle, vessels, subcutaneous fat.
Lengths are in these coordinates. Shapes are given by approximate signed distances, negative inside.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quell.shards.sources.common.smooth_fields import smooth_fields

Image = NDArray[np.float64]
Point = Sequence[float] | Image
"""Two numbers, along x and y."""

TISSUES = ("air", "fat", "muscle", "marrow", "cortex", "cartilage", "meniscus", "tendon", "fluid", "oedema")


class Paint(Protocol):
    """A function that paints a tissue over those that were painted before."""

    def __call__(self, tissue: str, distance: Image, amount: float = 1.0) -> None:
        """Replace the fraction `amount` of what is there by the tissue, wherever `distance` is negative."""


def fractions(random: np.random.Generator, size: int) -> Image:
    """Tissue fractions (len(TISSUES), size, size) of a random knee; they sum to one in every pixel."""
    x, y = _coordinates(random, size)
    edge_width = 1.6 / size
    parts = np.zeros((len(TISSUES), size, size))
    parts[0] = 1.0

    def paint(tissue: str, distance: Image, amount: float = 1.0) -> None:
        """See Paint; the edge of a shape is about a pixel wide."""
        cover = amount / (1 + np.exp(np.clip(distance / edge_width, -40, 40)))
        np.multiply(parts, 1 - cover, out=parts)
        parts[TISSUES.index(tissue)] += cover

    _leg(random, x, y, paint)
    _joint(random, x, y, paint)
    return parts


def _coordinates(random: np.random.Generator, size: int) -> tuple[Image, Image]:
    """Coordinates (x, y) of each pixel in the knee, after random rotation, scaling, mirroring and smooth bending."""
    line = (np.arange(size) + 0.5) / size * 2 - 1
    grid_y, grid_x = np.meshgrid(line, line, indexing="ij")
    bend = smooth_fields(random, size, 2) * random.uniform(0.02, 0.045)
    angle, stretch = random.uniform(-0.25, 0.25), random.uniform(0.88, 1.15, 2)
    side = 1.0 if random.random() < 0.5 else -1.0
    x = side * (np.cos(angle) * grid_x + np.sin(angle) * grid_y) * stretch[0] + bend[0] + random.uniform(-0.1, 0.1)
    y = (-np.sin(angle) * grid_x + np.cos(angle) * grid_y) * stretch[1] + bend[1] + random.uniform(-0.1, 0.1)
    return x, y


def _leg(random: np.random.Generator, x: Image, y: Image, paint: Paint) -> None:
    """Paint subcutaneous fat, muscle with fat between its bellies, and vessels."""
    thickness = random.uniform(0.05, 0.14)
    outline = np.abs(x - 0.02) - (0.86 - 0.07 * np.cos(np.pi * y))
    paint("fat", outline)
    paint("muscle", outline + thickness)
    for _ in range(random.integers(3, 7)):
        slope, offset = random.uniform(-0.3, 0.3), random.uniform(-0.6, 0.75)
        paint("fat", np.maximum(np.abs(x - offset - slope * y) - random.uniform(0.008, 0.02), outline + thickness))
    for _ in range(random.integers(1, 4)):
        centre = random.uniform((0.5, -0.8), (0.7, 0.8))
        paint("fluid", _ellipse(x, y, centre, random.uniform((0.02, 0.04), (0.04, 0.12))), random.uniform(0.3, 0.9))


def _joint(random: np.random.Generator, x: Image, y: Image, paint: Paint) -> None:
    """Paint the bones, and what is between them and in front of them."""
    width, gap = random.uniform(0.32, 0.42), random.uniform(0.05, 0.08)
    cartilage = random.uniform(0.03, 0.055)
    femur = np.minimum(_ellipse(x, y, (0.03, -0.25), (width, 0.3)), _box(x, y, (-0.02, -0.75), (0.2, 0.6)))
    top = 0.05 + 2 * cartilage + gap
    tibia = np.minimum(
        _box(x, y, (0.02, top + 0.14), (width - 0.02, 0.14)), _box(x, y, (0.02, top + 0.7), (0.19, 0.65))
    )
    joint_space = np.maximum(np.abs(y - top / 2 - 0.02) - 0.13, np.abs(x - 0.03) - width)
    paint("fat", _ellipse(x, y, (-0.44, 0.1), (0.17, 0.24)))
    paint("fluid", joint_space, random.uniform(0.6, 1.0))
    paint("fluid", _ellipse(x, y, (-0.32, -0.62), (random.uniform(0.03, 0.09), 0.2)), random.uniform(0.4, 1.0))
    for side in (-1, 1):
        rim = (0.03 + side * (width - 0.1), top - 0.03)
        paint("meniscus", np.maximum(_ellipse(x, y, rim, (random.uniform(0.1, 0.16), 0.065)), -femur))
    ligament = x - 0.05 - random.uniform(0.3, 0.8) * (y - 0.05)
    paint("tendon", np.maximum(np.abs(ligament) - 0.025, joint_space))
    paint("cartilage", np.maximum(femur - cartilage, -y - 0.3))
    paint("cartilage", np.maximum(tibia - cartilage, y - top - 0.1))
    patella = _ellipse(x, y, (-0.58, -0.28), (random.uniform(0.08, 0.11), random.uniform(0.16, 0.22)))
    paint("cartilage", np.maximum(patella - cartilage, -x - 0.58))
    paint("tendon", np.maximum(np.abs(x + 0.6 - 0.12 * y) - 0.028, np.abs(y - 0.02) - 0.42))
    for bone in (femur, tibia, patella):
        paint("cortex", bone)
        paint("marrow", bone + random.uniform(0.012, 0.022))
    for _ in range(random.integers(0, 3)):
        centre = random.uniform((-0.2, -0.5), (0.25, 0.6))
        lesion = _ellipse(x, y, centre, random.uniform((0.04, 0.04), (0.14, 0.14)))
        paint("oedema", np.maximum(lesion, np.minimum(femur, tibia) + 0.03), random.uniform(0.3, 0.9))


def _ellipse(x: Image, y: Image, centre: Point, radii: Point) -> Image:
    """The approximate signed distance to an ellipse."""
    radius = np.sqrt(((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2)
    return np.asarray((radius - 1) * min(radii[0], radii[1]))


def _box(x: Image, y: Image, centre: tuple[float, float], half: tuple[float, float]) -> Image:
    """The approximate signed distance to a box with rounded corners; `half` is half its width and height."""
    corner = 0.08
    outside_x, outside_y = np.abs(x - centre[0]) - half[0] + corner, np.abs(y - centre[1]) - half[1] + corner
    outside = np.hypot(np.maximum(outside_x, 0), np.maximum(outside_y, 0))
    return outside + np.minimum(np.maximum(outside_x, outside_y), 0) - corner
