"""The spectral norm ‖J‖₂ of the Jacobian of an image-to-map function (Eq. 8 to 11): two methods, one kind of result.

Both work on JᵀJ through products alone: f is linearised once for every few steps (`jax.linearize`), and the linear map
and its transpose are then applied, which spares `jax.jvp` and `jax.vjp` the function itself in every step. Power
iteration is the textbook's, but takes thousands of steps where the largest singular values lie close together;
`lanczos` takes tens, and holds one image for each.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from menet_jax.image_maps import ImageMap, checked, evaluate
from menet_jax.jacobian import squared_norm

STEPS = 8
"""Steps of one call of a compiled program; after each, a person may interrupt and the iteration may stop."""

TOLERANCE = 1e-5
"""Residual to reach. Random starts seldom hide a larger singular value from so small a one, and float32 gets there."""

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
    left: Float[Array, "*map"]
    right: Float[Array, "h w 3"]


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
        f: image → map.
        image: (H, W, 3) float.
        key: of the random start.
        tolerance: residual to reach.
        max_iterations: where to stop at the latest, rounded up to a multiple of 8.

    Raises:
        TypeError, ValueError: as `checked`; or J is not finite, or a setting is not positive.
    """
    _check(tolerance, max_iterations)
    f, x = checked(f, image)
    pair, iterations = _power_steps(f, x, _random_start(key, x), jnp.int32(STEPS)), STEPS
    while _residual(pair) > tolerance and iterations < max_iterations:
        pair, iterations = _power_steps(f, x, pair.back, jnp.int32(STEPS)), iterations + STEPS
    return _result(pair, tolerance, iterations, _excess_of_power(x.size, iterations))


def lanczos(
    f: ImageMap,
    image: jax.Array | np.ndarray,
    key: jax.Array,
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = 192,
) -> SpectralNorm:
    """‖J‖₂ by Golub–Kahan–Lanczos bidiagonalisation from a random image, the right vectors reorthogonalised.

    The largest singular value over the same products as power iteration's, but over all of their span. Memory grows
    by one image with each iteration.

    Args:
        f: image → map.
        image: (H, W, 3) float.
        key: of the random start.
        tolerance: residual to reach.
        max_iterations: where to stop at the latest, rounded up to a multiple of 8; never more than m or n.

    Source: Golub and Kahan, "Calculating the singular values and pseudo-inverse of a matrix", 1965; Simon and Zha,
    "Low-rank matrix approximation using the Lanczos bidiagonalization process", 2000.

    Raises:
        TypeError, ValueError: as `power_iteration`.
    """
    _check(tolerance, max_iterations)
    f, x = checked(f, image)
    output = evaluate.eval_shape(f, x)
    capacity = STEPS * math.ceil(min(max_iterations, x.size) / STEPS)
    state = _Bidiagonal(
        basis=jnp.zeros((capacity + 1, *x.shape), x.dtype).at[0].set(_random_start(key, x)),
        diagonal=jnp.zeros(capacity, x.dtype),
        above=jnp.zeros(capacity, x.dtype),
        left=jnp.zeros(output.shape, output.dtype),
    )
    for iterations in range(STEPS, capacity + STEPS, STEPS):
        state = _lanczos_steps(f, x, state, jnp.int32(iterations - STEPS))
        diagonal, above = (np.asarray(each[:iterations], np.float64) for each in (state.diagonal, state.above))
        if not np.isfinite(diagonal).all() or not np.isfinite(above).all():
            raise ValueError("the Jacobian at this image is not finite")
        left, values, right_t = np.linalg.svd(np.diag(diagonal) + np.diag(above[:-1], 1))
        expected = above[-1] * abs(left[-1, 0])  # ‖Jᵀu − σv‖, were there no rounding
        if expected <= 0.5 * tolerance * values[0]:
            break
    weights = jnp.zeros(capacity + 1, x.dtype).at[:iterations].set(jnp.asarray(right_t[0], x.dtype))
    pair = _power_steps(f, x, jnp.tensordot(weights, state.basis, 1), jnp.int32(1))
    return _result(pair, tolerance, iterations, _excess_of_lanczos(x.size, iterations))


class _Pair(NamedTuple):
    """v of unit norm, u = Jv/σ, σ, and Jᵀu."""

    right: Float[Array, "h w 3"]
    left: Float[Array, "*map"]
    value: Float[Array, ""]
    back: Float[Array, "h w 3"]


class _Bidiagonal(NamedTuple):
    """J · basis = left vectors · B, with B upper bidiagonal; of the left vectors only the last is kept."""

    basis: Float[Array, "k1 h w 3"]
    diagonal: Float[Array, " k"]
    above: Float[Array, " k"]
    left: Float[Array, "*map"]


def _linear(f: ImageMap, image: Float[Array, "h w 3"]) -> tuple[ImageMap, ImageMap]:
    """v ↦ Jv and u ↦ Jᵀu."""
    _, push = jax.linearize(f, image)
    transpose = jax.linear_transpose(push, image)
    return push, lambda u: transpose(u)[0]


def _norm(x: jax.Array) -> Float[Array, ""]:
    """Euclidean norm, whose squares neither under- nor overflow."""
    largest = jnp.max(jnp.abs(x))
    return largest * jnp.sqrt(squared_norm(x / jnp.where(largest > 0, largest, 1.0)))


def _normalised(x: jax.Array) -> tuple[jax.Array, Float[Array, ""]]:
    """x / ‖x‖, or 0 of 0, and ‖x‖."""
    norm = _norm(x)
    return x / jnp.where(norm > 0, norm, 1.0), norm


@jax.jit
def _power_steps(f: ImageMap, image: Float[Array, "h w 3"], back: Float[Array, "h w 3"], steps: jax.Array) -> _Pair:
    push, pull_back = _linear(f, image)

    def step(_: jax.Array, pair: _Pair) -> _Pair:
        right, _ = _normalised(pair.back)
        left, value = _normalised(push(right))
        return _Pair(right, left, value, pull_back(left))

    output = jax.eval_shape(push, image)
    start = _Pair(back, jnp.zeros(output.shape, output.dtype), jnp.zeros((), output.dtype), back)
    return lax.fori_loop(0, steps, step, start)


@jax.jit
def _lanczos_steps(f: ImageMap, image: Float[Array, "h w 3"], state: _Bidiagonal, done: jax.Array) -> _Bidiagonal:
    push, pull_back = _linear(f, image)

    def step(j: jax.Array, state: _Bidiagonal) -> _Bidiagonal:
        basis, diagonal, above, left = state
        v = basis[j]
        left, alpha = _normalised(push(v) - jnp.where(j > 0, above[j - 1], 0.0) * left)
        back = pull_back(left)
        w = back - alpha * v
        for _ in range(2):  # once is not enough, where cancellation is heavy
            w -= jnp.tensordot(jnp.tensordot(basis, w, w.ndim), basis, 1)
        w, beta = _normalised(w)
        # What is left of a span used up is rounding: no direction, but noise along those already taken.
        exhausted = beta <= 10 * jnp.finfo(w.dtype).eps * _norm(back)
        beta, w = jnp.where(exhausted, 0.0, beta), jnp.where(exhausted, 0.0, w)
        return _Bidiagonal(basis.at[j + 1].set(w), diagonal.at[j].set(alpha), above.at[j].set(beta), left)

    return lax.fori_loop(done, done + STEPS, step, state)


def _random_start(key: jax.Array, image: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """Uniform on the unit sphere."""
    return _normalised(jax.random.normal(key, image.shape, image.dtype))[0]


def _residual(pair: _Pair) -> float:
    value = float(pair.value)
    if not np.isfinite(value):
        raise ValueError("the Jacobian at this image is not finite")
    return float(_norm(pair.back - pair.value * pair.right)) / value if value else 0.0


def _result(pair: _Pair, tolerance: float, iterations: int, excess: float) -> SpectralNorm:
    value, residual = float(pair.value), _residual(pair)
    upper = value / math.sqrt(1 - excess) if excess < 1 else math.inf
    return SpectralNorm(value, residual, upper, iterations, residual <= tolerance, pair.left, pair.right)


def _excess_of_power(n: int, k: int) -> float:
    """ε with P(σ² < (1 − ε)·‖J‖₂²) ≤ 0.824·√n·(1 − ε)^(k − ½) = `RISK` after k steps in n dimensions."""
    return 1 - (RISK / (0.824 * math.sqrt(n))) ** (1 / (k - 0.5))


def _excess_of_lanczos(n: int, k: int) -> float:
    """ε with P(σ² < (1 − ε)·‖J‖₂²) ≤ 1.648·√n·exp(−√ε·(2k − 1)) = `RISK` after k steps in n dimensions."""
    return min((math.log(1.648 * math.sqrt(n) / RISK) / (2 * k - 1)) ** 2, 1.0) if k < n else 0.0


def _check(tolerance: float, max_iterations: int) -> None:
    if not tolerance > 0 or max_iterations < 1:
        raise ValueError(f"want positive tolerance and max_iterations, got {tolerance} and {max_iterations}")
