"""The functions that are differentiated: from one image to a map, of a network or anything else (F of Section III-D).

Everything in `norms`, `spectral`, `directions` and `sensitivity` takes any function of a float image (H, W, 3),
range 0…255, that returns one float array. `network_map` makes one of a network and one of its outputs; the
network's variables then travel as arguments of the compiled programs, not as constants in them.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from menet_jax.model import saliency
from menet_jax.model.outputs import Outputs
from menet_jax.runtime.devices import on_device

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

ImageMap = Callable[[jax.Array], jax.Array]
"""Image (H, W, 3), float → map, float of any shape."""

Output = Callable[[Outputs], jax.Array]
"""A network's outputs of one image, without batch dimension → map."""


def probability(outputs: Outputs) -> Float[Array, "h w"]:
    """`softmax(logits)[salient]`, in [0, 1]: the probability map of Section III-C."""
    return saliency.probability_map(outputs.logits)


def logit_margin(outputs: Outputs) -> Float[Array, "h w"]:
    """`logits[salient] − logits[background]`, unbounded; its logistic function is the probability."""
    return outputs.logits[..., 1] - outputs.logits[..., 0]


def features(outputs: Outputs) -> Float[Array, "h w 16"]:
    """The points in the metric space, each coordinate in [−1, 1].

    Raises:
        ValueError: the network has no metric space.
    """
    if outputs.features is None:
        raise ValueError("this network has no metric space, and so no features and no metric map")
    return outputs.features


def metric(outputs: Outputs) -> Float[Array, "h w"]:
    """The metric map (Eq. 5), in [0, 1], from the background at the border, as of all networks that were trained with
    cross entropy. Its Jacobian is that of almost every image: where a pixel changes class, or another one becomes the
    lowest or highest, the map is not differentiable.
    """
    return saliency.metric_map(features(outputs), outputs.logits)


def finite(derivatives: jax.Array) -> np.ndarray:
    """Products with a Jacobian in float64, on the host; ValueError where one is not finite."""
    if not np.isfinite(array := np.asarray(derivatives, np.float64)).all():
        raise ValueError("the Jacobian at this image is not finite")
    return array


def norm(x: np.ndarray) -> float:
    """‖x‖₂ over all values, summed in float64."""
    return float(np.linalg.norm(x.ravel().astype(np.float64)))


Report = Callable[[int], object]
"""A function called after each of many products with their number: for progress, or to end the work by raising."""


def exact(program: Callable[P, T]) -> Callable[P, T]:
    """The program without rounding of products to 10 bits, as GPUs do it: with that, a Jacobian and its transpose no
    longer fit each other.
    """

    @wraps(program)
    def exactly(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.default_matmul_precision("highest"):
            return program(*args, **kwargs)

    return exactly


class NetworkMap(struct.PyTreeNode):
    """An output of a network as a function of one image. `network_map` makes one."""

    variables: Mapping[str, Any]
    network: nn.Module = struct.field(pytree_node=False)
    output: Output = struct.field(pytree_node=False)

    @exact
    def __call__(self, image: Float[Array, "h w 3"]) -> jax.Array:
        outputs = self.network.apply(self.variables, image[None])
        return self.output(jax.tree.map(lambda each: each[0], outputs))


class Pooled(struct.PyTreeNode):
    """A map's means over a grid of cells, as a function of one image. `pooled` makes one."""

    f: ImageMap
    cells: int = struct.field(pytree_node=False)

    def __call__(self, image: Float[Array, "h w 3"]) -> Float[Array, "g g *rest"]:
        full = self.f(image)
        if full.ndim < 2 or full.shape[0] % self.cells or full.shape[1] % self.cells:
            raise ValueError(
                f"cannot pool a map of shape {full.shape} onto {self.cells}×{self.cells} cells: "
                "want (height, width, ...) with both sides divisible by it"
            )
        rows, columns = full.shape[0] // self.cells, full.shape[1] // self.cells
        return full.reshape(self.cells, rows, self.cells, columns, *full.shape[2:]).mean((1, 3))


def network_map(network: nn.Module, variables: Mapping[str, Any], output: Output = probability) -> NetworkMap:
    """One output of a network with fixed statistics, as a function of one image.

    Args:
        network: MENet, or another module that returns `Outputs`; applied in evaluation mode.
        variables: its `params` and `batch_stats`.
        output: which one; `probability`, `logit_margin`, `features`, `metric` or one's own.

    Raises:
        ValueError: a variable has values that are not finite; the text names them.

    >>> import jax, jax.numpy as jnp
    >>> from menet_jax import MENet, network_map
    >>> from menet_jax.model.initialisation import initial_variables
    >>> f = network_map(MENet(width=1), initial_variables(MENet(width=1), seed=0))
    >>> jax.eval_shape(f, jnp.zeros((224, 224, 3))).shape
    (224, 224)
    """
    paths = jax.tree_util.tree_leaves_with_path(variables)
    bad = [jax.tree_util.keystr(path) for path, leaf in paths if not np.isfinite(leaf).all()]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise ValueError(f"the network has values that are not finite, in {', '.join(bad[:3])}{more}")
    return NetworkMap(jax.tree.map(on_device, variables), network, output)


def pooled(f: ImageMap, cells: int) -> Pooled:
    """The means of `f`'s map over a grid of `cells` × `cells`, as a function of one image.

    Raises:
        ValueError: there is less than one cell; later, when it is called, a side of the map is not divisible.
    """
    if cells < 1:
        raise ValueError(f"want at least one cell a side, got {cells}")
    return Pooled(as_tree(f), cells)


def as_tree(f: F) -> F:
    """`f` as a pytree that `jax.jit` takes as an argument, and never for another kind of function.

    JAX (0.10 at least) compares the structures of registered data classes by their fields, not by their classes. Of two
    classes with the same fields one would be computed by the other's program, whenever their hashes collide. A
    `Partial` is compared by its function too, and the maps of this module by their static fields.
    """
    if jax.tree_util.all_leaves([f]):
        return cast(F, jax.tree_util.Partial(f))
    if isinstance(f, jax.tree_util.Partial | NetworkMap | Pooled):
        return f
    return cast(F, jax.tree_util.Partial(type(f).__call__, f))


def checked(f: ImageMap, image: jax.Array | np.ndarray) -> tuple[ImageMap, Float[Array, "h w 3"]]:
    """`f` as a pytree and the image on the device, both found fit to differentiate; nothing is computed.

    Raises:
        TypeError: the image is not of a float type, or `f` does not return one array of a float type.
        ValueError: the image is not (H, W, 3) or has values that are not finite, or `f`'s map is empty.
    """
    check_image(image)
    f, x = as_tree(f), on_device(image)
    output = evaluate.eval_shape(f, x)
    if not isinstance(output, jax.ShapeDtypeStruct):
        raise TypeError(f"want a function that returns one array, this one returns {output!r}")
    if not jnp.issubdtype(output.dtype, jnp.floating):
        raise TypeError(f"only maps of a float type can be differentiated, this one is {output.dtype}")
    if not output.size:
        raise ValueError(f"the function's map is empty: its shape is {output.shape}")
    return f, x


def check_image(image: jax.Array | np.ndarray) -> None:
    """Raise TypeError unless the image is of a float type, ValueError unless it is (H, W, 3) and finite."""
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(f"want a float image, range 0 ... 255, to differentiate at; this one is {image.dtype}")
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"want an image of (height, width, 3), got shape {image.shape}")
    bad = int(np.count_nonzero(~np.isfinite(np.asarray(image))))
    if bad:
        raise ValueError(f"the image has {bad} values that are not finite")


@jax.jit
@exact
def evaluate(f: ImageMap, image: Float[Array, "h w 3"]) -> Any:
    """`f(image)`, compiled once for each kind of f and shape of image."""
    return f(image)


class Linearised(NamedTuple):
    """A function's value at an image, and its Jacobian J there as products.

    Attributes:
        value: f(x).
        push: v ↦ Jv, as `jax.linearize` gives it.
        image: x.
    """

    value: jax.Array
    push: ImageMap
    image: Float[Array, "h w 3"]

    def jvp(self, direction: jax.Array | np.ndarray) -> jax.Array:
        """Jv, of the map's shape, for v (H, W, 3)."""
        return push_forward(self.push, direction.astype(self.image.dtype))

    def vjp(self, cotangent: jax.Array | np.ndarray) -> Float[Array, "h w 3"]:
        """Jᵀu for u of the map's shape."""
        return pull_back(self.push, self.image, cotangent.astype(self.value.dtype))


def linearise(f: ImageMap, image: jax.Array | np.ndarray) -> Linearised:
    """The value and the Jacobian of `f` at an image, ready to multiply with.

    Like `jax.jvp` and `jax.vjp`, but f itself is computed once however many products follow, and the three programs
    (this one and those of the two products) are compiled once for each kind of f and shape of image and serve
    everything that is asked of J.

    Raises:
        TypeError, ValueError: as `checked`.
    """
    f, x = checked(f, image)
    value, push = linearise_program(f, x)
    return Linearised(value, push, x)


@jax.jit
@exact
def linearise_program(f: ImageMap, image: Float[Array, "h w 3"]) -> tuple[jax.Array, ImageMap]:
    """f(x), and v ↦ Jv with all that it keeps of x."""
    return jax.linearize(f, image)


@jax.jit
@exact
def push_forward(push: ImageMap, direction: Float[Array, "h w 3"]) -> jax.Array:
    """Jv."""
    return push(direction)


@jax.jit
@exact
def pull_back(push: ImageMap, like: Float[Array, "h w 3"], cotangent: jax.Array) -> Float[Array, "h w 3"]:
    """Jᵀu, of the shape of `like`."""
    return jax.linear_transpose(push, like)(cotangent)[0]
