"""Auto-PGD, step by step as in Algorithm 1 of its paper, to compare the search of `robustness attack` with.

Source: Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
Attacks", ICML 2020.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from menet_jax.robustness.attack.ascent import Ball, within

MOMENTUM, RISES = 0.75, 0.75
"""α and ρ."""


def checkpoints(steps: int) -> list[int]:
    """⌈p_j · N⌉ with p₀ = 0, p₁ = 0.22, p_j+1 = p_j + max(p_j − p_j−1 − 0.03, 0.06)."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return [math.ceil(round(share * steps, 9)) for share in shares]


def apgd(
    value_and_gradient: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    image: np.ndarray,
    ball: Ball,
    radius: float,
    start: np.ndarray,
    steps: int,
) -> float:
    """The highest value found from one start, with `steps + 1` gradients."""
    x, ends = jnp.asarray(image), checkpoints(steps)

    def projected(to: jax.Array) -> jax.Array:
        return within(x, to - x, ball, jnp.float32(radius))

    eta, before = 2 * radius, projected(x + start * (radius / float(ball.length(jnp.asarray(start)))))
    value, gradient = value_and_gradient(before)
    now = projected(before + eta * ball.steepest(gradient))
    best, best_image, values = float(value), before, [float(value)]
    eta_then, best_then = eta, best
    for k in range(1, steps + 1):
        value, gradient = value_and_gradient(now)
        values.append(float(value))
        if values[-1] > best:
            best, best_image = values[-1], now
        ahead = projected(now + eta * ball.steepest(gradient))
        following = projected(now + MOMENTUM * (ahead - now) + (1 - MOMENTUM) * (now - before))
        before, now = now, following
        if k in ends:
            period = k - ends[ends.index(k) - 1]
            rises = sum(values[i + 1] > values[i] for i in range(k - period, k))
            halve = rises < RISES * period or (eta == eta_then and best == best_then)
            eta_then, best_then = eta, best
            if halve:
                eta, now = eta / 2, best_image
    return best
