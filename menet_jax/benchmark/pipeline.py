"""How fast the input pipeline is, against loops that only decode and resize."""

import io
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from menet_jax.benchmark.measuring import in_turns, median, timed
from menet_jax.benchmark.options import Pipeline
from menet_jax.data.pipeline import training_batches
from menet_jax.data.sources import numbered, open_split
from menet_jax.data.specs import Places


def run(options: Pipeline) -> None:
    """Time it; see `options.Pipeline`."""
    size, batch_size, threads, batches = options.size, options.batch_size, options.threads, options.batches
    sources = [open_split(spec, "train", Places(options.cache)) for spec in options.data]
    loader = training_batches(sources, size=size, batch_size=batch_size, seed=0, threads=threads)
    records = [source.records[index] for source, index in numbered(sources)]
    order = np.random.default_rng(0)

    def whole() -> None:
        for _ in range(batches):
            next(loader)
        loader.set_state(loader.get_state())  # forgets what was read ahead: no round profits from another's time

    def bare() -> None:
        for index in order.integers(len(records), size=batches * batch_size):
            _decode_and_resize(records[index], size)

    def bare_in_threads() -> None:
        chosen = [records[index] for index in order.integers(len(records), size=batches * batch_size)]
        list(pool.map(lambda record: _decode_and_resize(record, size), chosen))

    with ThreadPoolExecutor(threads) as pool:
        rounds_taken = in_turns([partial(timed, each) for each in (whole, bare, bare_in_threads)], options.rounds)
    loader.close()

    images = batches * batch_size
    speeds = [images / median(each).wall for each in rounds_taken]
    names = ["whole pipeline", "bare loop", "bare loop"]
    for name, count, speed, each in zip(names, [threads, 1, threads], speeds, rounds_taken, strict=True):
        walls = [seconds.wall for seconds in each]
        spread = " to ".join(f"{images / extreme:.0f}" for extreme in (max(walls), min(walls)))
        print(f"{name:<15} {count} thread{'s'[: count > 1]:<2} {speed:7.0f} images/s  (rounds: {spread})")
    one, same = speeds[0] / speeds[1], speeds[0] / speeds[2]
    print(f"whole pipeline / bare loop: {one:.2f} (1 thread), {same:.2f} (as many threads)")


def _decode_and_resize(record: dict[str, Any], size: int) -> tuple[np.ndarray, np.ndarray]:
    """The least work that the pipeline has to do: decode an image and its mask, and resize them."""
    with Image.open(io.BytesIO(record["image"])) as image, Image.open(io.BytesIO(record["mask"])) as mask:
        small = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(small), np.asarray(mask.resize((size, size), Image.Resampling.BILINEAR)) > 127
