"""The spectral norm ‖J‖₂ of the Jacobian of an image-to-map function (Eq. 8 to 11): two methods, one kind of result.

Both work on JᵀJ through products alone, of the function linearised once (`image_function.linearise`): that spares
`jax.jvp` and `jax.vjp` the function itself in every step. Power iteration is the textbook's, but takes thousands of
steps where the largest singular values lie close together; `lanczos` takes tens, and holds one image for each.
"""

import math
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from menet_jax.robustness.jacobian.image_function import (
    ImageMap,
    Linearised,
    Report,
    finite,
    linearise,
    norm,
)

TOLERANCE = 1e-5
"""Residual to reach. Random starts seldom hide a larger singular value from so small a one, and float32 gets there."""

ROOM = 64
"""Iterations for which there is room from the start; it is doubled when it does not suffice."""

RISK = 1e-3
"""Probability, over random starts, that ‖J‖₂ is above `SpectralNorm.upper`."""


class SpectralNorm(NamedTuple):
    """‖J‖₂ with its singular vectors and what is known of its error.

    Attributes:
        value: σ = ‖Jv‖, never above ‖J‖₂ (but for rounding).
        residual: ‖JᵀJv − σ²v‖ / σ². Some singular value lies within σ·residual of σ; whether it is the largest,
            no residual can tell.
        upper: ‖J‖₂ is below it with probability 1 − `RISK` over random starts, however its singular values are
            spaced, in exact arithmetic (Kuczyński and Woźniakowski, 1992). Infinite while there are too few steps.
        iterations: how many products with JᵀJ.
        converged: whether the residual is as small as asked for. If not, `value` is only a lower bound.
        left: u = Jv/σ, of unit norm and the map's shape: the change of the map.
        right: v, of unit norm, (H, W, 3): the change of the image to which the map reacts most.
    """

    value: float
    residual: float
    upper: float
    iterations: int
    converged: bool
    left: Float[np.ndarray, "*map"]
    right: Float[np.ndarray, "h w 3"]


def power_iteration(
    f: ImageMap,
    image: jax.Array | np.ndarray,
    key: jax.Array,
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = 1000,
) -> SpectralNorm:
    """‖J‖₂ by power iteration on JᵀJ from a random image: `v ← JᵀJv / ‖JᵀJv‖`.

    The residual falls by (σ₂/σ₁)² a step. Memory does not grow with the iterations.

    Args:
        f, image, key, tolerance: as `lanczos`.
        max_iterations: where to stop at the latest.

    Raises:
        TypeError, ValueError: as `lanczos`.
    """
    _check(tolerance, max_iterations)
    jacobian = linearise(f, image)
    pair, iterations = _examine(jacobian, _random_start(key, image.shape)), 1
    while pair.residual > tolerance and iterations < max_iterations:
        pair, iterations = _examine(jacobian, _normalised(pair.back)[0]), iterations + 1
    return _result(pair, tolerance, iterations, _excess_of_power(image.size, iterations))


def lanczos(
    f: ImageMap,
    image: jax.Array | np.ndarray,
    key: jax.Array,
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = 192,
    report: Report = lambda _: None,
) -> SpectralNorm:
    """‖J‖₂ by Golub–Kahan–Lanczos bidiagonalisation from a random image, the right vectors reorthogonalised.

    The largest singular value over the same products as power iteration's, but over all of their span. Memory grows
    by one image with each iteration.

    Args:
        f: image → map.
        image: (H, W, 3) float.
        key: of the random start.
        tolerance: residual to reach.
        max_iterations: where to stop at the latest, and never more than n.
        report: told how many iterations are done.

    Source: Golub and Kahan, "Calculating the singular values and pseudo-inverse of a matrix", 1965; Simon and Zha,
    "Low-rank matrix approximation using the Lanczos bidiagonalization process", 2000.

    Raises:
        TypeError, ValueError: the image is not one of floats, or f gives no array of floats; J is not finite; a setting
            is not positive.

    >>> import jax, jax.numpy as jnp
    >>> from menet_jax import lanczos
    >>> norm = lanczos(lambda image: 2.0 * image[..., 0], jnp.ones((4, 4, 3)), jax.random.key(0))
    >>> round(norm.value, 4), norm.converged
    (2.0, True)
    """
    _check(tolerance, max_iterations)
    jacobian, v = linearise(f, image), _random_start(key, image.shape)
    capacity = min(max_iterations, v.size)
    basis = np.zeros((min(capacity, ROOM) + 1, v.size), v.dtype)
    diagonal, above, u = np.zeros(capacity), np.zeros(capacity), np.zeros(jacobian.value.shape)
    basis[0] = v.ravel()
    for j in range(capacity):  # J · basisᵀ = (left vectors) · B, with B upper bidiagonal
        v = basis[j].reshape(v.shape)  # at first there is no u, and above[-1] is zero
        u, diagonal[j] = _normalised(finite(jacobian.jvp(v)) - above[j - 1] * u)
        back = finite(jacobian.vjp(u))
        w = (back - diagonal[j] * v).ravel().astype(v.dtype)
        for _ in range(2):  # once is not enough where cancellation is heavy
            w -= (basis[: j + 1] @ w) @ basis[: j + 1]
        w, above[j] = _normalised(w)
        report(j + 1)
        left, values, right_t = np.linalg.svd(np.diag(diagonal[: j + 1]) + np.diag(above[:j], 1))
        exhausted = above[j] <= 10 * np.finfo(w.dtype).eps * values[0]  # what is left is rounding, no direction
        if exhausted or above[j] * abs(left[-1, 0]) <= 0.5 * tolerance * values[0]:  # ‖Jᵀu − σv‖, but for rounding
            break
        if j + 1 == len(basis):
            basis = np.concatenate([basis, np.zeros_like(basis)])
        basis[j + 1] = w
    largest, _ = _normalised((right_t[0].astype(v.dtype) @ basis[: j + 1]).reshape(v.shape))
    return _result(_examine(jacobian, largest), tolerance, j + 1, _excess_of_lanczos(u.size, v.size, j + 1))


class _Pair(NamedTuple):
    """v, u = Jv/σ, σ, Jᵀu and ‖Jᵀu − σv‖/σ, which is ‖JᵀJv − σ²v‖/σ²."""

    right: np.ndarray
    left: np.ndarray
    value: float
    back: np.ndarray
    residual: float


def _examine(jacobian: Linearised, right: np.ndarray) -> _Pair:
    left, value = _normalised(finite(jacobian.jvp(right)))
    back = finite(jacobian.vjp(left))
    residual = norm(back - value * right) / value if value else 0.0
    return _Pair(right, left, value, back, residual)


def _normalised(x: np.ndarray) -> tuple[np.ndarray, float]:
    """x / ‖x‖, or 0 of 0, and ‖x‖."""
    length = norm(x)
    return (x / length if length else x), length


def _random_start(key: jax.Array, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform on the unit sphere."""
    return _normalised(np.asarray(jax.random.normal(key, shape)))[0]


def _result(pair: _Pair, tolerance: float, iterations: int, excess: float) -> SpectralNorm:
    upper = pair.value / math.sqrt(1 - excess) if excess < 1 else math.inf
    return SpectralNorm(pair.value, pair.residual, upper, iterations, pair.residual <= tolerance, pair.left, pair.right)


def _excess_of_power(n: int, k: int) -> float:
    """ε with P(σ² < (1 − ε)·‖J‖₂²) ≤ 0.824·√n·(1 − ε)^(k − ½) = `RISK` after k steps in n dimensions."""
    return 1 - (RISK / (0.824 * math.sqrt(n))) ** (1 / (k - 0.5))


def _excess_of_lanczos(m: int, n: int, k: int) -> float:
    """ε with P(σ² < (1 − ε)·‖J‖₂²) ≤ 1.648·√n·exp(−√ε·(2k − 1)) = `RISK` after k steps in n dimensions; 0 once the
    steps span all that J, of m rows, does not map to 0.
    """
    if k > m or k >= n:
        return 0.0
    return min((math.log(1.648 * math.sqrt(n) / RISK) / (2 * k - 1)) ** 2, 1.0)


def _check(tolerance: float, max_iterations: int) -> None:
    if not tolerance > 0 or max_iterations < 1:
        raise ValueError(f"want positive tolerance and max_iterations, got {tolerance} and {max_iterations}")
