"""SGD as the authors' Caffe has it (Section IV-B)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import path_aware_map

from menet_jax.model.inference import Params
from menet_jax.training.config import OptimizerConfig


def learning_rate(config: OptimizerConfig) -> optax.Schedule:
    """Step (from 0) → learning rate: a linear warm-up, and a tenth from every drop on (Section IV-B)."""
    drops = np.array(config.drops, np.float32)

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        now = jnp.asarray(step, jnp.float32)
        # XLA computes a product over an array once, and one of scalars anew in every tensor's update.
        dropped = jnp.prod(jnp.where(now < drops, 1.0, 0.1))
        return config.learning_rate * dropped * jnp.minimum((now + 1.0) / max(config.warmup, 1), 1.0)

    return rate


def _where(kind: Callable[[Any], bool]) -> Callable[[Params], Any]:
    """Params → a tree of booleans, true where `kind` holds of the path."""
    return lambda params: path_aware_map(lambda path, _: kind(path), params)


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """SGD as in Caffe: `v ← μ·v + η·(g + decay·w)`, `w ← w − v`.

    Weight decay acts on convolution weights alone; convolution biases learn at `bias_rate · η`. The learning rate
    is inside the momentum buffer, as in Caffe: after a drop, past steps keep the size they had.
    """
    kernels = _where(lambda path: path[-1] == "kernel")
    convolution_biases = _where(lambda path: path[-1] == "bias" and "norm" not in path[-2])
    return optax.chain(
        optax.masked(optax.add_decayed_weights(config.weight_decay), kernels),
        optax.masked(optax.scale(config.bias_rate), convolution_biases),
        optax.scale_by_learning_rate(learning_rate(config)),
        optax.trace(config.momentum),
    )
