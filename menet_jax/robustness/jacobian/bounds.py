"""The certified bound J̄ ≥ |J| of a network's Jacobian at every image (Eq. 13), and its norms.

J̄ is the Jacobian of the same module with linear activations and absolute weights: convolutions and batch
normalisation in evaluation mode contribute their |weights|, the derivatives of ReLU and tanh are at most 1, and
biases and means drop out. That network is linear, so applying it is multiplying with J̄, and no norm needs J̄ itself.
Every norm of J̄ is a Lipschitz constant, `‖F(x+Δ) − F(x)‖ ≤ ‖J̄‖·‖Δ‖` for all x and Δ.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, path_aware_map
from jaxtyping import Array, Float

from menet_jax.model.menet import DEPTH
from menet_jax.model.outputs import Outputs
from menet_jax.robustness.jacobian import image_function
from menet_jax.robustness.jacobian.image_function import (
    ImageMap,
    NetworkMap,
    Output,
    Pooled,
    as_tree,
    norm,
    pull_back,
    push_forward,
)

PAPER_SOFTMAX = 1.0
"""The paper's bound on a derivative of the softmax."""

TIGHT_SOFTMAX = 0.25
"""The largest derivative of a softmax over two classes, p·(1 − p) at p = ½."""

HALVINGS = (0, 50, 100)
"""Numbers of halvings of a vector before J̄ multiplies it, tried in turn until float32 does not overflow."""

FLOOR = np.float32(1e-6)
"""Smallest element of a vector that J̄ multiplies, relative to its largest."""


class BoundNorms(NamedTuple):
    """Norms of J̄, each at least that of J at any image; `margin` is included.

    Attributes:
        one: ‖J̄‖₁, the largest column sum: bounds Σ|ΔF| by Σ|Δ|.
        infinity: ‖J̄‖_∞, the largest row sum: bounds max|ΔF| by max|Δ|.
        two: the lower of the two bounds on ‖J̄‖₂ that follow.
        collatz_wielandt: √(max_i (J̄ᵀJ̄v)_i / v_i), a bound for any v > 0; of the v of all iterations, the lowest.
        schur: √(‖J̄‖₁·‖J̄‖_∞).
        two_at_least: ‖J̄v‖/‖v‖. ‖J̄‖₂ lies between it and `two`, so it tells how much is lost there; it bounds no J.
        iterations: products with J̄ᵀJ̄.
        margin: relative rounding error of a product that the bounds allow for.
    """

    one: float
    infinity: float
    two: float
    collatz_wielandt: float
    schur: float
    two_at_least: float
    iterations: int
    margin: float


def bounding_map(f: ImageMap, *, softmax: float = TIGHT_SOFTMAX) -> ImageMap:
    """The linear map v ↦ J̄v with `|J(x)| ≤ J̄` element by element, at every image x of any size.

    It holds for the outputs `probability`, `logit_margin` and `features` of MENet, and for pooled ones; and for every
    other module of convolutions, batch normalisations, sums and activations of slope 0 to 1 that has the fields
    `relu`, `tanh` and `dtype` as MENet does. (`rounding_margin`, and with it `bound_norms`, allows for enlarging by as
    much as MENet does, and by no more.)

    Args:
        f: what to bound, of `network_map` and `pooled`.
        softmax: bound on the derivatives of the probability by the two logits; `TIGHT_SOFTMAX` or `PAPER_SOFTMAX`.

    Raises:
        ValueError: the softmax factor is below ¼, which bounds nothing; or the output has no such bound. The metric
            map has none: normalising a feature to unit length magnifies changes by 1/‖f‖, min-max normalising the map
            by one over its range, and a pixel that changes class moves the expected background by a jump.
        TypeError: it is another kind of function, or a network of another kind.
    """
    if not softmax >= TIGHT_SOFTMAX:
        raise ValueError(f"derivatives of a softmax reach {TIGHT_SOFTMAX}, so a factor of {softmax} bounds nothing")
    if isinstance(f, Pooled):
        return Pooled(bounding_map(f.f, softmax=softmax), f.cells)
    if not isinstance(f, NetworkMap):
        raise TypeError(f"only maps of a network can be bounded, this is {f!r}")
    if not {"relu", "tanh", "dtype"} <= vars(f.network).keys():
        kind = type(f.network).__name__
        raise TypeError(
            f"{kind} cannot be bounded: its ReLUs cannot be taken out. A MENet can, or a network of yours with "
            "the fields relu, tanh and dtype"
        )
    precision = jnp.float64 if f.network.dtype == jnp.float64 else jnp.float32
    network = f.network.clone(relu=linear, tanh=linear, dtype=precision)
    return NetworkMap(absolute(f.variables), network, _bounding_output(f.output, softmax))


def bound_norms(
    f: ImageMap,
    shape: tuple[int, int],
    *,
    softmax: float = TIGHT_SOFTMAX,
    tolerance: float = 1e-2,
    max_iterations: int = 100,
) -> BoundNorms:
    """Norms of J̄ (Eq. 13), certified: Lipschitz constants of `f` over all images of one size.

    Args:
        f: what to bound, as for `bounding_map`.
        shape: height and width of the images.
        softmax: as for `bounding_map`.
        tolerance: stop where the 2-norm is known to within this, relatively, but for the margins.
        max_iterations: or after so many products with J̄ᵀJ̄.

    Raises:
        TypeError, ValueError: as `bounding_map`.
        OverflowError: the norms are beyond float32 even with vectors scaled down.

    >>> from menet_jax import MENet, bound_norms, network_map
    >>> from menet_jax.model.initialisation import initial_variables
    >>> f = network_map(MENet(width=1), initial_variables(MENet(width=1), seed=0))
    >>> norms = bound_norms(f, (224, 224), max_iterations=2)
    >>> norms.two >= norms.two_at_least > 0
    True
    """
    return nonnegative_norms(
        bounding_map(f, softmax=softmax),
        shape,
        rounding_margin(f, shape),
        tolerance=tolerance,
        max_iterations=max_iterations,
    )


def nonnegative_norms(
    multiply: ImageMap, shape: tuple[int, int], margin: float, *, tolerance: float = 1e-2, max_iterations: int = 100
) -> BoundNorms:
    """Norms of any matrix A ≥ 0 that is given as a linear map `v ↦ Av` of images, from above.

    `‖A‖_∞ = max A·1`, `‖A‖₁ = max Aᵀ·1`, and by Collatz and Wielandt `ρ(AᵀA) ≤ max_i (AᵀAv)_i / v_i` for every v > 0.
    v follows the power iteration from 1; what sinks below a millionth of its
    largest element is held there, because any v > 0 will do, and pixels without influence (a column of zeros)
    are left out, because without them AᵀA has the same norm.

    Args:
        multiply: v ↦ Av, linear, no negative weights anywhere in it.
        shape: height and width of v.
        margin: relative rounding error of a product with A, or with its transpose.
        tolerance, max_iterations: as `bound_norms`.

    Raises:
        OverflowError: as `bound_norms`.
        ValueError: the margin is not in [0, 1), or a setting not positive; or it shows that A has negative elements.
    """
    if not 0 <= margin < 1 or not tolerance > 0 or max_iterations < 1:
        raise ValueError(f"cannot bound with margin {margin}, tolerance {tolerance}, {max_iterations} iterations")
    multiply, up = as_tree(multiply), (1 + 1e-12) / (1 - margin)  # the little is for the divisions and roots here
    v = np.ones((*shape, 3), np.float32)

    def product(vector: np.ndarray) -> jax.Array:
        return push_forward(multiply, vector)

    def transposed(vector: np.ndarray) -> jax.Array:
        return pull_back(multiply, v, vector)

    image, halvings = _scaled(product, v)
    infinity = math.ldexp(float(image.max()), halvings) * up
    columns, halvings = _scaled(transposed, np.ones_like(image))
    one = math.ldexp(float(columns.max()), halvings) * up
    influential = columns > 0
    if not influential.any():
        return BoundNorms(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, margin)

    highest, lowest, iterations = math.inf, 0.0, 0
    while highest > lowest * (1 + tolerance) * up**2 and iterations < max_iterations:
        image, first = _scaled(product, v)
        lowest = max(lowest, math.ldexp(norm(image) / norm(v[influential]), first) / up)
        exponent = int(np.frexp(image.max())[1])  # a power of two, for a division that rounds nothing down
        # Raising small elements keeps them from being lost to underflow, and raises the bound if anything.
        back, second = _scaled(transposed, np.maximum(np.ldexp(image, -exponent), FLOOR))
        ratio = math.ldexp(float((back[influential].astype(np.float64) / v[influential]).max()), exponent)
        highest = min(highest, math.ldexp(math.sqrt(ratio), (first + second) // 2) * up)
        v = np.maximum(back / back.max(), FLOOR)
        iterations += 1
        if lowest > highest or image.min() < 0 or back.min() < 0:
            raise ValueError(
                "the map that was to be bounded has negative elements, or its rounding margin is too small"
            )
    schur = math.sqrt(one) * math.sqrt(infinity)
    return BoundNorms(one, infinity, min(highest, schur), highest, schur, lowest, iterations, margin)


def rounding_margin(f: ImageMap, shape: tuple[int, int]) -> float:
    """Relative error that rounding can make in a product with J̄ or J̄ᵀ: `γ = n·u / (1 − n·u)`, u the unit roundoff.

    A sum of products of numbers that are not negative is out by γ_n at most, n the longest chain of roundings, in
    whatever order it is summed (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1). The chain
    is not longer than all layers' sums one after another. Two things are not in it: convolutions computed by other
    means than sums of products (Winograd's or Fourier's, which a GPU's library may choose), and values below float32's
    normal range, 1e-38.

    Raises:
        TypeError: it is not a map of a network.
        ValueError: sums are so long that no digit is certain.
    """
    if isinstance(f, Pooled):
        inner, terms = rounding_margin(f.f, shape), shape[0] * shape[1] // f.cells**2
        return inner + (1 + inner) * _gamma(terms + 2)
    if not isinstance(f, NetworkMap):
        raise TypeError(f"only maps of a network can be bounded, this is {f!r}")
    kernels = [leaf.shape for path, leaf in flatten_dict(f.variables["params"]).items() if path[-1] == "kernel"]
    terms = sum(rows * columns * max(inputs, outputs) + 16 for rows, columns, inputs, outputs in kernels)
    return _gamma(terms + 4 ** (DEPTH + 1))  # the transpose of enlarging sums over blocks


def absolute(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of the bounding network: |kernels| and |scales|, biases and means 0, variances as they are.

    Raises:
        ValueError: there is a variable of another kind.
    """

    def bounding(path: tuple[Any, ...], leaf: np.ndarray) -> np.ndarray:
        match path[-1]:
            case "kernel" | "scale":
                return np.abs(leaf)
            case "bias" | "mean":
                return np.zeros_like(leaf)
            case "var":
                return np.array(leaf)
        raise ValueError(f"do not know how to bound the variable {'/'.join(path)}")

    # On the host, where nothing is compiled for each shape.
    return dict(jax.device_put(path_aware_map(bounding, jax.device_get(variables))))


def linear(x: jax.Array) -> jax.Array:
    """The activation of the bounding network."""
    return x


@dataclass(frozen=True)
class _SumOfLogits:
    """Bounds what depends on the two logits with derivatives up to `factor`."""

    factor: float

    def __call__(self, outputs: Outputs) -> Float[Array, "h w"]:
        return self.factor * (outputs.logits[..., 0] + outputs.logits[..., 1])


def _bounding_output(output: Output, softmax: float) -> Output:
    if output is image_function.features:
        return output
    if output is image_function.logit_margin:
        return _SumOfLogits(1.0)
    if output is image_function.probability:
        return _SumOfLogits(softmax)
    if output is image_function.metric:
        raise ValueError(
            "the metric map has no bound that holds at every image: scaling a feature f to unit length magnifies "
            "changes by 1/‖f‖, and min-max normalising the map by one over its range, both without limit. "
            "Bound the probability, the logit margin or the features."
        )
    raise ValueError(f"do not know how to bound the output {output!r}; known are probability, logit_margin, features")


def _scaled(multiply: Callable[[np.ndarray], jax.Array], vector: np.ndarray) -> tuple[np.ndarray, int]:
    """The product with the vector halved n times, and the n from `HALVINGS` that keeps it finite."""
    for halvings in HALVINGS:
        product = np.asarray(multiply(np.ldexp(vector, -halvings)))
        if np.isfinite(product).all():
            return product, halvings
    raise OverflowError(
        f"the bound is beyond {np.finfo(product.dtype).dtype}, even for vectors scaled by 2^-{HALVINGS[-1]}: the "
        "weights' absolute values multiply to more than 1e68. Use float64 variables and network."
    )


def _gamma(terms: int) -> float:
    product = terms * float(np.finfo(np.float32).eps) / 2
    if product >= 0.5:
        raise ValueError(f"sums of {terms} terms leave no digit certain in float32")
    return product / (1 - product)
