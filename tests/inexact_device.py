"""A device that rounds as GPUs do, simulated: what a function gives there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

TWICE = {"max", "min", "reduce_max", "reduce_min", "gather", "dynamic_slice"}
"""Operations whose result is one of their operands, which a compiler may compute twice."""


def inexact(function: Callable[..., Any], *values: jax.Array, quotients: int = 0, again: int = 0) -> np.ndarray:
    """`function(*values)`, an array, where quotients are so many units in the last place too large, and an operand that
    is computed again is so many larger than it was.

    The first is at most 2 in CUDA's `div.full.f32`, by which XLA divides on a GPU. The second is what XLA makes of two
    copies of a computation in programs that it fuses differently (github.com/jax-ml/jax/issues/40564).
    """
    closed = jax.make_jaxpr(function)(*values)
    [result] = jax.jit(lambda *values: _evaluate(closed.jaxpr, closed.consts, values, quotients, again))(*values)
    return np.asarray(result)


def _evaluate(jaxpr: Any, constants: Any, values: Any, quotients: int, again: int) -> list[Any]:
    held: dict[Any, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *values), strict=True))
    for equation in jaxpr.eqns:
        given = [held[each] if isinstance(each, jax.extend.core.Var) else each.val for each in equation.invars]
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        name = equation.primitive.name
        if inner is not None:
            found = _evaluate(inner.jaxpr, inner.consts, given, quotients, again)
        else:
            results = equation.primitive.bind(*given, **equation.params)
            found = list(results) if equation.primitive.multiple_results else [results]
        units = quotients if name == "div" else again if name in TWICE else 0
        if units and jnp.issubdtype(found[0].dtype, jnp.floating):
            found = [_moved(each, units) for each in found]
        held |= dict(zip(equation.outvars, found, strict=True))
    return [held[each] if isinstance(each, jax.extend.core.Var) else each.val for each in jaxpr.outvars]


def _moved(x: jax.Array, units: int) -> jax.Array:
    """Each number so many units in the last place larger, or, of a negative count, smaller; zero stays."""
    for _ in range(abs(units)):
        x = jnp.where(x == 0, x, jnp.nextafter(x, jnp.full_like(x, jnp.inf if units > 0 else -jnp.inf)))
    return x
