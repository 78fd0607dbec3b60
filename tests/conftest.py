"""Strict settings for every test: four fake CPU devices, checked shapes and dtypes, no silent promotion."""

import gc
import os
import random
import resource
import signal
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import pytest
from shallow_menet import shallow_menet

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Programs that LLVM hardly optimises compile in a quarter of the time, and a test runs them but a few times. In one
# piece each they take less than in many, which only idle cores would compile at once. A process for what takes long to
# run has other flags already.
# The older of two ways to compile fusions is quicker too; jaxlib 0.11 has it no more, and XLA aborts at a flag it does
# not know.
if "QUICK_FLAGS" not in os.environ:
    os.environ["QUICK_FLAGS"] = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
        os.environ["QUICK_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} {os.environ['QUICK_FLAGS']} --xla_force_host_platform_device_count=4"
)
os.environ.setdefault("NPROC", "16")  # room for every collective in flight on a machine with few cores
# Programs compiled once serve every test of a worker, and every process that a test starts. Each worker has its own:
# JAX does not write them atomically, and a worker that reads what another is writing would warn.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
    Path(__file__).parents[1] / ".pytest_cache" / "xla" / os.environ.get("PYTEST_XDIST_WORKER", "main")
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # nobody reads from which lines an operation came
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # without which commands start anew

LARGE = (
    "flax.linen",
    "grain",
    "matplotlib.figure",
    "onnx",
    "optax",
    "orbax.checkpoint",
    "pydantic",
    "scipy.special",
    "tensorboardX",
    "tensorflow_datasets",
    "tyro",
)


def prepare() -> None:
    """Have JAX and the package be strict in this process."""
    # beartype draws which item of a list it checks. It takes a generator of its own here: hypothesis refuses a test
    # while which somebody, be it a thread of an input pipeline, draws from the one that Python's `random` shares.
    with patch("random.getrandbits", random.Random().getrandbits):
        import_module("beartype")
    import jax
    from checked_types import check_types

    # What compiles at once takes longer to write than to compile again. A process that a test starts writes all.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    check_types("menet_jax")
    from menet_jax.runtime.memory import SELDOM

    # What is imported stays, and a trace makes many objects: by default the collector would walk through all of them
    # again and again.
    gc.set_threshold(*SELDOM)


def pytest_configure(config: pytest.Config) -> None:
    """While a module is imported whose shapes are checked, Python finds no compiled code of what that module imports
    (jaxtyping 0.3 looks for it under another name), and compiles it again. So what is large comes first.

    A process that only hands out the tests imports nothing.
    """
    if hasattr(config, "workerinput") or not config.option.numprocesses:
        prepare()
        for name in LARGE:
            import_module(name)


@pytest.fixture(scope="module")
def shallow() -> Iterator[None]:
    """See `shallow_menet`."""
    with shallow_menet():
        yield


@pytest.fixture(scope="module", autouse=True)
def rough_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures take less time to draw where it is not they that are tested."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.stem != "test_reporting_plots":
            patch.setattr("menet_jax.reporting.plots.page.DOTS", 75)
            patch.setattr("menet_jax.reporting.plots.page.FONT_TYPE", 3)  # letters are drawn, no font is cut down
        yield


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file grows beyond 64 KiB: writing more fails as it does on a full disk."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files whose tests take longest first, so that no worker is left alone with one in the end."""
    items.sort(key=lambda item: item.path.stem not in ("test_train", "test_notebooks", "test_style"))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
