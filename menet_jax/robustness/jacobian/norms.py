"""The Jacobian J of an image-to-map function and its Frobenius norm (Section III-D, Eq. 6 to 11).

J is (m, n): m values of the map, n = H·W·3 values of the image, in map units per gray level (range 0…255). No
function here but `exact_jacobian` holds it: memory grows with m + n, not with m · n. Each program is compiled once
for each kind of function and shape of image. For the spectral norm see `spectral`, for bounds `bounds`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from menet_jax.robustness.jacobian.image_function import (
    ImageMap,
    Report,
    checked,
    evaluate,
    exact,
    finite,
    linearise,
)

MEMORY_LIMIT = 2**30
"""Bytes that `exact_jacobian` takes at most, unless told otherwise."""

MIN_SAMPLES = 64
"""Samples before an estimate may stop: fewer do not tell their own standard error."""

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@jax.jit
@exact
def _jacrev(f: ImageMap, image: Float[Array, "h w 3"]) -> jax.Array:
    return jax.jacrev(f)(image)


def exact_jacobian(
    f: ImageMap, image: jax.Array | np.ndarray, *, memory_limit: int = MEMORY_LIMIT
) -> Float[Array, "*map h w 3"]:
    """J itself, by `jax.jacrev`, for small or pooled maps.

    Args:
        f: image → map.
        image: (H, W, 3) float.
        memory_limit: bytes that J (4·m·n in float32) and the program that computes it may take. Reverse mode goes back
            through the network for all m values at once, which takes m times the memory of one.

    Raises:
        MemoryError: J alone, or J with what it takes to compute, is over the limit; the text has the number.
        TypeError, ValueError: as `checked`; or J is not finite.

    >>> import jax.numpy as jnp
    >>> from menet_jax import exact_jacobian
    >>> exact_jacobian(lambda image: jnp.mean(image, -1), jnp.ones((2, 2, 3))).shape
    (2, 2, 2, 2, 3)
    """
    f, x = checked(f, image)
    output = evaluate.eval_shape(f, x)
    own = output.size * x.size * output.dtype.itemsize
    takes = f"The Jacobian of {output.size} values by {x.size} takes {_size(own)}"
    advice = "Pool the map, raise memory_limit, or take the norms, which do not need J."
    over = f"over the limit of {_size(memory_limit)}. {advice}"
    if own > memory_limit:
        raise MemoryError(f"{takes}, {over}")
    program = _jacrev.lower(f, x).compile()
    usage = program.memory_analysis()
    whole = 0 if usage is None else usage.temp_size_in_bytes + usage.output_size_in_bytes
    if whole > memory_limit:
        raise MemoryError(f"{takes}, and {_size(whole)} to compute, {over}")
    jacobian = program(f, x)
    finite(jnp.sum(jnp.abs(jacobian)))
    return jacobian


class Estimate(NamedTuple):
    """An estimate from random samples.

    Attributes:
        value: the estimate.
        standard_error: of `value`; 0 where all samples agree.
        samples: how many it took.
        converged: whether the standard error is as small as asked for.
    """

    value: float
    standard_error: float
    samples: int
    converged: bool


def frobenius_norm(
    f: ImageMap,
    image: jax.Array | np.ndarray,
    key: jax.Array,
    *,
    relative_error: float = 0.02,
    max_samples: int = 1024,
    report: Report = lambda _: None,
) -> Estimate:
    """‖J‖_F estimated from random vector–Jacobian products.

        ‖J‖_F² = E ‖Jᵀu‖²,   u ∈ {−1, 1}^m, independent signs

    The standard error of the mean of ‖Jᵀu‖² becomes that of its root by the delta method, `se(‖J‖_F) = se(‖J‖_F²) /
    (2 ‖J‖_F)`. The estimate stops at the first sample, from the 64th on, where it is as small as asked for.

    Args:
        f, image: as `exact_jacobian`.
        key: of the random signs.
        relative_error: standard error of ‖J‖_F to reach, over ‖J‖_F.
        max_samples: where to stop at the latest, but not before the 64th.
        report: told how many samples are done.

    Source: Hutchinson, "A stochastic estimator of the trace of the influence matrix", 1990.

    Raises:
        TypeError, ValueError: as `checked`; or J is not finite, or a setting is not positive.

    >>> import jax, jax.numpy as jnp
    >>> from menet_jax import frobenius_norm
    >>> norm = frobenius_norm(lambda image: 2.0 * image[..., 0], jnp.ones((4, 4, 3)), jax.random.key(0))
    >>> norm.value, norm.converged  # 16 entries of 2
    (8.0, True)
    """
    if not relative_error > 0:
        raise ValueError(f"want a positive relative_error, got {relative_error}")
    if max_samples < 1:
        raise ValueError(f"max_samples must be at least 1, got {max_samples}")
    jacobian, squares = linearise(f, image), np.zeros(0)
    while True:
        row = jacobian.vjp(random_signs(key, squares.size, jacobian.value))
        squares = np.append(squares, np.sum(finite(row) ** 2))
        report(squares.size)
        if squares.size < MIN_SAMPLES:
            continue
        value = float(np.sqrt(squares.mean()))
        error = float(squares.std(ddof=1)) / math.sqrt(squares.size) / (2 * value) if value else 0.0
        converged = error <= relative_error * value
        if converged or squares.size >= max_samples:
            return Estimate(value, error, squares.size, converged)


class Summary(NamedTuple):
    """Values of several images, or directions, and what they say together.

    Attributes:
        values: one each, in the order given.
        mean: of them.
        standard_error: of the mean; None of a single value, which does not tell.
        quantiles: at `QUANTILES`, the lowest and the highest value included.
    """

    values: Float[np.ndarray, " count"]
    mean: float
    standard_error: float | None
    quantiles: dict[float, float]


def summarise(values: Sequence[float] | np.ndarray) -> Summary:
    """Robustness over a data set (Eq. 11), `R = mean over x in D of ‖J(x)‖`, from the norms of its images.

    Raises:
        ValueError: there are none, or one is not finite.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"want one value for each image and at least one, got an array of shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(f"{bad.size} of {array.size} values are not finite, the first is number {bad[0]}")
    error = float(array.std(ddof=1) / np.sqrt(array.size)) if array.size > 1 else None
    quantiles = dict(zip(QUANTILES, map(float, np.quantile(array, QUANTILES)), strict=True))
    return Summary(array, float(array.mean()), error, quantiles)


@jax.jit
def random_signs(key: jax.Array, sample: int | jax.Array, like: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Independent signs, each −1 or 1 with probability ½; others for every sample."""
    return jax.random.rademacher(jax.random.fold_in(key, sample), like.shape, like.dtype)


def _size(number: int) -> str:
    return f"{number / 2**30:.3g} GiB" if number >= 2**30 else f"{number / 2**20:.3g} MiB"
