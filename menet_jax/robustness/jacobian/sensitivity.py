"""Sensitivity maps, and the gradient statistics of Table III."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from menet_jax.model.outputs import Outputs
from menet_jax.robustness.jacobian.image_function import (
    ImageMap,
    NetworkMap,
    Report,
    checked,
    evaluate,
    exact,
    finite,
    linearise,
)
from menet_jax.robustness.jacobian.norms import random_signs

TABLE_III_SIDE = 352
"""Side of the images in the authors' script; their maps are of half that size."""


class SensitivityMap(NamedTuple):
    """Norms of the columns or rows of J, pixel by pixel, estimated.

    Attributes:
        values: the norms.
        standard_error: of each, by the delta method; what the samples say, so rough itself.
    """

    values: Float[np.ndarray, "*map"]
    standard_error: Float[np.ndarray, "*map"]


def input_sensitivity(
    f: ImageMap,
    image: jax.Array | np.ndarray,
    key: jax.Array,
    *,
    samples: int = 64,
    report: Report = lambda _: None,
) -> SensitivityMap:
    """How strongly the whole map reacts to each pixel: column norms of J, estimated.

        s_p² = Σ_c ‖∂F/∂x_pc‖² = E Σ_c (Jᵀu)_pc²,   u ∈ {−1, 1}^m, independent signs

    For small or pooled maps `norms.exact_jacobian` has J itself.

    Args:
        f: image → map.
        image: (H, W, 3) float.
        key: of the random signs.
        samples: how many, at least 2.
        report: told how many samples are done.

    Returns:
        (H, W), in map units (norm over the map) per gray level.

    Raises:
        TypeError, ValueError: as `checked`; or J is not finite, or a number is not positive.

    >>> import jax, jax.numpy as jnp
    >>> from menet_jax import input_sensitivity
    >>> f = lambda image: image[..., 0] * jnp.array([[1.0, 3.0]])
    >>> input_sensitivity(f, jnp.ones((1, 2, 3)), jax.random.key(0), samples=4).values.tolist()
    [[1.0, 3.0]]
    """
    _check(samples)
    jacobian = linearise(f, image)

    def draw(sample: int) -> np.ndarray:
        row = jacobian.vjp(random_signs(key, sample, jacobian.value))
        return np.sum(finite(row) ** 2, axis=-1)

    return _estimate(draw, samples, report)


def output_sensitivity(
    f: ImageMap, image: jax.Array | np.ndarray, key: jax.Array, *, samples: int = 64
) -> SensitivityMap:
    """How strongly each value of the map depends on the image: row norms of J, estimated.

        s_i² = ‖∂F_i/∂x‖² = E (Jz)_i²,   z ∈ {−1, 1}^n, independent signs

    Args:
        f, image, key, samples: as `input_sensitivity`.

    Returns:
        Of the map's shape, in map units per gray level (norm over the image).

    Raises:
        TypeError, ValueError: as `input_sensitivity`.
    """
    _check(samples)
    jacobian = linearise(f, image)

    def draw(sample: int) -> np.ndarray:
        return finite(jacobian.jvp(random_signs(key, sample, jacobian.image))) ** 2

    return _estimate(draw, samples)


class GradientStatistics(NamedTuple):
    """Statistics of |g| over pixels and colours, the five lines of Table III. The variance is that of all values."""

    max: float
    min: float
    median: float
    mean: float
    variance: float


def constant_gradient_statistics(f: NetworkMap, image: jax.Array | np.ndarray) -> GradientStatistics:
    """Table III as the authors' script computes it: rounding noise.

        g = ∂/∂x Σ_pixels (p_background + p_salient),   p = softmax of the logits, at every second row and column

    The two probabilities sum to 1, so g is the gradient of a constant: exactly 0, and what is computed is the rounding
    of the softmax, some 1e-10 to 1e-8 in float32 and 1e-19 to 1e-17 in float64, for any network. It says nothing of
    robustness; `salient_gradient_statistics` does.

    Args:
        f: any map of a network, of `network_map`; only its network counts, whichever its output.
        image: (H, W, 3) float, range 0…255; the script's are 352×352, `TABLE_III_SIDE`, and its maps 176×176, by
            nearest neighbour.

    Raises:
        TypeError, ValueError: as `linearise`.
    """
    return _gradient_statistics(f, image, (1, 1))


def salient_gradient_statistics(f: NetworkMap, image: jax.Array | np.ndarray) -> GradientStatistics:
    """Table III as it was meant: statistics of the salient channel's gradient, `g = ∂/∂x Σ_pixels p_salient`.

    Args, Raises: as `constant_gradient_statistics`.
    """
    return _gradient_statistics(f, image, (0, 1))


def mean_statistics(images: Sequence[GradientStatistics]) -> GradientStatistics:
    """Each statistic's mean over images, as in Table III. Raises ValueError if there are none."""
    if not images:
        raise ValueError("there are no images to average over")
    return GradientStatistics(*map(float, np.mean(np.array(images), axis=0)))


def _probabilities(outputs: Outputs) -> Float[Array, "h w 2"]:
    return jax.nn.softmax(outputs.logits[::2, ::2])


@jax.jit
@exact
def vjp(f: ImageMap, image: Float[Array, "h w 3"], cotangent: jax.Array) -> Float[Array, "h w 3"]:
    """Jᵀ·u at the image, for u of the map's shape: one product."""
    return jax.vjp(f, image)[1](cotangent)[0]


def _gradient_statistics(f: NetworkMap, image: jax.Array | np.ndarray, weights: tuple[int, int]) -> GradientStatistics:
    """Statistics of the gradient of `Σ w · p`; `weights` w are those of background and salient probability."""
    probabilities, x = checked(f.replace(output=_probabilities), image)
    value = evaluate.eval_shape(probabilities, x)
    gradient = vjp(probabilities, x, np.broadcast_to(np.array(weights, value.dtype), value.shape))
    size = np.abs(finite(gradient))
    return GradientStatistics(*(float(of(size)) for of in (np.max, np.min, np.median, np.mean, np.var)))


def _estimate(draw: Callable[[int], np.ndarray], samples: int, report: Report = lambda _: None) -> SensitivityMap:
    """Roots of the means of the squares that `draw` gives, with standard errors."""
    mean, spread = np.zeros(()), np.zeros(())  # Welford's sums, which do not cancel
    for count in range(1, samples + 1):
        squares = draw(count - 1)
        above = squares - mean
        mean = mean + above / count
        spread = spread + above * (squares - mean)
        report(count)
    values = np.sqrt(mean)
    error = np.sqrt(spread / (samples - 1) / samples) / (2 * np.where(values > 0, values, 1))
    return SensitivityMap(values, error)


def _check(samples: int) -> None:
    if samples < 2:
        raise ValueError(f"want at least 2 samples, got {samples}")
