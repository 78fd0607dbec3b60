"""Train MEnet:  python -m menet_jax.train [quickstart|paper|ce-only|…] [--flags]"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

from menet_jax.data.options import check_data
from menet_jax.runtime import memory
from menet_jax.runtime.cli import refuse_repeats, run_command, words
from menet_jax.training import config as configuration
from menet_jax.training.config import Config
from menet_jax.training.presets import describe_presets, preset
from menet_jax.training.run_folder import CONFIG_FILE, check_run


def parse(arguments: Sequence[str]) -> Config:
    """The configuration that a command line asks for.

    A resumed run's defaults are those that it was started with.

    Raises:
        ValueError: no such preset; nothing to resume; a resumed run is to train otherwise than it was.
    """
    named = bool(arguments) and not arguments[0].startswith("-")
    name, flags = (arguments[0], arguments[1:]) if named else ("quickstart", arguments)
    default = preset(name).config
    description = (
        "Train MEnet. The first argument names a preset, quickstart if there is none; flags change it.\n\n"
        + describe_presets()
    )

    def read(default: Config) -> Config:
        return tyro.cli(
            Config, default=default, args=words(flags), prog="python -m menet_jax.train", description=description
        )

    refuse_repeats(flags, Config)
    config = read(default)
    if not config.resume:
        return config
    if named:
        raise ValueError(f"--resume: goes on with the run's own configuration; leave out {name}")
    if not (config.run / CONFIG_FILE).exists():
        raise ValueError(f"--resume: there is no run in {config.run}; name one with --run")
    saved = _saved(config.run)
    if saved.origin is not None:
        raise ValueError(
            f"--resume: the network in {config.run} was not trained here, but is from {saved.origin}; with what it was "
            "trained, and how far, is not known. Train a new one without --resume, with another --run"
        )
    config = read(dataclasses.replace(saved, run=config.run, resume=True, overwrite=False))
    configuration.check_resumable(saved, config)
    return config


def _saved(run: Path) -> Config:
    """The run's own configuration. The one in a checkpoint serves as well, but to read it takes JAX, and seconds."""
    try:
        return configuration.read(run / CONFIG_FILE)
    except ValueError:
        from menet_jax.training.kept_config import read_config

        return read_config(run, report=lambda _: None)  # it is said once, later


def check(config: Config) -> Config:
    """The configuration, unless it can be refused at once.

    Raises:
        ValueError: the run directory is not to be written to; a dataset is neither one nor a folder.
    """
    if config.distributed.coordinator is None:  # of several processes, all are to be told
        check_run(config.run, resume=config.resume, overwrite=config.overwrite)
        try:
            check_data([*config.data.train, *config.data.validation])
        except ValueError as error:
            moved = "\nIf the run's data has moved, name its new place: --data.train, --data.validation"
            raise ValueError(f"{error}{moved if config.resume else ''}") from None
    return config


def work(config: Config) -> int:
    """Do it; the exit status."""
    memory.set_up()

    from menet_jax.training.command import run  # only now, for it imports JAX

    return run(config)


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status: 0, 2 for bad input, 1 for a failed run, 128 + n after signal n."""
    return run_command(lambda: check(parse(arguments)), work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
