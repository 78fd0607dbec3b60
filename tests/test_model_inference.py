"""The stream of images through networks: every one once and in order, and what cannot be loaded in its place."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from menet_jax.model.inference import Maps, Network, predict_stream
from menet_jax.runtime.parallel import IN_FLIGHT

SIDES = (4, 6)


class OddError(ValueError):
    """Of an item that cannot be loaded."""


class Counting:
    """Stands in for a network: its maps are the image's first channel, and that channel plus one."""

    def __init__(self) -> None:
        self.batches: list[np.ndarray] = []

    def __call__(self, images: np.ndarray) -> Maps:
        self.batches.append(images)
        first = images[..., 0].astype(np.float32)
        return Maps(first, first + 1)


def load(number: int) -> tuple[str, Mapping[int, np.ndarray]]:
    if number % 5 == 3:
        raise OddError(f"{number}")
    return f"item {number}", {side: np.full((side, side, 3), number, np.uint8) for side in SIDES}


def use(name: str, maps: Sequence[Maps]) -> tuple[str, list[tuple[float, float, tuple[int, ...]]]]:
    return name, [
        (float(np.mean(each.named()["metric"])), float(np.mean(each.probability)), np.shape(each.probability))
        for each in maps
    ]


def weightless(number: int) -> int:
    return 0


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 8), (1, 1), (0, 2), (23, 2)])
@pytest.mark.parametrize("sides", [(), SIDES[:1], SIDES])
def test_every_item_once_and_in_order(count: int, batch_size: int, sides: tuple[int, ...]) -> None:
    computed = [Counting() for _ in sides]
    networks = [Network(each, side, batch_size) for each, side in zip(computed, sides, strict=True)]
    with ThreadPoolExecutor(3) as pool:
        found = list(
            predict_stream(networks, range(count), load, use, bytes_of=weightless, skipped=OddError, pool=pool)
        )
    assert len(found) == count
    for number, each in enumerate(found):
        if number % 5 == 3:
            assert isinstance(each, OddError) and str(each) == f"{number}"
        else:
            assert each == (f"item {number}", [(number, number + 1, (side, side)) for side in sides])
    for side, of_network in zip(sides, computed, strict=True):
        assert all(batch.shape == (batch_size, side, side, 3) for batch in of_network.batches)


def test_other_errors_end_the_stream() -> None:
    def broken(number: int) -> tuple[str, Mapping[int, np.ndarray]]:
        raise OSError("no such disk")

    with ThreadPoolExecutor(1) as pool, pytest.raises(OSError, match="no such disk"):
        list(predict_stream([], [1], broken, use, bytes_of=weightless, skipped=OddError, pool=pool))


@pytest.mark.parametrize(("weight", "most"), [(0, 16), (IN_FLIGHT // 10, 10), (IN_FLIGHT // 2, 2), (2 * IN_FLIGHT, 1)])
def test_what_is_in_flight_is_bounded_by_bytes(weight: int, most: int) -> None:
    """Between the beginning of `load` and the end of `use` there are no more than fit; and as many as may be."""
    lock, now, peak = threading.Lock(), 0, 0

    def begin(number: int) -> tuple[int, Mapping[int, np.ndarray]]:
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(now, peak)
        return number, {4: np.zeros((4, 4, 3), np.uint8)}

    def end(number: int, maps: Sequence[Maps]) -> int:
        nonlocal now
        with lock:
            now -= 1
        return number

    computed = Counting()
    with ThreadPoolExecutor(4) as pool:
        networks = [Network(computed, 4, 8)]
        stream = predict_stream(networks, range(30), begin, end, bytes_of=lambda _: weight, skipped=OddError, pool=pool)
        assert list(stream) == list(range(30))
    assert peak <= most if weight else peak >= most


def test_a_part_of_a_batch_is_filled_up_with_black() -> None:
    computed = Counting()
    maps = Network(computed, 4, 3).evaluate([np.full((4, 4, 3), 7, np.uint8)])
    assert [float(np.mean(each.named()["metric"])) for each in maps] == [7.0]
    assert computed.batches[0][1:].max() == 0
