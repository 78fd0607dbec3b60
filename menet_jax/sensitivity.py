"""Where a map reacts and to what: sensitivity maps, and the gradient statistics of Table III."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from menet_jax.image_maps import ImageMap, NetworkMap, check_image, checked, network_map
from menet_jax.jacobian import BATCH, positive
from menet_jax.model import MENet, Outputs

TABLE_III_SIDE = 352
"""Side of the images in the authors' script; their maps are of half that size."""


class SensitivityMap(NamedTuple):
    """Norms of the columns or rows of J, pixel by pixel, estimated.

    Attributes:
        values: the norms.
        standard_error: of each, by the delta method; what the samples say, so rough itself.
        samples: how many random products they are from.
    """

    values: Float[np.ndarray, "*map"]
    standard_error: Float[np.ndarray, "*map"]
    samples: int


def input_sensitivity(
    f: ImageMap, image: jax.Array | np.ndarray, key: jax.Array, *, samples: int = 64, chunk: int = 1
) -> SensitivityMap:
    """How strongly the whole map reacts to each pixel: column norms of J, estimated.

        s_p² = Σ_c ‖∂F/∂x_pc‖² = E Σ_c (Jᵀu)_pc²,   u ∈ {−1, 1}^m, independent signs

    For small or pooled maps `jacobian.exact_norms` has them exactly.

    Args:
        f: image → map.
        image: (H, W, 3) float.
        key: of the random signs.
        samples: rounded up to a multiple of 16.
        chunk: products computed at once.

    Returns:
        (H, W), in map units (norm over the map) per gray level.

    Raises:
        TypeError, ValueError: as `checked`; or J is not finite, or a number is not positive.
    """
    positive("samples", samples)
    f, x = checked(f, image)
    return _estimate(partial(_squares_of_columns, f, x, positive("chunk", chunk)), key, samples)


def output_sensitivity(
    f: ImageMap, image: jax.Array | np.ndarray, key: jax.Array, *, samples: int = 64, chunk: int = 1
) -> SensitivityMap:
    """How strongly each value of the map depends on the image: row norms of J, estimated.

        s_i² = ‖∂F_i/∂x‖² = E (Jz)_i²,   z ∈ {−1, 1}^n, independent signs

    For small or pooled maps `jacobian.exact_norms` has them exactly.

    Args:
        f, image, key, samples, chunk: as `input_sensitivity`.

    Returns:
        Of the map's shape, in map units per gray level (norm over the image).

    Raises:
        TypeError, ValueError: as `input_sensitivity`.
    """
    positive("samples", samples)
    f, x = checked(f, image)
    return _estimate(partial(_squares_of_rows, f, x, positive("chunk", chunk)), key, samples)


class GradientStatistics(NamedTuple):
    """Statistics of |g| over pixels and colours, the five lines of Table III. The variance is that of all values."""

    max: float
    min: float
    median: float
    mean: float
    variance: float


def constant_gradient_statistics(
    network: MENet, variables: Mapping[str, Any], image: jax.Array | np.ndarray
) -> GradientStatistics:
    """Table III as the authors' script computes it: rounding noise.

        g = ∂/∂x Σ_pixels (p_background + p_salient),   p = softmax of the logits, at every second row and column

    The two probabilities sum to 1, so g is the gradient of a constant: exactly 0, and what is computed is the rounding
    of the softmax, about 1e-8 in float32 and 1e-17 in float64, for any network. It says nothing of robustness;
    `salient_gradient_statistics` does.

    Args:
        network: MENet.
        variables: its `params` and `batch_stats`.
        image: (H, W, 3) float, range 0…255; the script's are 352×352, `TABLE_III_SIDE`, and its maps 176×176, by
            nearest neighbour.

    Raises:
        TypeError, ValueError: as `network_map` and `check_image`.
    """
    return _statistics(network_map(network, variables, _both_probabilities), image)


def salient_gradient_statistics(
    network: MENet, variables: Mapping[str, Any], image: jax.Array | np.ndarray
) -> GradientStatistics:
    """What Table III means to show: the same with the salient channel alone, `g = ∂/∂x Σ_pixels p_salient`.

    Args, Raises: as `constant_gradient_statistics`.
    """
    return _statistics(network_map(network, variables, _salient_probability), image)


def mean_statistics(images: Sequence[GradientStatistics]) -> GradientStatistics:
    """Each statistic's mean over images, as in Table III. Raises ValueError if there are none."""
    if not images:
        raise ValueError("there are no images to average over")
    return GradientStatistics(*map(float, np.mean(np.array(images), axis=0)))


def _both_probabilities(outputs: Outputs) -> Float[Array, "h w 2"]:
    return jax.nn.softmax(outputs.logits[::2, ::2])


def _salient_probability(outputs: Outputs) -> Float[Array, "h w"]:
    return _both_probabilities(outputs)[..., 1]


def _statistics(f: NetworkMap, image: jax.Array | np.ndarray) -> GradientStatistics:
    check_image(image)
    size = np.abs(np.asarray(_gradient_of_sum(f, jnp.asarray(image)), np.float64))
    if not np.isfinite(size).all():
        raise ValueError("the gradient at this image is not finite")
    return GradientStatistics(*(float(of(size)) for of in (np.max, np.min, np.median, np.mean, np.var)))


@jax.jit
def _gradient_of_sum(f: ImageMap, image: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    return jax.grad(lambda x: jnp.sum(f(x)))(image)


def _estimate(batch: Callable[[jax.Array], jax.Array], key: jax.Array, samples: int) -> SensitivityMap:
    """Roots of the means of the squares that `batch` draws, and their standard errors."""
    first = second = np.zeros(())
    batches = -(-samples // BATCH)
    for index in range(batches):
        squares = np.asarray(batch(jax.random.fold_in(key, index)), np.float64)
        first, second = first + squares.sum(0), second + (squares**2).sum(0)
    count = batches * BATCH
    mean = first / count
    if not np.isfinite(mean).all():
        raise ValueError("the Jacobian at this image is not finite")
    variance = np.maximum(second / count - mean**2, 0) * count / (count - 1)
    values = np.sqrt(mean)
    error = np.sqrt(variance / count) / (2 * np.where(values > 0, values, 1))
    return SensitivityMap(values, error, count)


@partial(jax.jit, static_argnums=2)
def _squares_of_columns(
    f: ImageMap, image: Float[Array, "h w 3"], chunk: int, key: jax.Array
) -> Float[Array, "samples h w"]:
    output, pull_back = jax.vjp(f, image)

    def sample(key: jax.Array) -> Float[Array, "h w"]:
        [row] = pull_back(jax.random.rademacher(key, output.shape, output.dtype))
        return jnp.sum(row * row, axis=-1)

    return lax.map(sample, jax.random.split(key, BATCH), batch_size=chunk)


@partial(jax.jit, static_argnums=2)
def _squares_of_rows(f: ImageMap, image: Float[Array, "h w 3"], chunk: int, key: jax.Array) -> jax.Array:
    _, push = jax.linearize(f, image)

    def sample(key: jax.Array) -> jax.Array:
        column = push(jax.random.rademacher(key, image.shape, image.dtype))
        return column * column

    return lax.map(sample, jax.random.split(key, BATCH), batch_size=chunk)
