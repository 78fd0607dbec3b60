"""Checkpoints to test with."""

from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from menet_jax.training.checkpoint_format import Checkpoint
from menet_jax.training.checkpoints import CheckpointStore

OPTIMIZER = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.masked(optax.add_decayed_weights(1e-4), lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)),
    optax.sgd(optax.cosine_decay_schedule(0.1, 100), momentum=0.9, accumulator_dtype=jnp.bfloat16),
)


def make_checkpoint(step: int, width: int = 64, score: float | None = None) -> Checkpoint:
    draw = np.random.default_rng(step)
    params = {
        "encoder": {
            "kernel": jnp.asarray(draw.normal(size=(3, 3, 8, width)), jnp.float32),
            "bias": jnp.asarray(draw.normal(size=width), jnp.bfloat16),
        },
        "odd": {
            "scalar": jnp.float32(-0.0),
            "nan": jnp.asarray([jnp.nan, jnp.inf]),
            "flags": jnp.asarray([True]),
        },
    }
    return Checkpoint(
        step=step,
        variables={"params": params, "batch_stats": {"mean": jnp.arange(width, dtype=jnp.int32), "none": {}}},
        optimizer=OPTIMIZER.init(params),
        rng=jax.random.key_data(jax.random.key(step)),
        data_position={"next_index": 7, "workers": {"0": [1, 2]}},
        config={"model": {"width": width}, "rate": 0.1},
        scores=None if score is None else {"f": score, "mae": float("nan")},
    )


def save_all(folder: Path, *checkpoints: Checkpoint) -> None:
    with CheckpointStore(folder, best="f") as store:
        for checkpoint in checkpoints:
            assert store.save(checkpoint)


def assert_same(found: Any, expected: Any) -> None:
    chex.assert_trees_all_equal_structs(found, expected)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


def templates(checkpoint: Checkpoint) -> tuple[Any, Any]:
    shape = jax.eval_shape(lambda: (checkpoint.variables, checkpoint.optimizer))
    return shape[0], shape[1]


def no_report(message: str) -> None:
    pytest.fail(message)


def record_of(folder: Path) -> Path:
    return folder / "record" / "metadata"
