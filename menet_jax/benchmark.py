"""Benchmarks: python -m menet_jax.benchmark NAME."""

import io
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax.traverse_util import path_aware_map
from PIL import Image

from menet_jax import bounds, image_maps
from menet_jax.config import Config, ModelConfig
from menet_jax.data import training_batches
from menet_jax.evaluation import ImageResult, score_maps
from menet_jax.images import read_mask
from menet_jax.map_folders import match, read_map
from menet_jax.measures import pysodmetrics
from menet_jax.metrics import DatasetScores, dataset_scores, score_image
from menet_jax.model import ConvTranspose, MENet
from menet_jax.parallel import workers
from menet_jax.sources import open_split
from menet_jax.training import Batch, create_state, make_optimizer, network, train_step
from menet_jax.upsampling import conv_transpose_7x7


def pipeline(
    data: tuple[str, ...] = ("synthetic",),
    size: int = 224,
    batch_size: int = 5,
    threads: int = 2,
    batches: int = 40,
    rounds: int = 5,
    cache: Path | None = None,
) -> None:
    """Images/s of the whole input pipeline against bare loops that only decode and resize.

    The pipeline reads, decodes, checks, crops, resizes, flips, shuffles and batches. The bare loops decode
    and resize files already in memory, in one thread and in as many as the pipeline has. All are timed in
    turns, so that whatever else the machine does meets all of them; medians are reported.

    Args:
        data: dataset names or folders.
        size: side of the images.
        batch_size: images a batch.
        threads: of the pipeline, and of the second bare loop.
        batches: how many batches one round takes.
        rounds: how often each is timed.
        cache: where prepared datasets are kept.
    """
    sources = [open_split(spec, "train", cache) for spec in data]
    loader = training_batches(sources, size=size, batch_size=batch_size, seed=0, threads=threads)
    records = [source.records[index] for source in sources for index in range(len(source))]
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
        times = _in_turns([whole, bare, bare_in_threads], rounds)
    loader.close()

    speeds = [batches * batch_size / statistics.median(each) for each in times]
    names = ["whole pipeline", "bare loop", "bare loop"]
    for name, count, speed, each in zip(names, [threads, 1, threads], speeds, times, strict=True):
        spread = " to ".join(f"{batches * batch_size / extreme:.0f}" for extreme in (max(each), min(each)))
        print(f"{name:<15} {count} thread{'s'[: count > 1]:<2} {speed:7.0f} images/s  (rounds: {spread})")
    one, same = speeds[0] / speeds[1], speeds[0] / speeds[2]
    print(f"whole pipeline / bare loop: {one:.2f} (1 thread), {same:.2f} (as many threads)")


def upsampling(width: int = 4, batch_size: int = 5, rounds: int = 5) -> None:
    """Time of a whole training step, with transposed convolutions as `menet_jax.upsampling` has them against
    `jax.lax.conv_transpose` (input dilation), which computes the same. Both are timed in turns; medians are reported.

    Args:
        width: of the network; the paper's is 32.
        batch_size: images of a step.
        rounds: how often each is timed.
    """
    config = Config(run=Path(), steps=1, model=ModelConfig(width=width))
    step = partial(train_step, network(config), make_optimizer(config.optimizer), config.loss)
    state, rng = create_state(config), np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, 224, 224, 3), np.uint8)
    batch = Batch(images, rng.random((batch_size, 224, 224)) < 0.3)

    def dilated(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        if not isinstance(layer, ConvTranspose) or layer.convolve is conv_transpose_7x7:
            return next_fun(*args, **kwargs)
        x, kernel = (array.astype(layer.dtype) for array in (args[0], layer.get_variable("params", "kernel")))
        return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    ours = jax.jit(step).lower(state, batch).compile()
    with nn.intercept_methods(dilated):
        theirs = jax.jit(lambda state, batch: step(state, batch)).lower(state, batch).compile()
    results = [jax.block_until_ready(program(state, batch)) for program in (ours, theirs)]
    losses = [float(metrics.loss) for _, metrics in results]

    def run(program: Any) -> Callable[[], None]:
        return lambda: jax.block_until_ready(program(state, batch))

    times = [statistics.median(each) for each in _in_turns([run(ours), run(theirs)], rounds)]
    device = jax.devices()[0]
    print(
        f"training step, width {width}, batch {batch_size}, {device.device_kind} ({device.platform}), {rounds} rounds"
    )
    for name, seconds, loss in zip(("phases", "input dilation"), times, losses, strict=True):
        print(f"  {name:15} {seconds:8.3f} s   loss {loss:.6f}")
    print(f"  input dilation / phases: {times[1] / times[0]:.2f}")


def scores(maps: Path, masks: Path, processes: int = 2, rounds: int = 5) -> None:
    """Images/s of the adaptive F, the F of 256 thresholds and MAE, against PySODMetrics, which computes the same.

    Two comparisons: from files, as `menet_jax.evaluate` scores a folder of maps against PySODMetrics in a loop that
    reads with Pillow; and from arrays in memory, one process each. All are timed in turns; medians are reported.

    Args:
        maps: folder of maps.
        masks: folder of masks, matched by stem.
        processes: of the evaluation from files, as of many maps; their start is not timed.
        rounds: how often each is timed.
    """
    found, package = match(maps, masks), pysodmetrics()
    arrays = [(read_map(path), read_mask(mask)) for path, mask in found.pairs]
    ours, theirs = dict[str, DatasetScores](), dict[str, tuple[float, float]]()

    def evaluation() -> None:
        outcomes = score_maps(found, pool, measures=False)
        ours["files"] = dataset_scores([each.scores for each in outcomes if isinstance(each, ImageResult)])

    def scoring() -> None:
        ours["arrays"] = dataset_scores([score_image(*pair) for pair in arrays])

    def reference(name: str, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the class has a successor, which is slower
            f, mae = package.Fmeasure(), package.MAE()
        for saliency, mask in pairs:
            f.step(saliency, mask)
            mae.step(saliency, mask)
        theirs[name] = float(f.get_results()["fm"]["adp"]), float(mae.get_results()["mae"])

    truths = [(saliency, mask.view(np.uint8) * np.uint8(255)) for saliency, mask in arrays]
    with workers(processes, processes=True) as pool:
        evaluation()
        times = _in_turns(
            [
                evaluation,
                lambda: reference("files", ((_gray(path), _gray(mask)) for path, mask in found.pairs)),
                scoring,
                lambda: reference("arrays", truths),
            ],
            rounds,
        )
    speeds = [len(arrays) / statistics.median(each) for each in times]
    print(f"{len(arrays)} maps of {maps}, {rounds} rounds")
    for index, (name, count) in enumerate([("files", processes), ("arrays", 1)]):
        own, other = speeds[2 * index : 2 * index + 2]
        f, mae = ours[name].adaptive_f - theirs[name][0], ours[name].mae - theirs[name][1]
        print(
            f"  from {name:7} {own:6.0f} images/s in {count} process{'es'[: 2 * (count > 1)]}, "
            f"PySODMetrics {other:6.0f}: {own / other:.1f} times; "
            f"adaptive F differs by {abs(f):.0e}, MAE by {abs(mae):.0e}"
        )


def jacobian(width: int = 32, size: int = 224, rounds: int = 3) -> None:
    """Time and peak memory of what the Jacobian analysis is made of, as multiples of one forward pass of one image.

    Memory is the compiler's own account: what a program is given (the network's variables, or what linearising kept),
    what it returns and what it needs in between. Programs are timed in turns; medians are reported.

    Args:
        width: of the network; the paper's is 32.
        size: side of the image.
        rounds: how often each is timed.
    """
    net, rng = MENet(width), np.random.default_rng(0)
    image = jnp.asarray(rng.uniform(0, 255, (size, size, 3)), jnp.float32)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:  # sooner done than compiling `init`
        if path[-1] == "kernel":
            return jnp.asarray(rng.standard_normal(leaf.shape, np.float32) / math.sqrt(math.prod(leaf.shape[:-1])))
        return jnp.full(leaf.shape, float(path[-1] in ("scale", "var")))

    variables = dict(path_aware_map(draw, jax.eval_shape(net.init, jax.random.key(0), image[None])))
    f = image_maps.network_map(net, variables)
    jvp, vjp = image_maps.push_forward, image_maps.pull_back
    programs: dict[str, tuple[Any, tuple[Any, ...]]] = {}

    def add(name: str, function: Any, *args: Any) -> Any:
        programs[name] = function.lower(*args).compile(), args
        return programs[name][0](*args)

    add("forward pass", image_maps.evaluate, f, image)
    value, push = add("linearise: f(x) and J", image_maps.linearise_program, f, image)
    add("J v", jvp, push, image)
    add("transposed J u", vjp, push, image, value[None])
    bounding = bounds.bounding_map(f)
    add("bound v", jvp, bounding, image)
    add("transposed bound u", vjp, bounding, image, value[None])

    def run(program: Any, args: Any) -> Callable[[], None]:
        return lambda: jax.block_until_ready(program(*args))

    times = [statistics.median(each) for each in _in_turns([run(*each) for each in programs.values()], rounds)]
    accounts = [program.memory_analysis() for program, _ in programs.values()]
    peaks = [a.argument_size_in_bytes + a.output_size_in_bytes + a.temp_size_in_bytes for a in accounts]
    device = jax.devices()[0]
    print(f"width {width}, {size}×{size}, {device.device_kind} ({device.platform}), {rounds} rounds")
    rows = dict(zip(programs, zip(times, peaks, strict=True), strict=True))
    (set_up, _), (push_time, _), (pull_time, _) = list(rows.values())[1:4]
    (wide_push, _), (wide_pull, _) = list(rows.values())[4:]
    during, of_bound = max(peaks[1:4]), max(peaks[4:])
    vector = image.nbytes
    rows |= {
        "Frobenius norm, 64 samples": (set_up + 64 * pull_time, during),
        "exact Frobenius norm": (set_up + value.size * pull_time, during),
        "power iteration, 100 steps": (set_up + 100 * (push_time + pull_time), during + 2 * vector),
        "Lanczos, 50 steps": (set_up + 51 * (push_time + pull_time), during + 193 * vector),
        "error directions, 16 draws": (set_up + 16 * (push_time + times[0]), during),
        "sensitivity of input, 64 samples": (set_up + 64 * pull_time, during + 8 * vector),
        "sensitivity of output, 64 samples": (set_up + 64 * push_time, during + 8 * vector),
        "bound's norms, 20 iterations": (21 * (wide_push + wide_pull), of_bound),
        "J itself (not held by any of these)": (set_up + value.size * pull_time, value.size * vector),
    }
    print(f"  {'':36} {'time':>10} {'':>8} {'memory':>10}")
    for index, (name, (seconds, peak)) in enumerate(rows.items()):
        how = " " if index < len(times) else "*"
        print(f"{how} {name:36} {seconds:8.3g} s {seconds / times[0]:7.3g}×", end="")
        print(f" {peak / 2**20:6.0f} MiB {peak / peaks[0]:7.3g}×")
    print("* time from that of its products")


def _gray(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def _decode_and_resize(record: dict[str, Any], size: int) -> tuple[np.ndarray, np.ndarray]:
    """What cannot be avoided: an image and its mask out of their files, at the size wanted."""
    with Image.open(io.BytesIO(record["image"])) as image, Image.open(io.BytesIO(record["mask"])) as mask:
        small = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(small), np.asarray(mask.resize((size, size), Image.Resampling.BILINEAR)) > 127


def _in_turns(functions: list[Callable[[], None]], rounds: int) -> list[list[float]]:
    """Seconds of each function in each round; every round calls all of them once."""
    if rounds < 1:
        raise ValueError(f"--rounds {rounds}: must be at least 1")
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    try:
        tyro.extras.subcommand_cli_from_dict(
            {"pipeline": pipeline, "upsampling": upsampling, "scores": scores, "jacobian": jacobian},
            description="Measure how fast things are here.",
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
