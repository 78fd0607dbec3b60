"""U-Net (Ronneberger, Fischer, Brox: "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015), a
baseline trained under the same conditions as MENet.

As in the paper, but for three things: convolutions are padded, so that the map is of the image's size and nothing is
cropped; batch normalisation follows every 3×3 convolution, without which it does not train from scratch by plain SGD at
MENet's learning rate; there is no dropout.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from menet_jax.model.layers import Conv, ConvTranspose
from menet_jax.model.normalisation import BatchNorm
from menet_jax.model.outputs import Outputs, check_sides
from menet_jax.model.pooling import max_pool

DEPTH = 4
"""Halvings between the image and the coarsest map."""


class UNet(nn.Module):
    """U-Net with two classes and no metric space.

    Args:
        width: channels at full resolution; 64 in the paper, which gives 31,042,626 parameters.
        dtype: what the convolutions compute in.
        axis_name: the mapped axis over which batch statistics are synchronised.
    """

    width: int = 64
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"], train: bool = False) -> Outputs:
        """Map images (range 0…255, not normalised) to outputs at their own size.

        Raises:
            ValueError: the height or width is not divisible by 16.
        """
        check_sides("UNet", *images.shape[1:3], smallest=2**DEPTH, step=2**DEPTH)
        conv = partial(Conv, dtype=self.dtype)
        norm = partial(BatchNorm, use_running_average=not train, dtype=self.dtype, axis_name=self.axis_name)

        def twice(h: jax.Array, features: int, name: str) -> jax.Array:
            """3×3 convolution → BatchNorm → ReLU, two times."""
            for n in (1, 2):
                h = conv(features, (3, 3), padding=1, name=f"{name}_conv{n}")(h)
                h = nn.relu(norm(name=f"{name}_norm{n}")(h))
            return h

        h = twice(images, self.width, "encoder0")
        encoder = [h]
        for k in range(1, DEPTH + 1):
            h = twice(max_pool(h), self.width * 2**k, f"encoder{k}")
            encoder.append(h)
        for k in reversed(range(DEPTH)):
            up = ConvTranspose(self.width * 2**k, 2, 2, 0, self.dtype, name=f"decoder{k}_up")(h)
            h = twice(jnp.concatenate([encoder[k], up], axis=-1), self.width * 2**k, f"decoder{k}")
        # The logits keep all digits, whatever comes before computes in.
        exact = jnp.float64 if self.dtype == jnp.float64 else jnp.float32
        return Outputs(None, Conv(2, (1, 1), padding=0, dtype=exact, name="logits_conv")(h))
