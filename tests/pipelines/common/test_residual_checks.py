"""Residual checks on batches: units, fields, channels and verdicts."""

import numpy as np
import pytest
import torch

from quell.configs.fields import FieldSpec
from quell.losses.noise.model import FieldNoise
from quell.pipelines.common import residual_checks
from tests.support.images import normal_image

SIGMA = 20.0
"""In stored units; the batch is normalised by 100."""
NOISE = {"pd": FieldNoise(SIGMA)}


def batch(channels: int = 1, count: int = 2) -> dict[str, torch.Tensor]:
    noise = normal_image(count, channels, 96, 96, seed=4)
    return {"pd": 0.5 + SIGMA / 100 * noise, "pd_scale": torch.full((count, 1, 1, 1), 100.0)}


def test_the_truth_passes_in_the_units_of_the_batch() -> None:
    made = batch()
    result = residual_checks.diagnostics(made, {"pd": torch.full_like(made["pd"], 0.5)}, NOISE, {"pd": FieldSpec(1)})
    assert set(result) == {f"residual_{name}" for name in ("removed", "excess", "missing", "structure", "added")}
    assert all(value.shape == (2,) for value in result.values())
    np.testing.assert_allclose(result["residual_removed"], 1, atol=0.05)
    assert all(finding.ok for finding in residual_checks.findings({k: float(v.mean()) for k, v in result.items()}))


@pytest.mark.parametrize("spec", [FieldSpec(2, "ri"), FieldSpec(2)])
def test_two_channels_are_two_planes_or_one_complex_image(spec: FieldSpec) -> None:
    made = batch(channels=2)
    result = residual_checks.diagnostics(made, {"pd": torch.full_like(made["pd"], 0.5)}, NOISE, {"pd": spec})
    np.testing.assert_allclose(result["residual_removed"], 1, atol=0.05)


def test_doing_nothing_is_a_finding_with_a_remedy() -> None:
    made = batch()
    result = residual_checks.diagnostics(made, {"pd": made["pd"]}, NOISE, {"pd": FieldSpec(1)})
    failed = [f for f in residual_checks.findings({k: float(v.mean()) for k, v in result.items()}) if not f.ok]
    assert [finding.name for finding in failed] == ["residual_missing"]
    assert "1.00 of the noise's power is left in the result" in failed[0].message


def test_what_was_not_measured_has_no_verdict() -> None:
    assert residual_checks.findings({}) == []
