"""The authors' weights in, ours out:  python -m menet_jax.authors import|export"""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tyro

from menet_jax.model.pytorch.files import check_suffix, read_tensors, write_tensors
from menet_jax.runtime.cli import command, words
from menet_jax.runtime.interrupts import uninterrupted
from menet_jax.runtime.text import say, warn
from menet_jax.runtime.whole_files import check_writable, written_whole
from menet_jax.training.config import PAPER, ModelConfig
from menet_jax.training.run_folder import check_new, check_trained

LISTED = 12
"""Lines of an error that are printed: another network differs in hundreds of tensors."""


def import_weights(file: tyro.conf.Positional[Path], dest: Path) -> None:
    """Make a run directory of a network with the authors' tensors, for predict, evaluate and robustness.

    The file may be a PyTorch checkpoint (a state dict, a whole network, or a dictionary with either in
    it), .npz or .safetensors. Nothing in it is executed, and PyTorch is not needed. How it was trained is not known
    of such a network, and so it cannot be trained on with --resume. Exit status: 0; 2 if it cannot be
    used, nothing being written.

    Args:
        file: the file to read.
        dest: the run directory to make.
    """
    check_new(dest)
    tensors = read_tensors(file)

    from jax.tree import leaves  # only now, for it imports JAX

    from menet_jax.model.pytorch.names import check_values, from_state_dict
    from menet_jax.training.run import write_run

    try:
        variables = from_state_dict(tensors)
        check_values(tensors)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    width = variables["params"]["stem_conv"]["kernel"].shape[-1]
    with file.open("rb") as contents:
        digest = hashlib.file_digest(contents, "sha256").hexdigest()
    origin = f"{file.name} (SHA-256 {digest})"
    with uninterrupted():
        write_run(replace(PAPER, run=dest, model=ModelConfig(width), origin=origin), variables)
    parameters = sum(leaf.size for leaf in leaves(variables["params"]))
    kinds = sorted({str(tensor.dtype) for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")})
    converted = "" if kinds == ["float32"] else f", converted from {', '.join(kinds)}"
    say(f"{file}: width {width}, {parameters:,} parameters{converted}")
    say(f"run    {dest}. Predict with: python -m menet_jax.predict --run {dest} --source IMAGES --dest MAPS")


def export_weights(run: tyro.conf.Positional[Path], dest: Path, newest: bool = False) -> None:
    """Write a trained network under the authors' names, so that their PyTorch code runs it.

    Exit status: 0; 2 if it cannot be done, nothing being written.

    Args:
        run: run directory, as training wrote it.
        dest: the file to write: .pt or .pth, a state dict for torch.load; .npz; or .safetensors.
        newest: use the newest checkpoint of the run, not the best.
    """
    check_suffix(dest)
    if dest.exists():
        raise ValueError(f"{dest}: is there already, and nothing is overwritten; name another file")
    check_writable(dest.parent)
    check_trained(run)

    from menet_jax.model.pytorch.names import to_state_dict  # only now, for it imports JAX
    from menet_jax.training.run import load_run

    trained = load_run(run, newest=newest, report=warn)
    model = trained.config.model
    if model.kind != "menet" or not model.multi_scale:
        raise ValueError(f"{run}: its network has no scale maps, and in the authors' code there is no such network")
    tensors = to_state_dict(trained.variables)
    dest.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(dest) as unfinished:
        write_tensors(unfinished, tensors)
    loss = trained.config.loss
    if not loss.cross_entropy:
        warn(
            "its loss did not train the probability map, where the authors' code finds the background of the metric map"
        )
    if not loss.metric:
        warn("its loss did not train the metric map")
    say(f"{run}, {trained.history}: {len(tensors)} tensors in {dest}")


def main(arguments: Sequence[str]) -> None:
    """Run the command; another exit status than 0 is raised as SystemExit."""
    with command("what was being written is whole, or not there", LISTED):
        tyro.extras.subcommand_cli_from_dict(
            {"import": import_weights, "export": export_weights},
            args=words(arguments),
            prog="python -m menet_jax.authors",
            description="The authors' weights as a run, and runs as weights for the authors' code.",
        )


if __name__ == "__main__":
    main(sys.argv[1:])
