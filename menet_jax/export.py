"""A trained network as one file:  python -m menet_jax.export RUN --dest FILE [--format weights|stablehlo|onnx]"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import tyro

from menet_jax.runtime.cli import run_options
from menet_jax.runtime.whole_files import check_writable
from menet_jax.training.run_folder import check_trained

SUFFIXES = {"weights": ".safetensors", "stablehlo": ".stablehlo", "onnx": ".onnx"}


@dataclass(frozen=True)
class Export:
    """Write a trained network into one file.

    Exit status: 0; 1 if it cannot be written; 2 for bad input, nothing being done.
    """

    run: tyro.conf.Positional[Path]
    """Run directory, as training wrote it, or `released`, the network that comes with the package."""
    dest: Path
    """The file to write: .safetensors for weights, .stablehlo for stablehlo, .onnx for onnx."""
    format: Literal["weights", "stablehlo", "onnx"] = "weights"
    """Weights: float16 parameters, which every command takes for a run. Stablehlo: the network as a program of JAX, for
    CPU, GPU and TPU, that needs no menet_jax: uint8 images (b, size, size, 3) to both maps. Onnx: the same for ONNX,
    in float32."""
    newest: bool = False
    """Use the newest checkpoint of the run, not the best."""

    def check(self) -> None:
        """Raise ValueError or FileNotFoundError for what can be refused at once."""
        if self.format == "onnx" and find_spec("onnx") is None:
            raise ValueError('--format onnx: ONNX is not installed, which writes it: pip install "menet_jax[onnx]"')
        suffix = SUFFIXES[self.format]
        if self.dest.suffix != suffix:
            raise ValueError(f"--dest {self.dest}: the suffix of {self.format} is {suffix}")
        if self.dest.exists():
            raise ValueError(f"--dest {self.dest}: is there already, and nothing is overwritten; name another file")
        check_writable(self.dest.parent)
        check_trained(self.run)


def work(options: Export) -> int:
    """Do it; the exit status."""
    from menet_jax.evaluation.export_command import run  # only now, for it imports JAX

    return run(options.run, options.dest, options.format, options.newest)


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, see `Export`."""
    return run_options(arguments, Export, "menet_jax.export", work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
