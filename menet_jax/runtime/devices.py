"""The devices on which JAX computes, and the cache of compiled programs."""

import os
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from menet_jax.runtime.memory import huge_pages

DEVICES = "devices"
"""Name of the axis over which programs are mapped."""

LEVEL_1 = "--xla_backend_optimization_level=1"

EIGEN = "--xla_cpu_experimental_ynn_fusion_type=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"

WITH_EIGEN = ("0.10.", "0.11.", "0.12.")
"""Versions of jaxlib, by their beginning, that were seen to know that flag: XLA aborts at an unknown one."""


def start(device: str | None) -> list[jax.Device]:
    """The devices of this process, of one kind (cpu, gpu or tpu); None: the kind that JAX prefers.

    To be called before anything is computed, so that nothing can fall back. What is compiled is kept on disk from then
    on, so that a command's second start takes seconds.

    Raises:
        ValueError: JAX has no such device; the text says what it has.
    """
    if device == "cpu":  # the others JAX prefers by itself where they exist
        jax.config.update("jax_platforms", "cpu")
    if "cpu" in (device, os.environ.get("JAX_PLATFORMS")) or not _accelerators():
        _tune_cpu()
    found = backend()
    if device is not None and found != device:
        there = sorted({f"{d.device_kind} ({d.platform})" for d in jax.local_devices()})
        raise ValueError(
            f"--device {device}: JAX finds none here, only {', '.join(there)}. "
            'JAX is installed for a GPU with pip install "jax[cuda13]", for a TPU with pip install "jax[tpu]".'
        )
    enable_compilation_cache()
    return jax.local_devices()


def backend() -> str:
    """The kind of the devices that JAX prefers: cpu, gpu or tpu.

    Raises:
        ValueError: it finds none.
    """
    try:
        return jax.default_backend()
    except Exception as error:  # whatever a broken or missing driver makes JAX raise
        asked = os.environ.get("JAX_PLATFORMS")
        of_these = f" of JAX_PLATFORMS={asked}" if asked else ""
        raise ValueError(f"JAX finds no device{of_these} to compute on: {error!r}") from error


def described(used: Sequence[jax.Device], count: int | None = None) -> str:
    """Devices of one kind in words, and what was done for the speed of a CPU.

    `count` is of those that all processes have together; by default, as many as are in `used`.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    done = [", huge pages"] * huge_pages() + [", LLVM at level 1"] * (LEVEL_1 in flags)
    done += [", convolutions by Eigen"] * (EIGEN in flags)
    what = "".join(done) if used[0].platform == "cpu" else ""
    return f"{count or len(used)} × {used[0].device_kind} ({used[0].platform}{what})"


def line(used: Sequence[jax.Device], count: int | None = None, *, width: int = 8) -> str:
    """The line on the devices that a command prints, with a heading of so many columns."""
    return f"{'devices':{width}} {described(used, count)}"


def enable_compilation_cache() -> None:
    """Keep compiled programs on disk, for a program that asks for no devices, as notebooks.

    A user without a home directory that can be written to waits for the compiler every time.
    """
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        with suppress(OSError, RuntimeError):
            folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "menet_jax" / "xla"
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                jax.config.update("jax_compilation_cache_dir", str(folder))


def share(x: np.ndarray, n: int) -> np.ndarray:
    """(n·b, …) → (n, b, …): a batch, split over n devices."""
    return x.reshape(n, -1, *x.shape[1:])


def put_everywhere(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """A tree of arrays of any shapes → the same, whole on every one of the devices, so that no later step copies them.

    They may share memory with the arrays given: what donates them leaves those unusable, if they are JAX's.
    """
    return jax.device_put(tree, NamedSharding(Mesh(np.array(devices), (DEVICES,)), PartitionSpec()))


def on_device(array: jax.Array | np.ndarray) -> jax.Array:
    """The array on the default device; one of the host as a copy, for its owner may write to it later.

    On a CPU `jax.device_put` alone would share its memory, and `jnp.asarray` compiles a program for each shape.
    """
    return array if isinstance(array, jax.Array) else jax.device_put(np.array(array))


def _accelerators() -> bool:
    """Whether a JAX plugin for another device than the CPU is installed."""
    modules = any(find_spec(name) is not None for name in ("jax_plugins", "libtpu"))
    return modules or bool(entry_points(group="jax_plugins"))


def _tune_cpu() -> None:
    """Have XLA compile sooner for the CPU, and compute convolutions in all threads; what the user has set stays.

    At level 1 LLVM optimises less: a training step compiles in five sixths of the time, and runs as fast. XLA's default
    for convolutions, YNNPACK, computes each in a single thread. With Eigen a step of width 8 takes a quarter less time
    on two cores.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if flags and not flags.lstrip().startswith("-"):
        return  # it names a file
    wanted = [LEVEL_1, *([EIGEN] if jaxlib.__version__.startswith(WITH_EIGEN) else [])]
    more = [flag for flag in wanted if flag.split("=")[0] not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *more]).strip()
