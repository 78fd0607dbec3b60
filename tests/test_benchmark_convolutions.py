"""No convolution of the network falls off XLA's fast path on the CPU, in training or in inference.

What does becomes a plain loop: the same numbers, many times later. Whether the guard knows which do is compared with
XLA itself, which compiles a kernel for each; for a library's convolution there is nothing to compile.
"""

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from menet_jax.benchmark.convolutions import convolutions, slow_convolutions
from menet_jax.model.inference import eval_step
from menet_jax.training.config import Config, ModelConfig
from menet_jax.training.network import network
from menet_jax.training.optimizer import make_optimizer
from menet_jax.training.step import Batch, TrainState, train_step

# What LLVM makes of loops does not matter here, and takes half of the time.
compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

VARIANTS = """
import jax, jax.numpy as jnp
from jax import lax

FIRST = ("NCHW", "OIHW", "NCHW")

def of(x, kernel, padding, dimensions=("NHWC", "HWIO", "NHWC"), **more):
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=dimensions, **more)

def gradient(x, kernel):
    return jax.grad(lambda kernel: jnp.sum(of(x, kernel, ((1, 1), (1, 1))) ** 2))(kernel)

def looped(x, kernel):  # sorted, because newer XLA makes one kernel of a small loop of nothing but convolutions
    return lax.scan(lambda carry, one: (carry, jnp.sort(of(one, kernel, "SAME", FIRST))), 0, x[:, None])[1]

def four(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1,) * 4, "SAME")

f32, normal = jnp.float32, jax.ShapeDtypeStruct
PROGRAMS = {
    "plain": (lambda x, k: of(x, k, "SAME"), normal((2, 32, 32, 8), f32), normal((3, 3, 8, 8), f32)),
    "first": (lambda x, k: of(x, k, "SAME", FIRST), normal((2, 8, 32, 32), f32), normal((8, 8, 3, 3), f32)),
    "gradient3": (gradient, normal((2, 32, 32, 8), f32), normal((3, 3, 8, 8), f32)),
    "gradient2": (gradient, normal((2, 32, 32, 8), f32), normal((2, 2, 8, 8), f32)),
    "looped": (looped, normal((3, 8, 32, 32), f32), normal((8, 8, 3, 3), f32)),
    "double": (lambda x, k: of(x, k, "SAME"), normal((2, 32, 32, 8), jnp.float64), normal((3, 3, 8, 8), jnp.float64)),
    "half": (lambda x, k: of(x, k, "SAME"), normal((2, 32, 32, 8), jnp.bfloat16), normal((3, 3, 8, 8), jnp.bfloat16)),
    "four": (four, normal((1, 2, 8, 8, 8, 8), f32), normal((2, 2, 3, 3, 3, 3), f32)),
}
for name, (function, *shapes) in PROGRAMS.items():
    function.__name__ = name
    jax.jit(function).lower(*shapes).compile()
"""


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what XLA tells of the programs."""
    folder = tmp_path_factory.mktemp("xla")
    flags = f"--xla_dump_to={folder} --xla_dump_hlo_as_text"
    environment = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "HOME": str(folder)}
    subprocess.run([sys.executable, "-c", VARIANTS], env=environment, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    ("program", "slow"),
    [
        ("plain", False),
        ("first", False),
        ("gradient3", False),
        ("gradient2", True),
        ("looped", True),
        ("double", True),
        ("half", False),
        ("four", True),
    ],
)
def test_the_guard_says_what_xla_does(program: str, slow: bool, dumped: Path) -> None:
    [file] = dumped.glob(f"*jit_{program}.cpu_after_optimizations.txt")
    text = file.read_text()
    assert convolutions(text)
    found = slow_convolutions(text)
    # "conv[_o]*": its names are `convolution` and `conv_general_dilated`, with or without `wrapped_` and `_elemental`.
    kernels = [path.name for path in dumped.glob(f"*jit_{program}.obj-file.*conv[_o]*_kernel_module.o")]
    assert len(found) == len(kernels), kernels
    assert bool(found) == slow


Tree = dict[str, Any]


def shapes(width: int) -> tuple[Config, Tree]:
    """A configuration, and shapes of its network's variables."""
    config = Config(run=Path(), steps=1, model=ModelConfig(width=width))
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    return config, jax.eval_shape(network(config).init, jax.random.key(0), image)


@pytest.mark.parametrize("width", [4, *(pytest.param(width, marks=pytest.mark.slow) for width in (1, 2, 3, 8, 32))])
def test_training_takes_the_fast_path(width: int) -> None:
    config, variables = shapes(width)
    optimizer = make_optimizer(config.optimizer)
    rest = {"step": jax.ShapeDtypeStruct((), jnp.int32), "rng": jax.ShapeDtypeStruct((4,), jnp.uint32)}
    rest["opt_state"] = jax.eval_shape(optimizer.init, variables["params"])

    @compiled
    def step(variables: Tree, rest: Tree, images: jax.Array, labels: jax.Array) -> Any:
        return train_step(
            network(config), optimizer, config.loss, TrainState(**variables, **rest), Batch(images, labels)
        )

    images, labels = jax.ShapeDtypeStruct((5, 224, 224, 3), jnp.uint8), jax.ShapeDtypeStruct((5, 224, 224), bool)
    text = step.lower(variables, rest, images, labels).compile().as_text() or ""
    assert convolutions(text) > 100  # of all layers forwards, and of most backwards
    assert slow_convolutions(text) == {}


@pytest.mark.parametrize(
    ("width", "batch"),
    [(4, 8), pytest.param(1, 1, marks=pytest.mark.slow), pytest.param(32, 8, marks=pytest.mark.slow)],
)
def test_inference_takes_the_fast_path(width: int, batch: int) -> None:
    config, variables = shapes(width)
    images = jax.ShapeDtypeStruct((batch, 224, 224, 3), jnp.uint8)
    text = compiled(partial(eval_step, network(config))).lower(variables, images).compile().as_text() or ""
    assert convolutions(text) > 50
    assert slow_convolutions(text) == {}
