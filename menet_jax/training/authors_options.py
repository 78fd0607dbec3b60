"""The flags of `python -m menet_jax.authors`, and their first checks."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from menet_jax.model.pytorch.files import check_suffix
from menet_jax.runtime.cli import check_file
from menet_jax.runtime.whole_files import check_writable
from menet_jax.training.run_folder import check_new, check_trained


@dataclass(frozen=True, kw_only=True)
class Import:
    """Make a run directory of a network with the authors' tensors, for predict, evaluate and robustness.

    The file may be a PyTorch checkpoint (a state dict, a whole network, or a dictionary with either in it), .npz or
    .safetensors. Nothing in it is executed, and PyTorch is not needed. How it was trained is not known of such a
    network, and so it cannot be trained on with --resume.

    Exit status: 0; 1 if the run cannot be written; 2 for bad input, nothing being written.
    """

    file: tyro.conf.Positional[Path]
    """The file to read."""
    dest: Path
    """The run directory to make."""

    def check(self) -> None:
        check_file(self.file)
        check_new(self.dest)
        check_writable(self.dest.parent)


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a trained network under the authors' names, so that their PyTorch code runs it.

    Exit status: 0; 1 if it cannot be written; 2 for bad input, nothing being written.
    """

    run: tyro.conf.Positional[Path]
    """Run directory, as training wrote it."""
    dest: Path
    """The file to write: .pt or .pth, a state dict for torch.load; .npz; or .safetensors."""
    newest: bool = False
    """Use the newest checkpoint of the run, not the best."""

    def check(self) -> None:
        check_suffix(self.dest)
        if self.dest.exists():
            raise ValueError(f"{self.dest}: is there already, and nothing is overwritten; name another file")
        check_writable(self.dest.parent)
        check_trained(self.run)
