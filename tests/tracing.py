"""What programs are made of, as JAX traces them."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """Every equation of a jaxpr, those of inner ones too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                if isinstance(inner, ClosedJaxpr):
                    yield from equations(inner.jaxpr)
                elif isinstance(inner, Jaxpr):
                    yield from equations(inner)


def gathers_or_scatters(function: Callable[..., jax.Array], *args: jax.Array) -> bool:
    """Whether the function or its gradient reads or writes by index."""

    def total(*args: jax.Array) -> jax.Array:
        return jnp.sum(function(*args) ** 2)

    jaxpr = jax.make_jaxpr(jax.grad(total, argnums=tuple(range(len(args)))))(*args).jaxpr
    return any("gather" in e.primitive.name or "scatter" in e.primitive.name for e in equations(jaxpr))
