"""MENet with one halving in place of five, for images from 32² on: the same parts, compiled and run in less time.

For the tests of what commands do with a network. What it computes is tested at its own depth, in `test_model_*.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

import pytest

SIDE = 32

SHALLOW = {
    "menet_jax.model.menet.DEPTH": 1,
    "menet_jax.model.menet.SMALLEST_SIDE": 7 * 2,
    "menet_jax.training.config.SMALLEST_SIZE": SIDE,
}
"""What makes it that: values by the names that hold them."""

KEEPERS = (
    "menet_jax.model.initialisation",
    "menet_jax.model.onnx_graph",
    "menet_jax.model.pytorch.names",
    "menet_jax.reporting.plots.scales",
    "menet_jax.robustness.jacobian.bounds",
)
"""Modules that take one of the values by its name, and keep what it was when they were imported."""

PROGRAM = "import gc\nfrom menet_jax.runtime.memory import SELDOM\ngc.set_threshold(*SELDOM)\n" + "".join(
    f"import {name.rpartition('.')[0]}\n{name} = {value}\n" for name, value in SHALLOW.items()
)
"""The same for another process, which collects garbage as seldom as a command does."""


@cache
def of_shallow_networks(structure: Any) -> Any:
    """`structure` keeps what it finds by what is the same for both depths, so this one has a memory of its own."""
    return cache(structure.__wrapped__)


@contextmanager
def shallow_menet() -> Iterator[None]:
    """MENet is shallow in this context; see the fixture `shallow`."""
    for module in KEEPERS:
        import_module(module)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SHALLOW.items():
            patch.setattr(name, value)
        for module in ("menet_jax.model.initialisation", "menet_jax.model.pytorch.names"):
            patch.setattr(f"{module}.structure", of_shallow_networks(import_module(module).structure))
        yield
