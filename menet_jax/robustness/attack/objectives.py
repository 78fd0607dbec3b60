"""What an attack raises: how far the map moves, how much of the F-measure it loses, or how wrong its pixels are."""

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from menet_jax.metrics.scores import BETA_SQUARED
from menet_jax.robustness.jacobian.image_function import ImageMap


class Moved(struct.PyTreeNode):
    """‖F(x) − before‖²: how far the map has moved. Its gradient is zero where it has not moved at all.

    Attributes:
        f: image → map.
        before: the map to move away from.
    """

    f: ImageMap
    before: Float[Array, "*map"]

    def __call__(self, image: Float[Array, "h w 3"]) -> Float[Array, ""]:
        return jnp.sum(jnp.square(self.f(image) - self.before))


class LostF(struct.PyTreeNode):
    """Minus the F-measure (Eq. 16) of soft counts, a surrogate with a gradient of what thresholds have none of.

    With S the map and G the mask, P = ΣSG / ΣS and R = ΣSG / ΣG, so `−(1 + β²) ΣSG / (β² ΣG + ΣS)`, in [−1, 0].

    Attributes:
        f: image → map in [0, 1].
        mask: 1 where salient, of the map's shape.
    """

    f: ImageMap
    mask: Float[Array, "h w"]

    def __call__(self, image: Float[Array, "h w 3"]) -> Float[Array, ""]:
        saliency = self.f(image)
        hits = jnp.sum(saliency * self.mask)
        # Eq. 16 with P and R put in: no division by what may be zero, but by what is zero only where all is.
        denominator = BETA_SQUARED * jnp.sum(self.mask) + jnp.sum(saliency)
        return -(1 + BETA_SQUARED) * hits / jnp.where(denominator == 0, 1, denominator)


class WrongSide(struct.PyTreeNode):
    """How far the logit margin m of the pixels is on the wrong side of 0: `−mean(max(± m, −1))`, + where salient.

    The gradient of a probability vanishes where the network is sure of itself, and so do those of `Moved` and `LostF`.
    Here all pixels count alike until they are wrong by a margin of 1, and not at all from there on.

    Attributes:
        margin: image → logit margin.
        mask: 1 where salient, else 0, of the map's shape.

    Source: Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017, their f₆, pixel by pixel.
    """

    margin: ImageMap
    mask: Float[Array, "h w"]

    def __call__(self, image: Float[Array, "h w 3"]) -> Float[Array, ""]:
        margin = (2 * self.mask - 1) * self.margin(image)
        return -jnp.mean(jnp.where(margin < -1, -1.0, margin))  # not `maximum`, see `larger` in model/pooling.py
