"""What `python -m menet_jax.benchmark` measures: a function each, whose arguments are its flags.

This takes no time to import. Each function imports what it measures when it is called.
"""

from pathlib import Path
from typing import Literal

from menet_jax.data.specs import check_data
from menet_jax.runtime.cli import check_folder

Activity = Literal["training", "inference"]
Device = Literal["cpu", "gpu", "tpu"]
Precision = Literal["float32", "bfloat16"]


def suite(
    dest: Path,
    widths: tuple[int, ...] = (4, 8, 32),
    precisions: tuple[Precision, ...] = ("float32", "bfloat16"),
    batch_size: int = 5,
    inference_batches: tuple[int, ...] = (1, 8),
    rounds: int = 5,
    device: Device | None = None,
    overwrite: bool = False,
) -> None:
    """Everything that needs no data: training, inference, transposed convolutions and parts of the Jacobian analysis.

    Each is measured in a process of its own, so that memory is its own. Writes benchmark.md and benchmark.json, which
    holds all numbers in full, with what the machine is.

    Args:
        dest: folder to write to.
        widths: of the networks; the paper's is 32.
        precisions: that convolutions compute in, of training and inference.
        batch_size: images of a training step, over all devices.
        inference_batches: images computed at once, over all devices.
        rounds: how often each is timed.
        device: to compute on; none given: what JAX prefers.
        overwrite: whether to replace results that are there.
    """
    from menet_jax.benchmark import suite as module  # only now, for it imports JAX

    module.suite(dest, widths, precisions, batch_size, inference_batches, rounds, device, overwrite)


def training(
    width: int = 4,
    precision: Precision = "float32",
    batch_size: int = 5,
    rounds: int = 5,
    device: Device | None = None,
) -> None:
    """Time, arithmetic and memory of the step that training runs, on all devices of this process.

    On the CPU it also counts the convolutions that XLA computes by plain loops.

    Args:
        width: of the network; the paper's is 32.
        precision: that convolutions compute in.
        batch_size: images of a step, over all devices.
        rounds: how often it is timed; a round lasts half a second at least.
        device: to compute on; none given: what JAX prefers.
    """
    from menet_jax.benchmark.steps import Case, report  # only now, for it imports JAX

    report(Case("training", width, precision, batch_size), rounds, device)


def inference(
    width: int = 4,
    precision: Precision = "float32",
    batch_size: int = 8,
    rounds: int = 5,
    device: Device | None = None,
) -> None:
    """Time, arithmetic and memory of both saliency maps, as predicting and evaluating compute them, on all devices.

    Args:
        width: of the network; the paper's is 32.
        precision: that convolutions compute in.
        batch_size: images computed at once, over all devices.
        rounds: how often it is timed; a round lasts half a second at least.
        device: to compute on; none given: what JAX prefers.
    """
    from menet_jax.benchmark.steps import Case, report  # only now, for it imports JAX

    report(Case("inference", width, precision, batch_size), rounds, device)


def tpu(
    topology: str = "v5e:2x4",
    width: int = 32,
    precision: Precision = "bfloat16",
    batch_size: int = 64,
    largest_batch: bool = True,
) -> None:
    """Compilation, memory and speed of the training step on TPUs, by their compiler's account; none need be there.

    Each compilation takes minutes: about 500 CPU seconds, or 100 with JAX_OPTIMIZATION_LEVEL=O1 in the environment,
    which makes a slower program. Looking for the largest batch takes two or three more.

    Args:
        topology: generation and chips along each axis: v2:2x2 (Colab's v2-8), v5e:1x1, v5e:2x4, v6e:2x4, …
        width: of the network; the paper's is 32.
        precision: that convolutions compute in.
        batch_size: images of a step, over all devices.
        largest_batch: whether to look for the largest batch that fits.
    """
    from menet_jax.benchmark import tpu as module  # only now, for it imports JAX

    module.tpu(topology, width, precision, batch_size, largest_batch)


def pytorch(
    width: int = 4,
    batch_size: int = 5,
    inference_batches: tuple[int, ...] = (1, 8),
    what: tuple[Activity, ...] = ("training", "inference"),
    rounds: int = 5,
    agreement: bool = True,
) -> None:
    """Time and memory of a training step and of inference against the same network in PyTorch, on the CPU.

    First it says how far outputs, losses and gradients of both agree. Then both are timed in turns, each in a process
    of its own, with the same weights and images. Ours is the step that training runs and the inference that predicting
    and evaluating run, which gives both saliency maps; PyTorch's are the same work, in PyTorch's eager mode, in both
    memory layouts, of which the faster one is compared; a layout in which PyTorch crashes is named. Medians are
    reported. CPU seconds are those of all threads.

    Args:
        width: of the network; the paper's is 32.
        batch_size: images of a training step; at least 2.
        inference_batches: images of an inference.
        what: to time.
        rounds: how often each is timed; a turn lasts half a second at least.
        agreement: whether to say first how far both agree.
    """
    from menet_jax.benchmark import pytorch as module  # only now, for it imports JAX

    module.pytorch(width, batch_size, inference_batches, what, rounds, agreement)


def upsampling(width: int = 4, batch_size: int = 5, rounds: int = 5) -> None:
    """Time of a whole training step by how stride-2 transposed convolutions are computed: as the network has them
    (`model.convolution`), as `jax.lax.conv_transpose` (input dilation), and by phases (`model.phases`).
    All compute the same. They are timed in turns; medians are reported.

    Args:
        width: of the network; the paper's is 32.
        batch_size: images of a step.
        rounds: how often each is timed.
    """
    from menet_jax.benchmark import upsampling as module  # only now, for it imports JAX
    from menet_jax.benchmark.measuring import machine

    print(machine(), module.measure(width, batch_size, rounds).text(), sep="\n")


def jacobian(width: int = 32, size: int = 224, rounds: int = 3) -> None:
    """Time and peak memory of what the Jacobian analysis is made of, as multiples of one forward pass of one image.

    Memory is the compiler's own account: what a program is given (the network's variables, or what linearising kept),
    what it returns and what it needs in between. Programs are timed in turns; medians are reported.

    Args:
        width: of the network; the paper's is 32.
        size: side of the image.
        rounds: how often each is timed.
    """
    from menet_jax.benchmark import jacobian as module  # only now, for it imports JAX
    from menet_jax.benchmark.measuring import machine

    print(machine(), module.measure(width, size, rounds).text(), sep="\n")


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
    check_data(data)

    from menet_jax.benchmark import pipeline as module  # only now, for it imports JAX

    module.pipeline(data, size, batch_size, threads, batches, rounds, cache)


def scores(maps: Path, masks: Path, processes: int = 2, rounds: int = 5) -> None:
    """Images/s of the adaptive F, the F of 256 thresholds and MAE, against PySODMetrics, which computes the same.

    Two comparisons: from files, as `menet_jax.evaluate` scores a folder of maps against PySODMetrics in a loop that
    reads with Pillow; and from arrays in memory, one process each. All are timed in turns; medians are reported, of
    wall seconds and of the CPU seconds of all processes, which do not profit from there being several.

    Args:
        maps: folder of maps.
        masks: folder of masks, matched by stem.
        processes: of the evaluation from files, as of many maps; their start is not timed.
        rounds: how often each is timed.
    """
    check_folder(maps)
    check_folder(masks)

    from menet_jax.benchmark import scores as module  # only now, for it imports JAX

    module.scores(maps, masks, processes, rounds)
