"""Features and labels to compute losses of, and the options of the metric loss."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

Image = tuple[jax.Array, jax.Array]

OPTIONS = [
    {"squared": squared, "mining": mining, "stop_centres": stop}
    for squared, mining, stop in product((True, False), repeat=3)
]
each_option = pytest.mark.parametrize("options", OPTIONS, ids=lambda o: ",".join(k for k in o if o[k]) or "none")


def random_image(seed: int, height: int = 5, width: int = 6, salient: int = 9) -> Image:
    """Features, which lean towards their class, and labels with so many salient pixels."""
    generator = np.random.default_rng(seed)
    labels = (generator.permutation(height * width) < salient).astype(np.int32).reshape(height, width)
    features = generator.standard_normal((height, width, 16), np.float32)
    features[..., 0] += labels
    return jnp.asarray(features), jnp.asarray(labels)
