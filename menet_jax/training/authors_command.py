"""The command `python -m menet_jax.authors`: its work and its messages."""

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from menet_jax.model.pytorch.files import read_tensors, write_tensors
from menet_jax.model.pytorch.names import check_values, from_state_dict, to_state_dict
from menet_jax.runtime.cli import run_command
from menet_jax.runtime.interrupts import uninterrupted
from menet_jax.runtime.text import say, warn
from menet_jax.runtime.whole_files import written_whole
from menet_jax.training.authors_options import Export, Import
from menet_jax.training.config import PAPER, ModelConfig
from menet_jax.training.run import load_run, write_run

LISTED = 13
"""Lines of an error that are printed: another network differs in hundreds of tensors."""


class Imported(NamedTuple):
    """A network that was read: its variables and width, where it is from, and what to say of it."""

    variables: dict[str, Any]
    width: int
    origin: str
    about: str


def run(options: Import | Export) -> int:
    """Do what the command line asks for; the exit status, see `Import` and `Export`."""
    left = "what was being written is whole, or not there"
    match options:
        case Import():
            return run_command(lambda: read(options.file), partial(make_run, options.dest), lambda _: left)
        case Export():
            return run_command(lambda: named_tensors(options), partial(write, options), lambda _: left)


def read(file: Path) -> Imported:
    """Read and check the authors' tensors; ValueError or OSError says why they cannot be used."""
    tensors = read_tensors(file)
    try:
        variables = from_state_dict(tensors)
        check_values(tensors)
    except ValueError as error:
        lines = str(error).splitlines()
        more = [f"… and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
        raise ValueError("\n".join([f"{file}: {lines[0]}", *lines[1:LISTED], *more])) from None
    with file.open("rb") as contents:
        digest = hashlib.file_digest(contents, "sha256").hexdigest()
    width = variables["params"]["stem_conv"]["kernel"].shape[-1]
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    kinds = sorted({str(tensor.dtype) for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")})
    converted = "" if kinds == ["float32"] else f", converted from {', '.join(kinds)}"
    about = f"{file}: width {width}, {parameters:,} parameters{converted}"
    return Imported(variables, width, f"{file.name} (SHA-256 {digest})", about)


def make_run(dest: Path, network: Imported) -> int:
    """Write the run; the exit status."""
    with uninterrupted():
        write_run(replace(PAPER, run=dest, model=ModelConfig(network.width), origin=network.origin), network.variables)
    say(
        network.about,
        f"run    {dest}. Predict with: python -m menet_jax.predict --run {dest} --source IMAGES --dest MAPS",
    )
    return 0


def named_tensors(options: Export) -> tuple[dict[str, np.ndarray], str]:
    """A run's tensors by the authors' names, and how it was trained; ValueError or OSError says why there are none."""
    trained = load_run(options.run, newest=options.newest, report=warn)
    model, loss = trained.config.model, trained.config.loss
    if model.kind != "menet" or not model.multi_scale:
        raise ValueError(
            f"{options.run}: its network has no scale maps, and in the authors' code there is no such network"
        )
    if not loss.cross_entropy:
        warn(
            "its loss did not train the probability map, where the authors' code finds the background of the metric map"
        )
    if not loss.metric:
        warn("its loss did not train the metric map")
    return to_state_dict(trained.variables), trained.history


def write(options: Export, named: tuple[dict[str, np.ndarray], str]) -> int:
    """Write the file; the exit status."""
    tensors, history = named
    options.dest.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(options.dest) as unfinished:
        write_tensors(unfinished, tensors)
    say(f"{options.run}, {history}: {len(tensors)} tensors in {options.dest}")
    return 0
