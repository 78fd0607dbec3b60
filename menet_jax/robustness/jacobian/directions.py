"""Robustness by Monte Carlo over error directions (Eq. 12), and its limit for small errors."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from menet_jax.robustness.jacobian.image_function import ImageMap, checked, evaluate, exact, norm
from menet_jax.robustness.jacobian.norms import Summary, summarise

Perturbation = Callable[[np.ndarray, int], np.ndarray]
"""(image, number of the draw) → distorted image of the same shape and range.

For instance `lambda image, draw: add_noise(image, 20.0, name=name, seed=draw)`, with a seed for each draw, and
`lambda image, draw: compress_jpeg(image, random_quality(name, draw))`.
"""


class DirectionalRatios(NamedTuple):
    """How far a map moves for each unit of distance that a distortion moves the image.

    Attributes:
        finite: ‖F(x+Δ) − F(x)‖ / ‖Δ‖ (Eq. 12); its values are those of the draws that moved the image.
        infinitesimal: ‖J·Δ/‖Δ‖‖, the limit of that for small errors in the same directions.
        distances: ‖Δ‖ of these draws, in gray levels.
        zero_directions: draws that left the image as it was, and which have no direction: they count nowhere else.
    """

    finite: Summary
    infinitesimal: Summary
    distances: Float[np.ndarray, " draws"]
    zero_directions: int


@jax.jit
@exact
def jvp(f: ImageMap, image: Float[Array, "h w 3"], direction: Float[Array, "h w 3"]) -> jax.Array:
    """J·v at the image, of the map's shape: one product, where `linearise` would be more than is wanted."""
    return jax.jvp(f, (image,), (direction,))[1]


def directional_ratios(
    f: ImageMap, image: np.ndarray | jax.Array, distortion: Perturbation, *, draws: int = 16
) -> DirectionalRatios:
    """Finite and infinitesimal reaction of `f` to a distortion (Eq. 12), side by side over the same directions.

    Args:
        f: image → map.
        image: (H, W, 3), range 0…255, uint8 or float: of the type that the distortion takes. `f` gets it as float.
        distortion: called with the image and 0, 1, … draws − 1.
        draws: how many; of a distortion with nothing random in it, one tells all (and has no standard error).

    Raises:
        TypeError: as `checked`.
        ValueError: as `checked`; a distorted image has another shape or is not finite; no draw moved the image; or the
            map or its derivative is not finite.

    >>> import numpy as np
    >>> from menet_jax import directional_ratios
    >>> image = np.full((4, 4, 3), 100.0, np.float32)
    >>> found = directional_ratios(lambda image: 2.0 * image, image, lambda image, draw: image + draw, draws=3)
    >>> round(found.finite.mean, 4), round(found.infinitesimal.mean, 4), found.zero_directions
    (2.0, 2.0, 1)
    """
    if draws < 1:
        raise ValueError(f"want at least one draw, got {draws}")
    original = np.asarray(image)
    f, at = checked(f, _as_float(original))
    x, before = np.asarray(at), np.asarray(evaluate(f, at))
    finite, infinitesimal, distances = list[float](), list[float](), list[float]()
    for draw in range(draws):
        distorted = np.asarray(distortion(original, draw))
        if distorted.shape != original.shape:
            raise ValueError(f"the distortion made an image of shape {distorted.shape} of one of {original.shape}")
        delta = _as_float(distorted) - x
        distance = norm(delta)
        if not np.isfinite(distance):
            raise ValueError(f"the distorted image of draw {draw} has values that are not finite")
        if not distance:
            continue
        finite.append(norm(np.asarray(evaluate(f, x + delta)) - before) / distance)
        infinitesimal.append(norm(np.asarray(jvp(f, at, (delta / distance).astype(at.dtype)))))
        distances.append(distance)
    if not distances:
        raise ValueError(f"none of the {draws} draws of the distortion changed the image: there is no direction")
    return DirectionalRatios(summarise(finite), summarise(infinitesimal), np.array(distances), draws - len(distances))


def _as_float(image: np.ndarray) -> np.ndarray:
    return image if np.issubdtype(image.dtype, np.floating) else image.astype(np.float32)
