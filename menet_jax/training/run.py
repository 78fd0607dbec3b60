"""Run directories: made by training or from weights, opened to use the trained network.

A run directory holds `config.json`, `checkpoints/`, `logs/` and `samples/`.
"""

import dataclasses
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
from jax.experimental import multihost_utils

from menet_jax.training import config as configuration
from menet_jax.training.checkpoints import (
    Checkpoint,
    CheckpointStore,
    load_best_variables,
    load_newest_variables,
)
from menet_jax.training.config import Config
from menet_jax.training.run_folder import CHECKPOINTS, CONFIG_FILE, check_new, check_trained


def open_run(config: Config) -> None:
    """Make the run directory, empty unless the run is resumed."""
    if jax.process_index() == 0:
        if config.overwrite and config.run.exists():
            shutil.rmtree(config.run)
        config.run.mkdir(parents=True, exist_ok=True)
        if not config.resume:
            write_config(config)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("the run directory is open")


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
        variables: `params` and `batch_stats`, nested dictionaries of host arrays.
        step: how many steps it was trained.
        score: the name and value of the validation score that tells the best checkpoint; the value is None if
            the checkpoint was not validated.
    """

    config: Config
    variables: Mapping[str, Any]
    step: int
    score: tuple[str, float | None]

    @property
    def history(self) -> str:
        """What is known of its training, in a few words for the user."""
        if self.config.origin is not None:
            shortened = re.sub(r"([0-9a-f]{8})[0-9a-f]{56}", r"\1…", self.config.origin)
            return f"from {shortened}, trained elsewhere, on images that are not known"
        return f"step {self.step:,}"


def load_run(folder: Path, *, newest: bool = False, report: Callable[[str], None]) -> TrainedRun:
    """Load the best checkpoint of a run.

    Args:
        folder: the run directory.
        newest: take the newest checkpoint instead.
        report: told, in a sentence, of every damaged checkpoint; the one before it is used.

    Raises:
        FileNotFoundError: there is no run there, or it has no checkpoint yet.
        ValueError: its configuration cannot be read, or all checkpoints are damaged.
    """
    check_trained(folder)
    checkpoints = folder / CHECKPOINTS
    best = configuration.read(folder / CONFIG_FILE).best_score
    if newest:
        found_variables = load_newest_variables(checkpoints, report=report)
    else:
        found_variables = load_best_variables(checkpoints, best, report=report)
    return TrainedRun(
        # The one saved with the variables: it fits them, and its digest was verified.
        configuration.from_dict(dict(found_variables.config)),
        found_variables.variables,
        found_variables.step,
        (best, (found_variables.scores or {}).get(best)),
    )
