"""Binomial and Gamma numbers: their distributions, and that each depends on its sample's seed and place alone."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from quell.pipelines.common.random_numbers import distributions, normals, split_mix
from quell.pipelines.common.random_numbers.distributions import Draw

COUNT = 60_000


def draw(samples: int = 2, purpose: str = "test") -> Draw:
    """What numbers of some samples are drawn from."""
    return Draw(split_mix.stream_seeds(11, torch.zeros(samples, dtype=torch.int64), torch.arange(samples)), purpose)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.85])
@pytest.mark.parametrize("trials", [0, 1, 2, 7, 33, 65, 300, 5000, 200_000])
def test_binomial_numbers_have_the_binomial_distribution(trials: int, share: float) -> None:
    drawn = distributions.binomial(draw(), torch.full((2, COUNT), float(trials)), share).numpy().ravel()
    assert np.array_equal(drawn, drawn.round()) and drawn.min() >= 0 and drawn.max() <= trials
    law = scipy.stats.binom(trials, share)
    # classes of about equal probability, at most thirty
    edges = np.unique(law.ppf(np.linspace(0.02, 0.98, 30)))
    expected = np.diff([0.0, *law.cdf(edges), 1.0]) * drawn.size
    found = np.bincount(np.searchsorted(edges, drawn), minlength=len(edges) + 1)
    assert found[expected == 0].sum() == 0
    used = expected > 0
    chi_square, classes = ((found - expected)[used] ** 2 / expected[used]).sum(), max(int(used.sum()) - 1, 1)
    assert scipy.stats.chi2.sf(chi_square, classes) > 1e-4
    assert abs(drawn.mean() - law.mean()) <= 4.5 * law.std() / math.sqrt(drawn.size) + 1e-6 * trials


@pytest.mark.parametrize("shape", [0.2, 0.5, 1.0, 1.7, 8.0, 300.0])
def test_gamma_numbers_have_the_gamma_distribution(shape: float) -> None:
    drawn = distributions.gamma(draw(), torch.zeros(2, COUNT), shape).numpy().ravel()
    assert drawn.min() >= 0 and np.isfinite(drawn).all()
    assert scipy.stats.kstest(drawn, scipy.stats.gamma(shape).cdf).pvalue > 1e-4


@pytest.mark.parametrize("law", ["few", "many", "gamma"])
def test_a_number_does_not_depend_on_what_is_drawn_with_it(law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: however many samples, in parts of whatever size, or all at once as on a GPU."""
    like = torch.arange(3 * 41 * 47).remainder(60).float().view(3, 1, 41, 47) * {"few": 0.1, "many": 90}.get(law, 1)

    def drawn(rows: slice) -> Tensor:
        own = Draw(draw(3).seeds[rows], "test")
        if law == "gamma":
            return distributions.gamma(own, like[rows], 0.7)
        return distributions.binomial(own, like[rows].round(), 0.3)

    whole = drawn(slice(None))
    assert torch.equal(drawn(slice(1, 2)), whole[1:2])
    monkeypatch.setattr(normals, "CACHED_WORDS", 256)
    assert torch.equal(drawn(slice(None)), whole)
    for module in (normals, distributions):
        monkeypatch.setattr(module, "fills_in_parts", lambda device: False)
    assert torch.equal(drawn(slice(None)), whole)


@pytest.mark.parametrize(
    "numbers",
    [
        lambda own: distributions.binomial(own, torch.full((2, 500), 100.0), 0.5),
        lambda own: distributions.gamma(own, torch.zeros(2, 500), 2.0),
    ],
)
def test_samples_and_purposes_have_numbers_of_their_own(numbers: Callable[[Draw], Tensor]) -> None:
    first, other = numbers(draw()), numbers(draw(purpose="other"))
    for a, b in ((first[0], first[1]), (first[0], other[0])):
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 4.5 / 500**0.5
