"""Run directories: made by training or from weights. Trained networks: opened to be used, or put into one file.

A run directory holds `config.json`, `checkpoints/`, `logs/` and `samples/`.
"""

import dataclasses
import os
import re
import shutil
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax

from menet_jax.runtime import devices
from menet_jax.runtime.locks import locked
from menet_jax.runtime.text import listed
from menet_jax.training import config as configuration
from menet_jax.training.checkpoint_format import Checkpoint, TrainedVariables
from menet_jax.training.checkpoints import CheckpointStore, load_best_variables, load_newest_variables
from menet_jax.training.config import Config
from menet_jax.training.kept_config import read_config
from menet_jax.training.run_folder import CHECKPOINTS, CONFIG_FILE, check_new, check_trained, locate
from menet_jax.training.weights_file import read_weights, write_weights


class Held:
    """While this lives, no other process trains in a run directory.

    A directory that cannot be locked, as on some network drives, is used all the same.

    Raises:
        ValueError: another process trains there.
    """

    def __init__(self, run: Path) -> None:
        with suppress(OSError):
            lock = os.open(run, os.O_RDONLY)
            weakref.finalize(self, os.close, lock)
            if not locked(lock):
                raise ValueError(
                    f"--run {run}: another process is training there; wait until it ends, or name another directory"
                )


def open_run(config: Config) -> Held:
    """Make the run directory, empty unless the run is resumed; of several processes, in one.

    Raises:
        ValueError: another process trains there.
    """
    folder = config.run.resolve()  # of a link, what it points to
    folder.mkdir(parents=True, exist_ok=True)
    held = Held(folder)
    if config.overwrite:  # the folder stays: it may be where a disk is mounted
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if not config.resume:
        write_config(config)
    return held


def write_config(config: Config) -> None:
    """Write the configuration into the run directory, where another process does not do so."""
    if jax.process_index() == 0:
        configuration.write(dataclasses.replace(config, resume=False, overwrite=False), config.run / CONFIG_FILE)


def write_run(config: Config, variables: Mapping[str, Any]) -> None:
    """Make the run directory `config.run` of a network that was not trained here, whole or not at all.

    It can be used like any other, but not resumed: how far its training had come, and with what, is not known.

    Args:
        config: a configuration that fits the variables, with their `origin`.
        variables: `params` and `batch_stats`.

    Raises:
        ValueError: there is something at that place.
        OSError: it cannot be written.
    """
    check_new(config.run)
    config.run.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=config.run.parent, prefix=f".{config.run.name}-") as unfinished:
        made = Path(unfinished) / config.run.name
        with CheckpointStore(made / CHECKPOINTS, config.best_score) as store:
            store.save(
                Checkpoint(
                    step=0,
                    variables=variables,
                    optimizer={},
                    rng=jax.random.key_data(jax.random.key(config.seed)),
                    data_position={},
                    config=configuration.to_dict(config),
                )
            )
        configuration.write(config, made / CONFIG_FILE)
        if config.run.exists():
            config.run.rmdir()
        made.rename(config.run)


@dataclass(frozen=True)
class TrainedRun:
    """One checkpoint of a run.

    Attributes:
        config: the configuration it was trained with; of a network from elsewhere, what is known of it.
        saved: the checkpoint.
    """

    config: Config
    saved: TrainedVariables

    @property
    def variables(self) -> Mapping[str, Any]:
        """`params` and `batch_stats`, nested dictionaries of host arrays."""
        return self.saved.variables

    @property
    def step(self) -> int:
        """Number of training steps."""
        return self.saved.step

    @property
    def score(self) -> tuple[str, float | None]:
        """The name and value of the validation score that tells the best checkpoint; the value is None if the
        checkpoint was not validated.
        """
        return self.config.best_score, (self.saved.scores or {}).get(self.config.best_score)

    def check_map(self, kind: str) -> None:
        """Raise ValueError unless the network gives this kind of map."""
        model = self.config.model
        if kind not in model.maps:
            raise ValueError(
                f"{self.config.run}: a network of kind {model.kind} has no {kind} map; ask for its "
                f"{listed(model.maps)} map"
            )

    @property
    def validated(self) -> str:
        """The validation score in words."""
        name, value = self.score
        return "not validated" if value is None else f"{name} {value:.3f}"

    @property
    def history(self) -> str:
        """Its training in a few words: steps and datasets, or where it is from."""
        if self.config.origin is not None:
            shortened = re.sub(r"([0-9a-f]{8})[0-9a-f]{56}", r"\1…", self.config.origin)
            return f"from {shortened}, trained elsewhere, on images that are not known"
        return f"step {self.step:,} on {', '.join(_names(self.config.data.train))}"


def load_run(run: Path, *, newest: bool = False, report: Callable[[str], None]) -> TrainedRun:
    """Load the best checkpoint of a run.

    Args:
        run: the run directory; or a file of `write_release`; or `released`, the one that comes with the package.
        newest: take the newest checkpoint instead.
        report: told, in a sentence, of a damaged configuration file, and of every damaged checkpoint; the one before it
            is used.

    Raises:
        FileNotFoundError: there is no run there, or it has no checkpoint yet.
        ValueError: all checkpoints are damaged.
    """
    found = _load_variables(run, newest, report)
    # The configuration saved with the variables: it fits them, and its digest was verified.
    return TrainedRun(configuration.from_dict(dict(found.config)), found)


def write_release(trained: TrainedRun, file: Path) -> None:
    """Put a trained network into one file; see `weights_file.py`. Of folders on this machine it keeps the names alone.

    Raises:
        ValueError: a parameter is too large for float16.
        OSError: the file cannot be written.
    """
    data = trained.config.data
    names = {"train": _names(data.train), "validation": _names(data.validation), "whole": _names(data.whole)}
    config = configuration.with_data(trained.config, **names, cache=None, manual_dir=None)
    config = dataclasses.replace(config, run=Path(config.run.name))
    write_weights(file, dataclasses.replace(trained.saved, config=configuration.to_dict(config)))


def _load_variables(run: Path, newest: bool, report: Callable[[str], None]) -> TrainedVariables:
    check_trained(run)
    folder = locate(run)
    if folder.is_file():
        if newest:
            report(f"{run}: is one checkpoint, and --newest changes nothing")
        return read_weights(folder)
    devices.backend()  # reading needs a device: without one, every checkpoint would be called damaged
    checkpoints = folder / CHECKPOINTS
    if newest:
        return load_newest_variables(checkpoints, report=report)
    return load_best_variables(checkpoints, read_config(folder, report=report).best_score, report=report)


def _names(datasets: Sequence[str]) -> tuple[str, ...]:
    """Names of datasets; a folder is named by its last part."""
    return tuple(Path(each).name for each in datasets)
