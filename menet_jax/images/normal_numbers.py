"""Normal numbers that are the same on every machine.

NumPy keeps the raw words of a bit generator fixed for ever but promises no such thing of `Generator.normal` (NEP 19),
and libraries differ in the last bit of log, sin and cos. So these are made from raw words by sums, products, quotients
and square roots, which IEEE 754 rounds in one way everywhere. `np.polyval` is Horner's rule: NumPy rounds every product
and sum, and none are fused.
"""

import numpy as np
from jaxtyping import Float64

# Acklam's coefficients of the inverse normal distribution function, highest power first.
TAIL = 0.02425
MIDDLE_TOP = (
    *(-3.969683028665376e01, 2.209460984245205e02, -2.759285104469687e02),
    *(1.383577518672690e02, -3.066479806614716e01, 2.506628277459239e00),
)
MIDDLE_BOTTOM = (
    *(-5.447609879822406e01, 1.615858368580409e02, -1.556989798598866e02),
    *(6.680131188771972e01, -1.328068155288572e01, 1.0),
)
TAIL_TOP = (
    *(-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e00),
    *(-2.549732539343734e00, 4.374664141464968e00, 2.938163982698783e00),
)
TAIL_BOTTOM = (
    *(7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e00),
    *(3.754408661907416e00, 1.0),
)


def uniforms(words: np.ndarray) -> Float64[np.ndarray, " n"]:
    """Uniform on the open interval (0, 1): the midpoints of 2⁵² equal cells, which float64 holds exactly."""
    return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def normals(words: np.ndarray) -> Float64[np.ndarray, " n"]:
    """Standard normal numbers: the inverse distribution function at uniform ones.

    P. J. Acklam's rational approximations, to 1.2e-9 relative: one for the middle, one for the tails.
    """
    p = uniforms(words)
    q = p - 0.5
    r = q * q
    normals = q * np.polyval(MIDDLE_TOP, r) / np.polyval(MIDDLE_BOTTOM, r)
    to_the_end = np.minimum(p, 1 - p)
    tails = np.flatnonzero(to_the_end < TAIL)
    s = np.sqrt(-2 * log(to_the_end[tails]))
    tail = np.polyval(TAIL_TOP, s) / np.polyval(TAIL_BOTTOM, s)
    normals[tails] = np.where(q[tails] < 0, tail, -tail)
    return normals


def log(x: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Natural logarithm, to 1e-14: of x = m · 2ᵉ it is e · ln 2 + 2 artanh((m - 1) / (m + 1))."""
    m, e = np.frexp(x)
    t = (m - 1) / (m + 1)  # in [-1/3, 0), for `frexp` gives m in [1/2, 1)
    artanh_over_t = np.polyval([1 / k for k in range(29, 0, -2)], t * t)
    return e * 0.6931471805599453 + 2 * t * artanh_over_t
