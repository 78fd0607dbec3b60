"""Outputs of a network for every pixel."""

from typing import NamedTuple

from jaxtyping import Array, Float


class Outputs(NamedTuple):
    """Outputs of a network for every pixel; all float32 (float64 of a network that computes in that).

    Attributes:
        features: point in the metric space, each coordinate in [−1, 1] (not of unit length); None of a network without
            a metric space.
        logits: class scores; channel 0 = background, 1 = salient.
        scales: MENet's 13 scale maps in the order image, encoder 0…5, decoder 0…4, bottleneck; None without
            `multi_scale`, and of other networks.
    """

    features: Float[Array, "b h w 16"] | None
    logits: Float[Array, "b h w 2"]
    scales: Float[Array, "b h w 13"] | None = None


def check_sides(network: str, height: int, width: int, *, smallest: int, step: int) -> None:
    """Raise ValueError unless both sides are at least `smallest` and divisible by `step`, naming the nearest good
    size.
    """
    good = [max(smallest, (side + step // 2) // step * step) for side in (height, width)]
    if good != [height, width]:
        raise ValueError(
            f"{network} takes images whose height and width are at least {smallest} and divisible by {step}; "
            f"got {height}×{width}. The nearest good size is {good[0]}×{good[1]}."
        )
