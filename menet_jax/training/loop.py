"""The training loop: steps, records, validations and checkpoints, from wherever the run stands to its end."""

import math
import signal
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import jax
import numpy as np
from jax.experimental import multihost_utils

from menet_jax.data.pipeline import TrainingBatches
from menet_jax.data.sources import Source
from menet_jax.model.inference import Maps, Network
from menet_jax.runtime.progress import Bar, live
from menet_jax.training.checkpoint_format import Checkpoint, MismatchedCheckpointError, library_versions
from menet_jax.training.checkpoints import CheckpointStore, Report
from menet_jax.training.config import Config, to_dict
from menet_jax.training.optimizer import learning_rate
from menet_jax.training.recorder import Recorder
from menet_jax.training.step import Batch, Mapped, Metrics, TrainState, first_replica
from menet_jax.training.validation import Sample, validate


class NonFiniteLossError(RuntimeError):
    """The loss, its gradient or the parameters after it are infinite or not a number."""

    def __init__(self, step: int, metrics: Metrics) -> None:
        found = ", ".join(f"{name} {float(value):g}" for name, value in metrics._asdict().items())
        super().__init__(
            f"step {step} is not finite ({found}). The last good checkpoint is kept. Try a lower "
            "--optimizer.learning-rate, an --optimizer.warmup of some hundred steps or a larger --batch-size, "
            "in a new run."
        )


class DivergedError(RuntimeError):
    """The processes of a run do not hold the same network any more."""


def check_replicas(step: int, state: TrainState) -> None:
    """Raise DivergedError unless all processes have the same state, to the last bit."""
    if jax.process_count() == 1:
        return
    digest = 0
    for leaf in jax.tree.leaves(state):
        digest = zlib.crc32(np.ascontiguousarray(leaf).data, digest)
    everywhere = multihost_utils.process_allgather(np.uint32(digest)).ravel().tolist()
    others = [f"process {index}" for index, theirs in enumerate(everywhere) if theirs != everywhere[0]]
    if others:
        raise DivergedError(
            f"after step {step} the network of process 0 is not that of {', '.join(others)}: the hardware of one of "
            "them is at fault, or not the same, or their GPUs compiled the step differently. This step is not saved; "
            "--resume goes on from the last checkpoint"
        )


@contextmanager
def stop_on(received: list[signal.Signals], *numbers: signal.Signals) -> Iterator[None]:
    """Collect the signals in a list as they come; a Ctrl-C after any of them interrupts at once."""

    def handle(number: int, _: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def restore(store: CheckpointStore, state: TrainState, batches: TrainingBatches, report: Report) -> TrainState:
    """The state of the newest sound checkpoint, in the structure of `state`; the data goes to its position.

    Raises:
        FileNotFoundError, DamagedCheckpointError: as `CheckpointStore.restore`.
        MismatchedCheckpointError: as there; or the position is of other data.
    """
    saved = store.restore(state.variables, state.opt_state, report=report)
    now = library_versions()
    for name, version in saved.versions.items():
        if now.get(name) != version:
            report(f"{name} was {version} when the checkpoint was saved and is {now.get(name)} now")
    try:
        batches.set_state(saved.data_position)
    except ValueError as error:
        raise MismatchedCheckpointError(str(error)) from None
    step = np.asarray(saved.step, np.int32)
    return TrainState(step, opt_state=saved.optimizer, rng=saved.rng, **saved.variables)


def fit(
    config: Config,
    mapped: Mapped,
    state: TrainState,
    batches: TrainingBatches,
    validation: Sequence[Source],
    store: CheckpointStore,
    recorder: Recorder | None,
    report: Report,
) -> signal.Signals | None:
    """Train from `state` to `config.steps`, or to a signal.

    Args:
        state: where to begin; not replicated.
        batches: the training data, at the position that belongs to `state`.
        recorder: writes logs and samples; None in all processes but the first.
        report: told, in a sentence, of all that happens.

    Returns:
        the signal that stopped the run, after a checkpoint; None at the end.

    Raises:
        NonFiniteLossError: a loss, its gradient or the parameters after it are not finite.
    """
    start, state = int(state.step), mapped.replicate(state)
    unchecked: tuple[int, Metrics] | None = None
    validated = False
    received: list[signal.Signals] = []
    with stop_on(received, signal.SIGTERM), ExitStack() as stack, _bar(config, start, hidden=recorder is None) as bar:
        log = _Log(config, start, bar, recorder)
        for step in range(start + 1, config.steps + 1):
            batch = next(batches)
            state, metrics = mapped.train(state, Batch(batch["image"], batch["mask"]))
            if unchecked is not None:
                _check(*unchecked)  # the step before, while this one runs
            unchecked = step, metrics
            bar.update()
            if step == start + 1:
                stack.enter_context(stop_on(received, signal.SIGINT))  # until now there is nothing to save
                log.start_clock(step)  # from when the step was compiled
            due = step == config.steps or step % config.save_every == 0
            logging = due or step % config.log_every == 0
            stopping = _anywhere(bool(received)) if logging or jax.process_count() == 1 else False
            if logging or stopping:
                log.write(step, _check(step, metrics))
            # Validate first: the checkpoint stores its scores.
            scores, samples = _validated(config, mapped, state, validation, validated) if due else (None, [])
            validated |= due
            if due or stopping:
                whole = first_replica(state)
                check_replicas(step, whole)
                store.save(_checkpoint(config, step, whole, batches, scores))
            if scores is not None:
                _record(recorder, step, scores, samples, report)
                log.start_clock(step)
            if stopping and step < config.steps:
                store.wait()
                return _stopped(step, received, report)
    store.wait()
    return None


def _validated(
    config: Config, mapped: Mapped, state: TrainState, validation: Sequence[Source], compiled: bool
) -> tuple[dict[str, float], list[Sample]]:
    share = config.batch_size // jax.process_count()  # as of a training batch, which divides by all devices
    network = Network(partial(mapped.evaluate, state.variables), config.data.size, share, config.model.maps)
    return validate(network, validation, threads=config.data.threads, compiled=compiled)


def _checkpoint(
    config: Config, step: int, state: TrainState, batches: TrainingBatches, scores: dict[str, float] | None
) -> Checkpoint:
    position = batches.get_state(used=step)
    return Checkpoint(step, state.variables, state.opt_state, state.rng, position, to_dict(config), scores)


def _stopped(step: int, received: Sequence[signal.Signals], report: Report) -> signal.Signals:
    name = received[0].name if received else "a signal to another process"
    report(f"stopped by {name} at step {step}; a checkpoint is saved: go on with --resume")
    return received[0] if received else signal.SIGTERM


def _bar(config: Config, start: int, *, hidden: bool) -> Bar:
    interval = 0.5 if live() else 30  # a file gets a line now and then
    bar = Bar(total=config.steps, initial=start, unit="step", mininterval=interval, disable=hidden)
    bar.compiling()
    return bar


def _check(step: int, metrics: Metrics) -> Metrics:
    """Wait for a dispatched step, and look at what it says."""
    found: Metrics = first_replica(metrics)
    if not all(math.isfinite(value) for value in found):
        raise NonFiniteLossError(step, found)
    return found


class _Log:
    """Says how training goes: in the bar, and in the run's records."""

    def __init__(self, config: Config, step: int, bar: Bar, recorder: Recorder | None) -> None:
        self._config, self._bar, self._recorder = config, bar, recorder
        self._rate = jax.jit(learning_rate(config.optimizer))  # one program to compile instead of ten
        self.start_clock(step)

    def start_clock(self, step: int) -> None:
        """Measure images a second from this step on."""
        self._step, self._time = step, time.monotonic()

    def write(self, step: int, metrics: Metrics) -> None:
        """Write the metrics of a step, and the speed of the steps since the last log line."""
        values = {name: float(value) for name, value in metrics._asdict().items()}
        values["learning_rate"] = np.asarray(self._rate(step - 1)).item()
        seconds = max(time.monotonic() - self._time, 1e-9)
        values["images_per_second"] = (step - self._step) * self._config.batch_size / seconds
        self.start_clock(step)
        self._bar.set_postfix_str(
            f"loss {values['loss']:.3f}; metric {values['metric_loss']:.3f}; CE {values['cross_entropy']:.3f}; "
            f"lr {values['learning_rate']:.2g}; {values['images_per_second']:.1f} images/s"
        )
        if self._recorder is not None:
            self._recorder.scalars("train", step, values)


def _anywhere(stop: bool) -> bool:
    """Whether any process was told to stop; all must ask at the same step."""
    return stop if jax.process_count() == 1 else bool(np.any(multihost_utils.process_allgather(np.array(stop))))


def _record(
    recorder: Recorder | None, step: int, scores: dict[str, float], samples: Sequence[Sample], report: Report
) -> None:
    if recorder is None:
        return
    recorder.scalars("validation", step, scores)
    picture = recorder.samples(step, samples)
    said = [
        f"{kind} map F {scores[f'{kind}_adaptive_f']:.3f} MAE {scores[f'{kind}_mae']:.3f}"
        for kind in Maps._fields
        if f"{kind}_mae" in scores
    ]
    report("; ".join([f"step {step}: {', '.join(said)}", *([str(picture)] if picture else [])]))
