"""Spearman's rank correlation of two numbers of the same images, its confidence interval and p-value."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FEWEST = 4
"""Pairs below which there is no interval."""

RESAMPLES = 9999
"""Pairings drawn for the p-value; where there are no more than so many, all are taken and it is exact."""

Z_95 = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""


class RankCorrelation(NamedTuple):
    """Spearman's ρ in [−1, 1].

    Attributes:
        rho: the correlation of the ranks, ties at their mean rank.
        low, high: 95 % confidence interval, `tanh(artanh ρ ± 1.96·√((1 + ρ²/2) / (n − 3)))`. Source: Bonett and Wright,
            "Sample size requirements for estimating Pearson, Kendall and Spearman correlations", 2000. None where
            |ρ| = 1, of which the formula would make a single point, however few the pairs.
        p: two-sided, of a permutation test: twice how often pairs put together at random have a ρ as far on its side,
            and at most 1.
        pairs: n.
    """

    rho: float
    low: float | None
    high: float | None
    p: float
    pairs: int


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> RankCorrelation | None:
    """Spearman's rank correlation of pairs.

    Returns:
        None where it is not defined: fewer than `FEWEST` pairs, or all values of one side are equal.

    Raises:
        ValueError: the two differ in length, or a value is not finite.
    """
    pairs = np.array([x, y], np.float64) if len(x) == len(y) else None
    if pairs is None or not np.isfinite(pairs).all():
        raise ValueError(f"want finite values in pairs, got {len(x)} and {len(y)}")
    count = len(x)
    if count < FEWEST or any(np.ptp(side) == 0 for side in pairs):
        return None
    from scipy import stats  # only now, for it takes nearly a second to import

    first, second = stats.zscore(stats.rankdata(pairs, axis=1), axis=1)

    def rho(ranks: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(np.mean(ranks * second, axis=axis))

    test = stats.permutation_test(
        (first,),
        rho,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),  # the same numbers give the same p
    )
    value, p = float(np.clip(test.statistic, -1, 1)), float(test.pvalue)
    if abs(value) > 1 - 1e-9:
        return RankCorrelation(value, None, None, p, count)
    reach = Z_95 * math.sqrt((1 + value**2 / 2) / (count - 3))
    low, high = (math.tanh(math.atanh(value) + sign * reach) for sign in (-1, 1))
    return RankCorrelation(value, low, high, p, count)
