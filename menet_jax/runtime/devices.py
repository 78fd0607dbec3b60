"""Where JAX computes, and where it keeps what it has compiled."""

import os
from pathlib import Path

import jax


def start(device: str | None) -> list[jax.Device]:
    """This process's devices of one kind (cpu, gpu or tpu); None: of the kind that JAX prefers.

    To be called before anything is computed, so that nothing can fall back. What is compiled is kept on disk from then
    on, so that a command's second start takes seconds.

    Raises:
        ValueError: JAX has no such device; the text says what it has.
    """
    if device == "cpu":  # the others JAX prefers by itself where they exist
        jax.config.update("jax_platforms", "cpu")
    try:
        found = jax.default_backend()
    except Exception as error:  # whatever a broken or missing driver makes JAX raise
        raise ValueError(f"--device {device}: JAX finds no device to compute on: {error!r}") from error
    if device is not None and found != device:
        there = sorted({f"{d.device_kind} ({d.platform})" for d in jax.local_devices()})
        raise ValueError(
            f"--device {device}: JAX finds none here, only {', '.join(there)}. "
            'JAX is installed for a GPU with pip install "jax[cuda13]", for a TPU with pip install "jax[tpu]".'
        )
    enable_compilation_cache()
    return jax.local_devices()


def enable_compilation_cache() -> None:
    """Keep compiled programs on disk, for a program that asks for no devices, as notebooks."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "menet_jax" / "xla"))
