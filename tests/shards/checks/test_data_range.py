"""A declared data range is compared with the values: what contradicts it, and what does not."""

import numpy as np
import pytest

from quell.shards.checks.data_range import contradiction, propose, span_of

RANDOM = np.random.default_rng(0)
SMOOTH = np.kron(RANDOM.random((8, 8)), np.ones((8, 8)))
"""An image in [0, 1]."""


def whole(most: int, dtype: str) -> np.ndarray:
    """The image as whole numbers up to `most`."""
    return np.rint(SMOOTH / SMOOTH.max() * most).astype(dtype)


CONTRADICTIONS = {
    "uint8 with 255": (whole(255, "u1"), 255.0, "uint8 images are divided by 255", 1.0),
    "uint16 with 4095": (whole(4000, "u2"), 4095.0, "uint16 images are divided by 65,535", 4095 / 65535),
    "uint16 with 65535": (whole(65000, "u2"), 65535.0, "divided by 65,535", 1.0),
    "12 bits in uint16": (whole(4095, "u2"), 1.0, "stored values up to 4,095), 16 times less", 4095 / 65535),
    "10 bits in uint16": (whole(900, "u2"), 1.0, "stored values up to 900", 1023 / 65535),
    "14 bits in uint16": (whole(16383, "u2"), 1.0, "stored values up to 16,383", 16383 / 65535),
    "12 bits in int16": (whole(4000, "i2"), 32767.0, "no value exceeds 4000", 4095.0),
    "floats of thousands": ((SMOOTH * 4000).astype("f4"), 1.0, "usually reach 39", 4000.0),
    "floats to 255": (whole(255, "f4"), 1.0, "usually reach 25", 255.0),
    "floats to 1 with 255": (SMOOTH.astype("f4"), 255.0, "no value exceeds 0.99", 1.0),
    "Hounsfield units": ((SMOOTH * 2500 - 1000).astype("f4"), 1.0, "signed", 2500.0),
    "scaled Hounsfield units": ((SMOOTH * 2.5 - 1.01).astype("f4"), 1.0, "signed", 2.5),
    "-1 to 1": ((SMOOTH * 2 - 1).astype("f4"), 1.0, "signed", 2.0),
    "complex": ((300 * SMOOTH * 1j).astype("c8"), 1.0, "usually reach 29", 300.0),
    "colour": (np.stack([whole(255, "f4")] * 3, axis=2), 1.0, "usually reach 25", 255.0),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions_are_named_with_numbers_and_the_proposal_is_none(case: str) -> None:
    image, declared, text, proposed = CONTRADICTIONS[case]
    spans = [span_of(image), span_of(image)]
    problem = contradiction(declared, spans)
    assert problem is not None and text in problem, problem
    proposal = propose(spans)
    assert proposal is not None and proposal.value == pytest.approx(proposed, rel=0.03)
    assert contradiction(proposal.value, spans) is None


@pytest.mark.parametrize(
    ("image", "declared"),
    [
        (whole(255, "u1"), 1.0),
        (whole(40, "u1"), 1.0),  # a dark photograph
        (whole(65535, "u2"), 1.0),
        (whole(30000, "u2"), 1.0),
        (whole(4095, "u2"), 4095 / 65535),
        ((SMOOTH + 0.3 * RANDOM.standard_normal(SMOOTH.shape)).astype("f4"), 1.0),
        ((SMOOTH * 0 + 0.5 * RANDOM.standard_normal(SMOOTH.shape)).astype("f4"), 1.0),  # noise alone
        ((SMOOTH * 1.8).astype("f4"), 1.0),  # divided by a percentile
        ((SMOOTH * 0.1).astype("f4"), 1.0),
        ((SMOOTH * 2 - 1).astype("f4"), 2.0),
        ((SMOOTH * 1400 - 1000).astype("f4"), 4095.0),
        ((SMOOTH * (1 + 1j) + 0.1).astype("c8"), 1.0),
        (np.zeros((20, 20), "f4"), 1.0),
    ],
)
def test_sensible_ranges_are_kept(image: np.ndarray, declared: float) -> None:
    assert contradiction(declared, [span_of(image)]) is None


def test_one_bright_image_among_many_is_no_contradiction_and_normalised_ones_may_be_dark() -> None:
    dark, bright = span_of((SMOOTH * 0.5).astype("f4")), span_of((SMOOTH * 5).astype("f4"))
    assert contradiction(1.0, [dark, dark, bright]) is None
    faint = [span_of((SMOOTH * 0.01).astype("f4"))]
    assert contradiction(1.0, faint) is not None and contradiction(1.0, faint, is_normalised=True) is None
    assert propose([]) is None and propose([span_of(np.ones((9, 9)))]) is None
