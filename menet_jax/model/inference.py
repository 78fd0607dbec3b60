"""Saliency maps of images: of a batch, on one device or on several, and of a stream of single images."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from functools import cache, partial
from itertools import repeat
from operator import itemgetter
from typing import Any, Literal, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from menet_jax.model.outputs import Outputs
from menet_jax.model.saliency import Region, border_background, metric_map, probability_map
from menet_jax.runtime.devices import share
from menet_jax.runtime.parallel import IN_FLIGHT, grouped

Params = dict[str, Any]

Kind = Literal["metric", "probability"]
"""A kind of saliency map."""


class Maps(NamedTuple):
    """Saliency maps in [0, 1] (Section III-C); no metric map of a network without a metric space."""

    metric: Float[Array | np.ndarray, "*b h w"] | None
    probability: Float[Array | np.ndarray, "*b h w"]

    def named(self) -> dict[str, Array | np.ndarray]:
        """The maps that the network has, by kind."""
        return {kind: each for kind, each in self._asdict().items() if each is not None}

    def each(self, f: Callable[[Any], np.ndarray]) -> "Maps":
        """`f` of each map that the network has."""
        return Maps(None if self.metric is None else f(self.metric), f(self.probability))


def eval_step(
    net: nn.Module,
    variables: Mapping[str, Params],
    images: UInt8[Array, "b h w 3"],
    region: Region = border_background,
) -> Maps:
    """Both saliency maps of every image."""
    return outputs_and_maps(net, variables, images, region)[1]


def outputs_and_maps(
    net: nn.Module,
    variables: Mapping[str, Params],
    images: UInt8[Array, "b h w 3"],
    region: Region = border_background,
) -> tuple[Outputs, Maps]:
    """Outputs of the network for every image, and both saliency maps.

    Products of a float32 network are not rounded to 10 bits, as GPUs would, so that its maps are the same everywhere
    but for float32's own rounding.
    """
    with jax.default_matmul_precision("highest"):
        outputs: Any = net.apply(variables, images.astype(jnp.float32))
        probability = probability_map(outputs.logits)
        if outputs.features is None:
            return outputs, Maps(None, probability)
        metric = jax.vmap(partial(metric_map, region=region))(outputs.features, outputs.logits)
        return outputs, Maps(metric, probability)


@cache
def mapped_eval_step(net: nn.Module, region: Region, devices: tuple[jax.Device, ...]) -> Any:
    """`eval_step` under `pmap`: images carry a leading device axis, and all devices hold the same variables.

    Runs of the same network share it, so that it is traced and compiled once for all of them.
    """
    return jax.pmap(partial(eval_step, net, region=region), in_axes=(None, 0), devices=devices)


def map_evaluation(
    net: nn.Module, region: Region, devices: Sequence[jax.Device]
) -> Callable[[Mapping[str, Params], UInt8[np.ndarray, "b h w 3"]], Maps]:
    """A function of variables, which all devices hold, and of images, which it shares out among the devices.

    The devices are of this process; no other process need take part.
    """
    evaluate = mapped_eval_step(net, region, tuple(devices))

    def evaluate_shares(variables: Mapping[str, Params], images: np.ndarray) -> Maps:
        maps: Maps = evaluate(variables, share(images, len(devices)))
        return maps.each(lambda m: np.asarray(m).reshape(-1, *m.shape[2:]))

    return evaluate_shares


class Network:
    """A trained network on devices.

    Attributes:
        size: side of the square images that it sees.
        batch_size: images of one call of `compute`.
        compute: (batch_size, size, size, 3) uint8 → maps, each (batch_size, size, size) in [0, 1].
        kinds: of map that it gives.
    """

    def __init__(
        self,
        compute: Callable[[UInt8[np.ndarray, "b h w 3"]], Maps],
        size: int,
        batch_size: int,
        kinds: Sequence[str] = Maps._fields,
    ) -> None:
        self.compute, self.size, self.batch_size, self.kinds = compute, size, batch_size, kinds

    def evaluate(self, squares: Sequence[UInt8[np.ndarray, "s s 3"]]) -> list[Maps]:
        """Both maps of at most `batch_size` images of the network's size, at that size.

        Fewer are filled up with black images, so that the network is compiled for one batch size only.
        """
        batch = np.zeros((self.batch_size, self.size, self.size, 3), np.uint8)
        batch[: len(squares)] = np.stack(squares)
        maps = self.compute(batch)
        return [maps.each(itemgetter(row)) for row in range(len(squares))]


Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Result = TypeVar("Result")
Error = TypeVar("Error", bound=Exception)


def predict_stream(
    networks: Sequence[Network],
    items: Iterable[Item],
    load: Callable[[Item], tuple[Loaded, Mapping[int, UInt8[np.ndarray, "s s 3"]]]],
    use: Callable[[Loaded, Sequence[Maps]], Result],
    *,
    bytes_of: Callable[[Item], int],
    skipped: type[Error],
    pool: Executor,
) -> Iterator[Result | Error]:
    """Load, predict and use images one after the other, in batches. While one batch is computed, threads use the maps
    of the last one and load the next.

    Args:
        networks: all of them see every image; of one batch size.
        items: what to load, in order.
        load: in threads: an item → what `use` needs of it, and the image at the size of each network.
        use: in threads: that, and the image's maps by each network, at its size.
        bytes_of: an item → bytes that it takes once loaded. Where they are many, batches are not full.
        skipped: errors of `load` that do not end the stream.
        pool: the threads.

    Yields:
        of each item, in order: what `use` returns, or the error of `load`.
    """

    def attempt(item: Item) -> _Ready | Error:
        try:
            return _Ready(*load(item))
        except skipped as error:
            return error

    def used(each: _Ready | Error) -> Result | Error:
        return use(each.loaded, each.maps) if isinstance(each, _Ready) else each

    batch = max((network.batch_size for network in networks), default=1)
    groups = grouped(items, batch, bytes_of)
    following = next(groups, None)
    loading, using = deque[_Group](), deque[_Group]()
    while following or loading or using:
        in_flight = [group.weight for group in (*loading, *using)]
        if following and len(loading) < 2 and (not in_flight or sum(in_flight) + following[1] <= IN_FLIGHT):
            group, weight = following
            loading.append(_Group(weight, [pool.submit(attempt, item) for item in group]))
            following = next(groups, None)
        elif loading and len(using) < 2:
            weight = loading[0].weight
            using.append(_Group(weight, [pool.submit(used, each) for each in _computed(networks, loading.popleft())]))
        else:
            yield from (future.result() for future in using.popleft().futures)


class _Ready(NamedTuple):
    """An item that was loaded; its image at the size of each network, and then its maps by each."""

    loaded: Any
    squares: Mapping[int, np.ndarray]
    maps: Sequence[Maps] = ()


class _Group(NamedTuple):
    """Items that are loaded, or used, in threads, and the bytes that they take."""

    weight: int
    futures: Sequence[Future[Any]]


def _computed(networks: Sequence[Network], group: _Group) -> Iterator[Any]:
    """What was loaded, with the maps by each network; errors as they are."""
    loaded = [future.result() for future in group.futures]
    squares = [each.squares for each in loaded if isinstance(each, _Ready)]
    of_networks = [net.evaluate([each[net.size] for each in squares]) for net in networks if squares]
    of_images = iter(zip(*of_networks, strict=True)) if of_networks else repeat(())
    for each in loaded:
        yield _Ready(each.loaded, {}, next(of_images)) if isinstance(each, _Ready) else each
