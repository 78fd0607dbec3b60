"""What a process on the CPU is told before JAX starts."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jaxlib
import numpy as np
import pytest

from menet_jax.runtime import devices

SCRIPT = (
    "import os; from menet_jax.runtime import devices; found = devices.start('cpu'); "
    "print(os.environ['XLA_FLAGS']); print(devices.described(found))"
)
CACHE = "jax_compilation_cache_dir"
NEW = jaxlib.__version__.startswith(devices.WITH_EIGEN)


@pytest.mark.parametrize(
    ("flags", "kept", "said"),
    [
        ("", [], ", LLVM at level 1"),
        ("--xla_backend_optimization_level=0", ["--xla_backend_optimization_level=0"], ""),
        ("--xla_force_host_platform_device_count=2", ["--xla_force_host_platform_device_count=2"], ", LLVM at level 1"),
    ],
)
def test_what_the_user_has_set_stays(flags: str, kept: list[str], said: str) -> None:
    env = {**os.environ, "XLA_FLAGS": flags, "GLIBC_TUNABLES": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True)
    set_flags, described = done.stdout.splitlines()
    assert all(flag in set_flags.split() for flag in kept)
    assert set_flags.count("--xla_backend_optimization_level") == 1
    assert ("ynn_fusion_type" in set_flags) == NEW
    count = 2 if "device_count=2" in flags else 1
    assert described == f"{count} × cpu (cpu{said}{', convolutions by Eigen' * NEW})"


@pytest.mark.parametrize("home", [None, "file"])
def test_without_a_home_directory_nothing_is_kept(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is none, or none that can be written to."""
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.delenv("HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "" if home is None else str(tmp_path / home))
    monkeypatch.setattr("pwd.getpwuid", dict[int, object]().__getitem__)
    before = getattr(jax.config, CACHE)
    devices.enable_compilation_cache()
    assert getattr(jax.config, CACHE) == before


def test_what_is_on_the_device_is_a_copy() -> None:
    for size in range(16):  # somewhere among them memory is aligned, and could be shared
        array = np.zeros(64, np.float32)[size:]
        found = devices.on_device(array)
        array[:] = 1
        assert not np.any(found) and found.shape == array.shape
    assert devices.on_device(found) is found
