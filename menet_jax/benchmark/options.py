"""The flags of `python -m menet_jax.benchmark`, and their first checks.

This takes no time to import, so that help and refusals need not wait for JAX.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from menet_jax.data.options import check_data
from menet_jax.evaluation.options import check_dest
from menet_jax.runtime.cli import check_folder
from menet_jax.runtime.regular_files import at_home

RESULTS = "benchmark.json"
"""The file of which every folder of results has one."""

Activity = Literal["training", "inference"]
Device = Literal["cpu", "gpu", "tpu"]
Precision = Literal["float32", "bfloat16"]

Width = Annotated[int, tyro.conf.arg(help="Channels of the network at full resolution; 32 in the paper.")]
Rounds = Annotated[int, tyro.conf.arg(help="How often each is timed.")]


class Benchmark:
    """The flags of a benchmark."""

    def check(self) -> None:
        """Raise ValueError or OSError for what can be refused at once."""


@dataclass(frozen=True, kw_only=True)
class All(Benchmark):
    """Everything that needs no data: training, inference, transposed convolutions and parts of the Jacobian analysis.

    Each is measured in a process of its own, so that memory is its own. Writes benchmark.md, and benchmark.json with
    all numbers in full and a description of the machine.
    """

    dest: Path
    """Folder to write to."""
    widths: tuple[int, ...] = (4, 8, 32)
    """Channels of the networks at full resolution; 32 in the paper."""
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    """Data types in which convolutions compute, in training and inference."""
    batch_size: int = 5
    """Images of a training step, over all devices."""
    inference_batches: tuple[int, ...] = (1, 8)
    """Images computed at once, over all devices."""
    rounds: Rounds = 5
    device: Device | None = None
    """Device to compute on; none given: what JAX prefers."""
    overwrite: bool = False
    """Replace results that are there."""

    def check(self) -> None:
        check_dest(at_home(self.dest), self.overwrite, RESULTS)


@dataclass(frozen=True, kw_only=True)
class Training(Benchmark):
    """Time, arithmetic and memory of the step that training runs, on all devices of this process.

    On the CPU it also counts the convolutions that XLA computes by plain loops.
    """

    activity: ClassVar[Activity] = "training"
    width: Width = 4
    precision: Precision = "float32"
    """Data type in which convolutions compute."""
    batch_size: int = 5
    """Images computed at once, over all devices."""
    rounds: int = 5
    """Number of timings; each lasts half a second at least."""
    device: Device | None = None
    """Device to compute on; none given: what JAX prefers."""


@dataclass(frozen=True, kw_only=True)
class Inference(Training):
    """Time, arithmetic and memory of both saliency maps, as predicting and evaluating compute them, on all devices."""

    activity: ClassVar[Activity] = "inference"
    batch_size: int = 8


@dataclass(frozen=True, kw_only=True)
class Tpu(Benchmark):
    """Compilation, memory and speed of the training step on TPUs, by their compiler's account; none need be there.

    Each compilation takes minutes: about 500 CPU seconds, or 100 with JAX_OPTIMIZATION_LEVEL=O1 in the environment,
    which makes a slower program. Looking for the largest batch takes two to five more.
    """

    topology: str = "v5e:2x4"
    """Generation and chips along each axis: v2:2x2 (Colab's v2-8), v5e:1x1, v5e:2x4, v6e:2x4, …"""
    width: Width = 32
    precision: Precision = "bfloat16"
    """Data type in which convolutions compute."""
    batch_size: int = 64
    """Images of a step, over all devices."""
    largest_batch: bool = True
    """Look for the largest batch that fits."""


@dataclass(frozen=True, kw_only=True)
class Pytorch(Benchmark):
    """Time and memory of a training step and of inference against the same network in PyTorch, on the CPU or a GPU.

    First it says how far outputs, losses and gradients of both agree. Then both are timed in turns, each in a process
    of its own, with the same weights and images. Ours is the step that training runs and the inference that predicting
    and evaluating run, which gives both saliency maps; PyTorch's are the same work, in PyTorch's eager mode, in both
    memory layouts, of which the faster one is compared; a layout in which PyTorch crashes is named. Medians are
    reported. CPU seconds are those of all threads. How far both agree is computed on the CPU. On a GPU, float32
    products of training are rounded (TF32) by both, and those of inference by neither.
    """

    width: Width = 4
    batch_size: int = 5
    """Images of a training step; at least 2."""
    inference_batches: tuple[int, ...] = (1, 8)
    """Images of an inference."""
    what: tuple[Activity, ...] = ("training", "inference")
    """Activities to time."""
    rounds: int = 5
    """How often each is timed; a turn lasts half a second at least."""
    agreement: bool = True
    """Say first how far both agree."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Device on which both compute."""
    precision: Precision = "float32"
    """Data type in which convolutions compute; PyTorch's bfloat16 is by autocast."""


@dataclass(frozen=True, kw_only=True)
class Upsampling(Benchmark):
    """Time of a whole training step by how stride-2 transposed convolutions are computed.

    They are computed as the network has them (`model.convolution`), as `jax.lax.conv_transpose` (input dilation), and
    by phases (`model.phases`). All compute the same. They are timed in turns; medians are reported.
    """

    width: Width = 4
    batch_size: int = 5
    """Images of a step."""
    rounds: Rounds = 5


@dataclass(frozen=True, kw_only=True)
class Jacobian(Benchmark):
    """Time and peak memory of the parts of the Jacobian analysis, as multiples of one forward pass of one image.

    Memory is the compiler's own account: what a program is given (the network's variables, or what linearising kept),
    what it returns and what it needs in between. Programs are timed in turns; medians are reported.
    """

    width: Width = 32
    size: int = 224
    """Side of the image."""
    rounds: Rounds = 3


@dataclass(frozen=True, kw_only=True)
class Pipeline(Benchmark):
    """Images/s of the whole input pipeline against bare loops that only decode and resize.

    The pipeline reads, decodes, checks, crops, resizes, flips, shuffles and batches. The bare loops decode
    and resize files already in memory, in one thread and in as many as the pipeline has. All are timed in
    turns, so that other load on the machine slows all of them alike; medians are reported.
    """

    data: tuple[str, ...] = ("synthetic",)
    """Dataset names or folders."""
    size: int = 224
    """Side of the images."""
    batch_size: int = 5
    """Images a batch."""
    threads: int = 2
    """Threads of the pipeline, and of the second bare loop."""
    batches: int = 40
    """How many batches one round takes."""
    rounds: Rounds = 5
    cache: Path | None = None
    """Where prepared datasets are kept."""

    def check(self) -> None:
        check_data(self.data)


@dataclass(frozen=True, kw_only=True)
class Scores(Benchmark):
    """Images/s of the adaptive F, the F of 256 thresholds and MAE, against PySODMetrics, which computes the same.

    Two comparisons: from files, as `menet_jax.evaluate` scores a folder of maps against PySODMetrics in a loop that
    reads with Pillow; and from arrays in memory, one process each. All are timed in turns; medians are reported, of
    wall seconds and of the CPU seconds of all processes, which do not profit from there being several.
    """

    maps: Path
    """Folder of maps."""
    masks: Path
    """Folder of masks, matched by stem."""
    processes: int = 2
    """Processes of the evaluation from files, as for many maps; their start is not timed."""
    rounds: Rounds = 5

    def check(self) -> None:
        check_folder(self.maps)
        check_folder(self.masks)
