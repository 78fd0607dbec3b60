"""The command `python -m menet_jax.train`: what it says and does."""

import signal
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import jax

from menet_jax.data import overlaps
from menet_jax.data.pipeline import training_batches
from menet_jax.data.sources import ALL, Source, full_path, open_all, open_split, place, used_whole
from menet_jax.images.opening import UnreadableImageError
from menet_jax.runtime import devices, progress
from menet_jax.runtime.cli import BAD_INPUT, FAILED, run_command
from menet_jax.runtime.hosts import Hosts
from menet_jax.runtime.meeting import lasting, meet
from menet_jax.runtime.regular_files import at_home
from menet_jax.runtime.text import warn
from menet_jax.training.checkpoint_format import DamagedCheckpointError, MismatchedCheckpointError, library_versions
from menet_jax.training.checkpoints import CheckpointStore, Report
from menet_jax.training.config import Config, of_all_hosts, with_data
from menet_jax.training.kept_config import check_unchanged, read_config
from menet_jax.training.loop import DivergedError, NonFiniteLossError, fit, restore
from menet_jax.training.recorder import Recorder
from menet_jax.training.run import Held, open_run, write_config
from menet_jax.training.run_folder import CHECKPOINTS, CONFIG_FILE, check_run, saved_steps
from menet_jax.training.step import TrainState, check_batch, create_state, map_over_devices


def join(config: Config) -> Hosts:
    """Join the other processes of a run over several hosts, if it is one.

    Raises:
        ValueError: they do not come, or are not started alike.
        OSError: process 0 cannot listen at the coordinator's address.
    """
    told = config.distributed
    if told.coordinator is None:
        return Hosts()
    found = _cluster() if told.coordinator == "auto" else (told.coordinator, told.processes, told.process_id, None)
    address, count, index, used = found
    hosts = meet(address, count, index, {**of_all_hosts(config), **library_versions()})
    with hosts.ending_together(BAD_INPUT):
        jax.distributed.initialize(lasting(address) if index else address, count, index, used)
    return hosts


def _cluster() -> tuple[str, int, int, Sequence[int] | None]:
    """The cluster as JAX detects it: the coordinator's address, number of processes, index of this one, its devices."""
    from jax._src.clusters import ClusterEnv  # no public function tells it without waiting for the others

    address, count, index, used = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, 300)
    if address is None or count is None or index is None:
        raise ValueError("--distributed.coordinator auto: JAX finds no cluster here; name process 0, HOST:PORT")
    return address, count, index, used


def with_full_paths(config: Config) -> Config:
    """The configuration, with its data named such that the run can be resumed from any working directory."""
    data = config.data
    return with_data(
        config,
        train=tuple(map(full_path, data.train)),
        validation=tuple(map(full_path, data.validation)),
        cache=data.cache and at_home(data.cache).absolute(),
        manual_dir=data.manual_dir and at_home(data.manual_dir).absolute(),
    )


def with_whole(config: Config) -> Config:
    """The configuration with the datasets that are used whole.

    A run decides this at its start. When it is resumed, only further datasets to validate on may be used whole.

    Raises:
        ValueError: a resumed run would validate on images that it is trained on.
    """
    if not config.resume:
        return with_data(config, whole=used_whole(config.data.train, config.data.validation))
    data, saved = config.data, read_config(config.run, report=warn).data
    # A folder may have moved since the run began: its old and its new path stand at the same place in both lists.
    whole = [now for was, now in zip(saved.train, data.train, strict=False) if was in saved.whole]
    trained_whole = {place(spec) for spec in (*whole, *(spec for spec in saved.train if spec in saved.whole))}
    leaking = [spec for spec in data.validation or data.train if place(spec) in trained_whole]
    if leaking:
        raise ValueError(
            f"--data.validation: the run is trained on all images of {leaking[0]}; name others to validate on, or "
            "start a new run with another --run"
        )
    known = {place(spec) for spec in (*data.train, *saved.validation)}
    new = [spec for spec in data.validation if place(spec) not in known]
    validated_whole = {place(spec) for spec in saved.validation if spec in saved.whole}
    whole += [spec for spec in data.validation if place(spec) in validated_whole]
    return with_data(config, whole=(*whole, *used_whole((), new)))


def open_data(config: Config) -> tuple[list[Source], list[Source]]:
    """The training and the validation splits, or whole folders, prepared on first use."""
    data = config.data
    places = data.places(data.skip_bad)

    def open_splits(specs: Sequence[str], split: str) -> list[Source]:
        return open_all(partial(open_split, spec, ALL if spec in data.whole else split, places) for spec in specs)

    training = open_splits(data.train, "train")
    if data.validation:
        return training, open_splits(data.validation, "validation")
    try:
        return training, open_splits(data.train, "validation")
    except ValueError as error:  # the datasets are open: they lack this split
        raise ValueError(f"{error}\nTo validate on others, name them: --data.validation") from error


def describe(
    config: Config,
    used: Sequence[jax.Device],
    training: Sequence[Source],
    validation: Sequence[Source],
    state: TrainState,
) -> str:
    """The lines that a training prints at its start."""
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    processes = f", {jax.process_count()} processes" if jax.process_count() > 1 else ""
    kinds = " or ".join(distortion.label for distortion in config.data.distortions)
    distorted = f"distortions  {config.data.distort:.0%} of the training images: {kinds}"
    lines = [
        f"{devices.line(used, jax.device_count(), width=12)}{processes}",
        f"precision    {config.model.precision} (parameters and losses float32)",
        *(f"{'training' if not i else '':12} {source.summary()}" for i, source in enumerate(training)),
        *([distorted] if config.data.distort else []),
        *(f"{'validation' if not i else '':12} {_how_many(source)}" for i, source in enumerate(validation)),
        f"network      {config.model.kind}, width {config.model.width}, {parameters:,} parameters",
        f"loss         {config.loss.metric:g} · metric loss + {config.loss.cross_entropy:g} · cross entropy",
        f"run          {config.run}",
    ]
    return "\n".join(lines)


def _how_many(source: Source) -> str:
    return f"{'all ' if source.split == ALL else ''}{len(source):,} images of {source.name}"


def train(
    config: Config, used: Sequence[jax.Device], training: Sequence[Source], validation: Sequence[Source]
) -> signal.Signals | None:
    """Train in an open run directory; the signal that stopped it, or None at its end."""
    first = jax.process_index() == 0
    say: Report = progress.say if first else lambda _: None
    state = create_state(config)
    say(describe(config, used, training, validation, state))
    with ExitStack() as stack:
        store = stack.enter_context(CheckpointStore(config.run / CHECKPOINTS, config.best_score))
        batches = training_batches(
            training,
            size=config.data.size,
            batch_size=config.batch_size,
            seed=config.seed,
            augment=config.data.augment,
            distorted=config.data.distort,
            distortions=config.data.distortions,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            threads=config.data.threads,
            identity=[source.identity for source in training],
        )
        stack.callback(batches.close)
        if config.resume and saved_steps(config.run / CHECKPOINTS):
            state = restore(store, state, batches, say)
            if state.step > config.steps:
                raise MismatchedCheckpointError(
                    f"--steps {config.steps}: {config.run} is at step {int(state.step)} already; ask for more steps"
                )
            say(f"resumed at step {int(state.step):,} of {config.steps:,}")
        elif config.resume:
            say("there is no checkpoint yet: starting at step 0")
        write_config(config)
        if first:
            overlaps.keep(config.run, training, validation)
        recorder = Recorder(config.run, int(state.step), say) if first else None
        mapped = map_over_devices(config, used)
        stopped_by = fit(config, mapped, state, batches, validation, store, recorder, say)
    if stopped_by is None:
        say(f"finished {config.steps:,} steps in {config.run}. {advice(config)}")
    return stopped_by


def advice(config: Config) -> str:
    """The command that uses a trained run."""
    only = "" if "metric" in config.model.maps else " --probability"
    return f"Predict with: python -m menet_jax.predict --run {config.run} --source IMAGES --dest MAPS{only}"


class Opened(NamedTuple):
    """A run, opened and checked."""

    hosts: Hosts
    config: Config
    used: Sequence[jax.Device]
    training: Sequence[Source]
    validation: Sequence[Source]
    held: Held | None


def prepare(config: Config) -> Opened:
    """Open and check everything, and make the run directory; ValueError or OSError says what cannot be used."""
    hosts = join(config)
    with hosts.ending_together(BAD_INPUT):
        used = devices.start(config.device)
        if hosts.index == 0:
            check_run(config.run, resume=config.resume, overwrite=config.overwrite)
            Held(config.run)  # said before anything is prepared
        if config.resume:
            check_unchanged(config.run)
        check_batch(config.batch_size, jax.device_count())
        config = with_whole(with_full_paths(config))
        training, validation = open_data(config)
        held = open_run(config) if hosts.index == 0 else None
        hosts.compare(
            {
                "devices": f"{len(used)} × {used[0].device_kind}",
                "data to train on": [source.identity for source in training],
                "data to validate on": [source.identity for source in validation],
            }
        )
        if not (config.run / CONFIG_FILE).exists():
            raise ValueError(
                f"--run {config.run}: what process 0 has made there is not to be seen; the run directory must be on a "
                "file system that all hosts share"
            )
    return Opened(hosts, config, used, training, validation, held)


def do(opened: Opened) -> int:
    """Train; the exit status."""
    with opened.hosts.ending_together(FAILED):
        stopped_by = train(opened.config, opened.used, opened.training, opened.validation)
        opened.hosts.part()
    return 0 if stopped_by is None else 128 + stopped_by


def run(config: Config) -> int:
    """Do what the command line asks for; the exit status: 0, 2 for bad input, 1 for a failed run, 128 + n after
    signal n.
    """
    failures = (
        OSError, NonFiniteLossError, DivergedError, MismatchedCheckpointError, DamagedCheckpointError,
        UnreadableImageError,
    )  # fmt: skip
    return run_command(
        lambda: prepare(config), do, lambda _: "--resume goes on from the last checkpoint", failures=failures
    )
