"""The attack, against objectives whose worst case is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from menet_jax.robustness.attack.ascent import L2, LINF, Ball, Objective, attack, attack_each, random_starts, within
from menet_jax.robustness.attack.objectives import Moved

SHAPE = (3, 4, 3)
BALLS = pytest.mark.parametrize("ball", [L2, LINF])


def of_linear(weights: np.ndarray) -> Objective:
    return jax.tree_util.Partial(lambda w, image: jnp.vdot(w, image), jnp.asarray(weights))


def of_distance(matrix: np.ndarray, image: np.ndarray) -> Objective:
    """‖A (x − image)‖: of an attack on the map Ax, the distance that it moves."""

    def distance(a: jax.Array, at: jax.Array, x: jax.Array) -> jax.Array:
        moved = a @ (x - at).ravel()
        return jnp.sqrt(jnp.sum(moved * moved))

    return jax.tree_util.Partial(distance, jnp.asarray(matrix), jnp.asarray(image))


def random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


MIDDLE = np.full(SHAPE, 128, np.float32)
NOWHERE = np.zeros((1, *SHAPE), np.float32)


def test_of_a_linear_function_the_worst_is_the_dual_norm() -> None:
    weights = random(0, *SHAPE)
    for ball, dual in ((L2, np.linalg.norm(weights)), (LINF, np.abs(weights).sum())):
        found = attack(of_linear(weights), MIDDLE, ball, 3.0, NOWHERE, steps=3)
        assert float(found.value) == pytest.approx(np.vdot(weights, MIDDLE) + 3.0 * dual, rel=1e-5)


def test_at_the_edge_of_the_gray_levels_the_worst_is_cut_off() -> None:
    weights = random(1, *SHAPE)
    image = np.where(random(2, *SHAPE) > 0, 255, 0).astype(np.float32)
    worst = np.clip(image + 3 * np.sign(weights), 0, 255)
    found = attack(of_linear(weights), image, LINF, 3.0, NOWHERE, steps=2)
    np.testing.assert_array_equal(found.image, worst)
    room = np.where(weights > 0, image == 0, image == 255)  # where a change that raises the function has room
    found = attack(of_linear(weights), image, L2, 3.0, NOWHERE, steps=60)
    length = np.linalg.norm(weights[room])
    assert float(found.value) == pytest.approx(np.vdot(weights, image) + 3.0 * length, rel=1e-3)


def test_of_a_linear_map_the_worst_is_its_largest_singular_value() -> None:
    matrix = random(3, 20, MIDDLE.size)
    _, values, vectors = np.linalg.svd(matrix)
    objective = of_distance(matrix, MIDDLE)
    known = attack(objective, MIDDLE, L2, 5.0, vectors[0].reshape(1, *SHAPE), steps=1)
    assert float(known.value) == pytest.approx(5.0 * values[0], rel=1e-4)
    searched = attack(objective, MIDDLE, L2, 5.0, random_starts(jax.random.key(0), MIDDLE, 3), steps=40)
    assert 0.99 * 5.0 * values[0] < float(searched.value) < 1.0001 * 5.0 * values[0]
    assert np.linalg.norm(np.asarray(searched.image) - MIDDLE) == pytest.approx(5.0, rel=1e-4)


@BALLS
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 2000))
def test_a_change_stays_in_the_ball_and_in_the_gray_levels(ball: Ball, seed: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    image = jnp.asarray(rng.uniform(0, 255, SHAPE), jnp.float32)
    change = jnp.asarray(rng.normal(size=SHAPE, scale=rng.choice([1e-3, 1, 1e3])), jnp.float32)
    found = within(image, change, ball, jnp.float32(radius))
    assert float(found.min()) >= 0 and float(found.max()) <= 255
    assert float(ball.length(found - image)) <= radius * (1 + 1e-5) + 1e-4


@BALLS
def test_more_steps_and_more_starts_never_find_less(ball: Ball) -> None:
    def bumpy(image: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(image)) + jnp.sum(image[0] * image[1]) * 1e-2

    starts = random_starts(jax.random.key(1), MIDDLE, 4)
    short, long = (attack(bumpy, MIDDLE, ball, 4.0, starts, steps=steps) for steps in (5, 15))
    np.testing.assert_allclose(long.values[:, :5], short.values[:, :5], rtol=1e-6)
    assert np.all(np.diff(np.asarray(long.values), axis=1) >= 0) and float(long.value) >= float(short.value)
    few = attack(bumpy, MIDDLE, ball, 4.0, starts[:2], steps=5)
    assert float(short.value) >= float(few.value) - 1e-4
    np.testing.assert_array_equal(random_starts(jax.random.key(1), MIDDLE, 2), starts[:2])
    assert float(long.value) == pytest.approx(float(bumpy(long.image)), rel=1e-6)


def test_other_images_are_attacked_by_the_same_program() -> None:
    traced = list[int]()

    def saliency(scale: jax.Array, image: jax.Array) -> jax.Array:
        traced.append(1)
        return scale * image[..., 0]

    starts, counts = random_starts(jax.random.key(0), MIDDLE, 1)[None], list[int]()
    for level in (100, 150):
        images = np.full((1, *SHAPE), level, np.float32)
        of = jax.tree_util.Partial(Moved, jax.tree_util.Partial(saliency, jnp.ones(())))
        attack_each(of, images[..., 0], images, L2, 1.0, starts, steps=2)
        counts.append(len(traced))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize(
    ("image", "radius", "starts", "steps", "message"),
    [
        (MIDDLE + 200, 1.0, NOWHERE, 1, r"0 \.\.\. 255"),
        (MIDDLE, 0.0, NOWHERE, 1, "positive radius"),
        (MIDDLE, 1.0, NOWHERE, 0, "at least one step"),
        (MIDDLE, 1.0, NOWHERE[:0], 1, "starts of shape"),
        (MIDDLE, 1.0, NOWHERE[:, :2], 1, "starts of shape"),
    ],
)
def test_impossible_attacks(image: np.ndarray, radius: float, starts: np.ndarray, steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attack(lambda image: image.sum(), image, L2, radius, starts, steps=steps)
