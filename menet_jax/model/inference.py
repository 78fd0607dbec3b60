"""From images to both saliency maps, on one device or on several."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from menet_jax.model.menet import MENet, Outputs
from menet_jax.model.saliency import Region, border_background, metric_map, probability_map
from menet_jax.runtime.devices import share

Params = dict[str, Any]


class Maps(NamedTuple):
    """Saliency maps in [0, 1] (Section III-C)."""

    metric: Float[Array | np.ndarray, "*b h w"]
    probability: Float[Array | np.ndarray, "*b h w"]


def eval_step(
    net: MENet,
    variables: Mapping[str, Params],
    images: UInt8[Array, "b h w 3"],
    region: Region = border_background,
) -> Maps:
    """Both saliency maps of every image."""
    return outputs_and_maps(net, variables, images, region)[1]


def outputs_and_maps(
    net: MENet,
    variables: Mapping[str, Params],
    images: UInt8[Array, "b h w 3"],
    region: Region = border_background,
) -> tuple[Outputs, Maps]:
    """All that the network says of every image, and both saliency maps."""
    outputs: Any = net.apply(variables, images.astype(jnp.float32))
    metric = jax.vmap(partial(metric_map, region=region))(outputs.features, outputs.logits)
    return outputs, Maps(metric, probability_map(outputs.logits))


def mapped_eval_step(net: MENet, region: Region, devices: Sequence[jax.Device]) -> Any:
    """`eval_step` under `pmap`: variables and images carry a leading device axis."""
    return jax.pmap(partial(eval_step, net, region=region), devices=devices)


def map_evaluation(
    net: MENet, region: Region, devices: Sequence[jax.Device]
) -> Callable[[Mapping[str, Params], UInt8[np.ndarray, "b h w 3"]], Maps]:
    """A function of variables, which carry a leading device axis, and of images, which it shares out among the devices.

    Args:
        net: the network.
        region: from where the metric map measures.
        devices: of this process; no other process need take part.
    """
    evaluate = mapped_eval_step(net, region, devices)

    def evaluate_shares(variables: Mapping[str, Params], images: np.ndarray) -> Maps:
        maps = evaluate(variables, share(images, len(devices)))
        return Maps(*(np.asarray(m).reshape(-1, *m.shape[2:]) for m in maps))

    return evaluate_shares
