"""A trained run on the disk, opened to use its network.

A run directory holds `config.json`, `checkpoints/`, `logs/` and `samples/`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from menet_jax import config as configuration
from menet_jax.checkpoints import load_best_variables, load_newest_variables, saved_steps
from menet_jax.config import Config

CONFIG_FILE = "config.json"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class TrainedRun:
    """One checkpoint of a run.

    Attributes:
        config: the configuration it was trained with.
        variables: `params` and `batch_stats`, nested dictionaries of host arrays.
        step: how many steps it was trained.
        score: the name and value of the validation score that tells the best checkpoint; the value is None if
            the checkpoint was not validated.
    """

    config: Config
    variables: Mapping[str, Any]
    step: int
    score: tuple[str, float | None]


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
    from menet_jax.validation import best_score  # not above: validation reads images and is built on prediction

    if not (folder / CONFIG_FILE).is_file():
        found = "holds no run" if folder.is_dir() else "is not a directory"
        raise FileNotFoundError(f"{folder} {found}: name the directory that training wrote, as its --run says")
    checkpoints = folder / CHECKPOINTS
    if not saved_steps(checkpoints):
        raise FileNotFoundError(f"the run {folder} has no checkpoint yet: train it further with --resume")
    best = best_score(configuration.read(folder / CONFIG_FILE))
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
