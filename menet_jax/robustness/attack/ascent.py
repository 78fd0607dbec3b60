"""Projected gradient ascent on an image: a change within a ball that raises an objective as far as can be found.

What is found is a lower bound on the worst case: a longer search may find worse, no search finds less than the worst.

Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018; that the best point is
kept, that steps begin with the ball's diameter and become smaller, and the momentum, after Croce and Hein, "Reliable
Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks", ICML 2020. Their Auto-PGD
halves its steps by rules that look at the progress made, and at how many steps are to come. Steps here shrink without
looking, and find as much (`tests/test_attack_step_rule.py`).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from menet_jax.robustness.jacobian.image_function import as_tree, check_image, exact
from menet_jax.runtime.devices import on_device

Objective = Callable[[jax.Array], jax.Array]
"""Image (H, W, 3), float, range 0…255 → a number that the attack raises."""


State = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
"""The image now and a step before, the best so far, and its value."""

AHEAD = 0.75
"""α: share of a step that goes along the gradient; the rest goes on as the step before did."""


class Ball(NamedTuple):
    """All changes of an image up to a length.

    Attributes:
        length: change → its length, in gray levels.
        steepest: gradient → the change of length 1 that raises a linear function most.
        shorten: change, radius → the nearest change that is no longer than that, value by value no larger.
        gray_level: number of values → the length of a change of one gray level; in L2, of one in the root mean square.
        noise: random key, shape → random change of about one gray level.
    """

    length: Callable[[jax.Array], jax.Array]
    steepest: Callable[[jax.Array], jax.Array]
    shorten: Callable[[jax.Array, jax.Array], jax.Array]
    gray_level: Callable[[int], float]
    noise: Callable[[jax.Array, tuple[int, ...]], jax.Array]


def _euclidean(change: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(change * change))


def _unit(gradient: jax.Array) -> jax.Array:
    length = _euclidean(gradient)
    return gradient / jnp.where(length == 0, 1, length)


L2 = Ball(
    length=_euclidean,
    steepest=_unit,
    shorten=lambda change, radius: _unit(change) * jnp.minimum(_euclidean(change), radius),
    gray_level=math.sqrt,
    noise=jax.random.normal,
)
"""Changes by their Euclidean length over all values of the image."""

LINF = Ball(
    length=lambda change: jnp.max(jnp.abs(change)),
    steepest=jnp.sign,
    shorten=lambda change, radius: jnp.clip(change, -radius, radius),
    gray_level=lambda values: 1.0,
    noise=partial(jax.random.uniform, minval=-1.0, maxval=1.0),
)
"""Changes by their largest value."""


class Attack(NamedTuple):
    """The worst that was found.

    Attributes:
        image: the changed image, in 0…255 and within the radius.
        value: the objective there.
        values: the highest value after each step, of each start; none of them ever falls.
    """

    image: Float[Array, "h w 3"]
    value: Float[Array, ""]
    values: Float[Array, "starts steps+1"]


def attack(
    objective: Objective,
    image: Float[Array | np.ndarray, "h w 3"],
    ball: Ball,
    radius: float,
    starts: Float[Array | np.ndarray, "starts h2 w2 3"],
    *,
    steps: int,
) -> Attack:
    """Raise an objective by changing an image within a ball.

    With P into the ball and 0…255, step t goes to `z = P(x + (2 · radius / √(t + 1)) · steepest)`, and on with momentum
    to `P(x + α (z − x) + (1 − α) (x − x of the step before))`, α = 0.75, but 1 at first. Nothing depends on how many
    steps or starts follow: more of them never find less.

    Args:
        objective: image → number.
        image: range 0…255.
        ball: `L2` or `LINF`.
        radius: how long a change may be, in gray levels.
        starts: changes to begin with, of any length; they are brought into the ball. The objective's gradient should
            not be zero there, as that of a distance is at the image itself.
        steps: how many.

    Raises:
        TypeError, ValueError: the image is not (H, W, 3), float, finite and in 0…255, the starts do not fit it, or a
            setting is not positive.

    >>> import numpy as np
    >>> image, start = np.full((2, 2, 3), 100.0, np.float32), np.zeros((1, 2, 2, 3), np.float32)
    >>> found = attack(lambda image: image.sum(), image, LINF, 2.0, start, steps=4)
    >>> float(found.value), float(found.image.max())
    (1224.0, 102.0)
    """
    _check(image, starts, radius, steps)
    radius_, starts_ = image.dtype.type(radius), starts.astype(image.dtype)
    return _attack(as_tree(objective), on_device(image), radius_, starts_, ball, steps)


def attack_each(
    objective_of: Callable[[Any], Objective],
    targets: Any,
    images: Float[Array | np.ndarray, "n h w 3"],
    ball: Ball,
    radius: float,
    starts: Float[Array | np.ndarray, "n starts h2 w2 3"],
    *,
    steps: int,
) -> Attack:
    """As `attack`, of several images at once; what is found has a leading axis, and is of each image what it is alone.

    Args:
        objective_of: target → objective of its image.
        targets: what tells the images' objectives apart, a pytree of arrays with a leading axis.
        images, ball, radius, starts, steps: as `attack`, with a leading axis.

    Raises:
        TypeError, ValueError: as `attack`.

    >>> import numpy as np
    >>> images, starts = np.full((2, 2, 2, 3), 100.0, np.float32), np.zeros((2, 1, 2, 2, 3), np.float32)
    >>> signs = np.array([1.0, -1.0], np.float32)
    >>> found = attack_each(lambda sign: lambda image: sign * image.sum(), signs, images, LINF, 2.0, starts, steps=4)
    >>> found.value.tolist()
    [1224.0, -1176.0]
    """
    for image, several in zip(images, starts, strict=True):
        _check(image, several, radius, steps)
    radius_, starts_ = images.dtype.type(radius), starts.astype(images.dtype)
    return _attack_each(as_tree(objective_of), targets, on_device(images), radius_, starts_, ball, steps)


def _check(
    image: Float[Array | np.ndarray, "h w 3"], starts: Float[Array | np.ndarray, "..."], radius: float, steps: int
) -> None:
    check_image(image)
    if not (np.asarray(image).min() >= 0 and np.asarray(image).max() <= 255):
        raise ValueError("want an image in 0 ... 255")
    if starts.ndim != 4 or starts.shape[1:] != image.shape or not len(starts):
        raise ValueError(f"want starts of shape (n, {', '.join(map(str, image.shape))}), got {starts.shape}")
    if not 0 < radius < float("inf") or steps < 1:
        raise ValueError(f"want a positive radius and at least one step, got {radius} and {steps}")


def random_starts(key: jax.Array, image: Float[Array | np.ndarray, "h w 3"], count: int) -> Float[Array, "n h w 3"]:
    """Normal noise of variance 1; start i depends on the key and i alone."""
    draw = partial(jax.random.normal, shape=image.shape, dtype=image.dtype)
    return jax.vmap(lambda index: draw(jax.random.fold_in(key, index)))(jnp.arange(count))


def within(image: Float[Array, "h w 3"], change: Float[Array, "h w 3"], ball: Ball, radius: jax.Array) -> jax.Array:
    """The image, changed in that direction as far as the ball and 0…255 allow.

    What is cut off at 0 or 255 only shortens a change, and so does what brings it into the ball.
    """
    clipped = jnp.clip(image + change, 0, 255) - image
    return jnp.clip(image + ball.shorten(clipped, radius), 0, 255)


def _climb(
    objective: Objective, image: jax.Array, radius: jax.Array, starts: jax.Array, ball: Ball, steps: int
) -> Attack:
    value_and_gradient = jax.value_and_grad(objective)

    def step(state: State, t: jax.Array) -> tuple[State, jax.Array]:
        now, before, best, highest = state
        value, gradient = value_and_gradient(now)
        best, highest = jnp.where(value > highest, now, best), jnp.maximum(highest, value)
        length = 2 * radius / jnp.sqrt(t + 1)
        ahead = within(image, now - image + length * ball.steepest(gradient), ball, radius)
        share = jnp.where(t == 0, 1, AHEAD)
        change = now - image + share * (ahead - now) + (1 - share) * (now - before)
        return (within(image, change, ball, radius), now, best, highest), highest

    def climb(start: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        length = ball.length(start)
        first = within(image, start * radius / jnp.where(length == 0, 1, length), ball, radius)
        begin = (first, first, first, jnp.full((), -jnp.inf, image.dtype))
        (last, _, best, highest), values = jax.lax.scan(step, begin, jnp.arange(steps, dtype=image.dtype))
        value = objective(last)
        best, highest = jnp.where(value > highest, last, best), jnp.maximum(highest, value)
        return best, highest, jnp.append(values, highest)

    images, highest, values = jax.vmap(climb)(starts)
    worst = jnp.argmax(highest)
    return Attack(images[worst], highest[worst], values)


@partial(jax.jit, static_argnames=("ball", "steps"))
@exact
def _attack_each(
    objective_of: Callable[[Any], Objective],
    targets: Any,
    images: jax.Array,
    radius: jax.Array,
    starts: jax.Array,
    ball: Ball,
    steps: int,
) -> Attack:
    def one(target: Any, image: jax.Array, starts: jax.Array) -> Attack:
        return _climb(objective_of(target), image, radius, starts, ball, steps)

    return jax.vmap(one)(targets, images, starts)


_attack = jax.jit(exact(_climb), static_argnames=("ball", "steps"))
