"""Rank correlation: against ranks counted by hand, all permutations, and coverage of the interval."""

from itertools import permutations

import numpy as np
import pytest

from menet_jax.metrics import correlation
from menet_jax.metrics.correlation import rank_correlation


def rho(x: np.ndarray, y: np.ndarray) -> float:
    """By the textbook: ranks, ties at their mean, and their product-moment correlation."""
    ranks = [[(np.sum(side < value) + np.sum(side <= value) + 1) / 2 for value in side] for side in (x, y)]
    return float(np.corrcoef(ranks)[0, 1])


def test_rho_and_exact_p() -> None:
    x, y = np.array([0.1, 0.4, 0.2, 0.9, 0.3, 0.3]), np.array([1.0, 7.0, 2.0, 5.0, 4.0, 4.0])
    found = rank_correlation(x.tolist(), y.tolist())
    assert found is not None
    assert found.rho == pytest.approx(rho(x, y), abs=1e-12)
    everywhere = np.array([rho(x, np.array(order)) for order in permutations(y)])
    # scipy's two-sided p is twice the smaller tail; the null distribution of ρ is symmetric here but for ties.
    upper = np.mean(everywhere >= found.rho - 1e-12)
    lower = np.mean(everywhere <= found.rho + 1e-12)
    assert found.p == pytest.approx(min(1.0, 2 * min(upper, lower)), abs=1e-12)
    assert found.low is not None and found.high is not None
    assert found.low < found.rho < found.high and found.pairs == 6


def test_perfect_and_opposite() -> None:
    x = [1.0, 2.0, 5.0, 9.0, 12.0]
    up, down = rank_correlation(x, [value**3 for value in x]), rank_correlation(x, [-value for value in x])
    assert up is not None and down is not None
    assert (up.rho, down.rho) == (pytest.approx(1), pytest.approx(-1))
    assert {up.low, up.high, down.low, down.high} == {None}  # five pairs in order do not make it certain
    assert up.p == pytest.approx(2 / 120)


def test_interval_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    """95 % intervals of normal pairs hold the true Spearman correlation, 6/π·arcsin(r/2), about 95 times in 100."""
    monkeypatch.setattr(correlation, "RESAMPLES", 9)  # of p, which does not matter here
    rng, inside, r = np.random.default_rng(0), 0, 0.6
    true = 6 / np.pi * np.arcsin(r / 2)
    for _ in range(200):
        x, noise = rng.normal(size=(2, 20))
        found = rank_correlation(x.tolist(), (r * x + np.sqrt(1 - r**2) * noise).tolist())
        assert found is not None and found.low is not None and found.high is not None
        inside += found.low <= true <= found.high
    assert 180 <= inside <= 198


def test_where_it_is_not_defined() -> None:
    assert rank_correlation([], []) is None
    assert rank_correlation([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) is None
    assert rank_correlation([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]) is None
    with pytest.raises(ValueError, match="finite values in pairs"):
        rank_correlation([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="finite"):
        rank_correlation([1.0, 2.0, 3.0, np.nan], [1.0, 2.0, 3.0, 4.0])
