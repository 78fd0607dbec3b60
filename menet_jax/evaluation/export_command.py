"""The command `python -m menet_jax.export`: what it says and does."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from menet_jax.evaluation.options import Export
from menet_jax.model.inference import eval_step
from menet_jax.runtime.cli import run_command
from menet_jax.runtime.text import say, warn
from menet_jax.runtime.whole_files import written_whole
from menet_jax.training.config import Config
from menet_jax.training.network import background_region, network
from menet_jax.training.run import TrainedRun, load_run, write_release

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def to_stablehlo(config: Config, variables: Mapping[str, Any]) -> bytearray:
    """The network of `params` and `batch_stats` as a program, weights and all.

    It computes uint8 images (b, size, size, 3) → metric map, where the network has one, and probability map, float32
    (b, size, size) in [0, 1], for any b.

    `jax.export.deserialize(program).call(images)` runs it, where JAX is and menet_jax need not be.
    """
    arrays = jax.device_put(variables)
    compute = partial(eval_step, network(config), arrays, region=background_region(config.loss))

    def maps(images: jax.Array) -> tuple[Any, ...]:
        return tuple(compute(images).named().values())

    batch = jax.export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((*batch, config.data.size, config.data.size, 3), jnp.uint8)
    return jax.export.export(jax.jit(maps), platforms=PLATFORMS)(images).serialize()


def to_onnx(config: Config, variables: Mapping[str, Any]) -> bytes:
    """The same of MENet as an ONNX file; see `onnx_model`."""
    from menet_jax.model.onnx_graph import onnx_model  # only now, for not everyone has ONNX

    model: bytes = onnx_model(variables, config.data.size, background_region(config.loss)).SerializeToString()
    return model


PROGRAMS: dict[str, Callable[[Config, Mapping[str, Any]], bytes | bytearray]] = {
    "stablehlo": to_stablehlo,
    "onnx": to_onnx,
}


def run(options: Export) -> int:
    """Do what the command line asks for; the exit status, see `Export`."""
    source, dest, kind = options.run, options.dest, options.format

    def opened() -> TrainedRun:
        trained = load_run(source, newest=options.newest, report=warn)
        model = trained.config.model
        if kind == "onnx" and model.kind != "menet":
            raise ValueError(f"--format onnx: is of MENet alone, and this network is of kind {model.kind}")
        return trained

    def do(trained: TrainedRun) -> int:
        dest.parent.mkdir(parents=True, exist_ok=True)
        if kind == "weights":
            write_release(trained, dest)
        else:
            program = PROGRAMS[kind](trained.config, trained.variables)
            with written_whole(dest) as unfinished:
                unfinished.write_bytes(program)
        say(f"{source}, {trained.history}: {kind} in {dest}, {dest.stat().st_size / 1e6:.1f} MB")
        return 0

    return run_command(opened, do, lambda _: "nothing was written", (OSError, ValueError))
