"""Strict settings for every test: four fake CPU devices, checked shapes and dtypes, no silent promotion."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
os.environ.setdefault("NPROC", "16")  # room for every collective in flight on a machine with few cores
# Programs compiled once serve every test, and every process that a test starts.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "xla"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

install_import_hook("menet_jax", "beartype.beartype")
