"""The flags of the demo, and their first checks."""

import importlib.util
from dataclasses import dataclass

from menet_jax.evaluation.options import DeviceFlag, RunFlag
from menet_jax.training.run_folder import RELEASED, check_trained

NEEDED = ("tornado", "skimage")
"""Modules of the extra: what serves the page, and sample photographs."""


@dataclass(frozen=True)
class Demo:
    """Show in a browser what a trained network makes of photographs, and how robust it is at them.

    Prints the address of the page, which only this machine can reach, and serves it until Ctrl-C. The page needs no
    other connection. Photographs are never written to disk. Exit status: 130 after Ctrl-C; 2 for bad input.
    """

    run: RunFlag = RELEASED
    """Run directory, or file of `menet_jax.export`; none given: the network that comes with the package."""
    host: str = "127.0.0.1"
    """Address to listen at. At 0.0.0.0, everyone who can reach this machine can use the demo: it has no password."""
    port: int = 8765
    """Port to listen at; 0: any that is free."""
    device: DeviceFlag = None

    def check(self) -> None:
        if not 0 <= self.port < 2**16:
            raise ValueError(f"--port {self.port}: must be 0 ... 65535")
        check_trained(self.run)
        if any(importlib.util.find_spec(name) is None for name in NEEDED):
            raise ValueError('what serves the page is not installed: pip install "menet_jax[demo]"')
