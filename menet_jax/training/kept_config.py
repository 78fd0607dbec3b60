"""The configuration of a run, which is kept twice: in its file, and with a digest in every checkpoint."""

import dataclasses
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from menet_jax.training import config as configuration
from menet_jax.training.checkpoint_format import read_record
from menet_jax.training.config import Config
from menet_jax.training.run_folder import CHECKPOINTS, CONFIG_FILE, saved_steps


def read_config(folder: Path, *, report: Callable[[str], None]) -> Config:
    """The configuration of a run; where its file cannot be read, that of the newest readable checkpoint.

    Raises:
        ValueError: neither can be read.
    """
    try:
        return configuration.read(folder / CONFIG_FILE)
    except ValueError as error:
        kept = _kept_config(folder)
        if kept is None:
            raise
        step, config = kept
        report(f"{str(error).splitlines()[0]}; the configuration in the checkpoint of step {step} is used instead")
        return config


def check_unchanged(folder: Path) -> None:
    """Raise ValueError if the configuration file of a run says otherwise than its newest checkpoint."""
    kept = _kept_config(folder)
    if kept is None:
        return
    step, trained = kept
    saved = read_config(folder, report=lambda _: None)
    changed = configuration.changes(trained, saved)
    if changed:
        raise ValueError(
            f"{folder / CONFIG_FILE} was changed since the checkpoint of step {step}: {'; '.join(changed)}. "
            "Put back what was, or start a new run with another --run"
        )


def _kept_config(folder: Path) -> tuple[int, Config] | None:
    """The newest checkpoint whose record can be read, and the configuration in it."""
    for step in saved_steps(folder / CHECKPOINTS)[::-1]:
        with suppress(ValueError):
            kept = configuration.from_dict(read_record(folder / CHECKPOINTS / str(step))["config"])
            return step, dataclasses.replace(kept, run=folder, resume=False, overwrite=False)
    return None
