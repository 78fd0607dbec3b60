"""The checkpoints of a run: save, restore, resume.

A folder holds one checkpoint (`checkpoint_format.py`) per saved step. A damaged one is never skipped in
silence.
"""

import atexit
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from menet_jax.training.checkpoint_format import (
    Checkpoint,
    DamagedCheckpointError,
    TrainedVariables,
    Tree,
    brief,
    read_checkpoint,
    read_record,
    read_variables,
    to_items,
)
from menet_jax.training.run_folder import saved_steps

T = TypeVar("T")
Report = Callable[[str], None]
"""Told, in a sentence, of what users should know, such as every damaged checkpoint that is skipped."""

DAMAGED = "damaged"
"""Sub-folder into which a resuming run moves damaged checkpoints."""


@contextmanager
def _said_once() -> Iterator[None]:
    """Keep Orbax from saying an error of a save twice.

    It logs what it raises, from each of its threads. And arrays that are still being written when the first one fails
    complain that its event loop is closed.
    """
    before = sys.unraisablehook

    def is_news(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    logging.getLogger("absl").addFilter(is_news)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        logging.getLogger("absl").removeFilter(is_news)


class CheckpointStore:
    """The checkpoints of one run, for the run that writes them.

    Keeps the newest two and the one with the highest score named `best`. With several processes, each opens
    the store on the same folder, and all save and restore together; the first one does the writing.

    >>> with CheckpointStore(run / "checkpoints", best="metric_adaptive_f") as store:  # doctest: +SKIP
    ...     start = store.restore(variables, optimizer, report=print)
    ...     store.save(dataclasses.replace(start, step=start.step + 1))
    """

    def __init__(self, folder: Path, best: str) -> None:
        self.folder = folder.resolve()
        self._best = best
        self._scores = {
            step: _read_score(self.folder / str(step), best, unreadable=-math.inf) for step in saved_steps(self.folder)
        }
        with ExitStack() as stack:
            stack.enter_context(_said_once())
            self._manager = ocp.CheckpointManager(
                self.folder,
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                        [checkpoint_managers.LatestN(2), _HighestScore(self._scores)]
                    ),
                    cleanup_tmp_directories=True,  # what a killed save left behind
                ),
            )
            self._open = stack.pop_all()

    def __enter__(self) -> "CheckpointStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(self, checkpoint: Checkpoint) -> bool:
        """Start to save; the arrays are copied before the return and may be donated or overwritten after it.

        Returns:
            False if that step is already saved; what is there is left as it is.

        Raises:
            ValueError: scores lack the one that the best checkpoint is chosen by.
        """
        step, scores = checkpoint.step, checkpoint.scores
        if step in self._manager.all_steps():
            return False
        if scores is not None and self._best not in scores:
            raise ValueError(f"the best checkpoint is chosen by {self._best!r}, which is not among {sorted(scores)}")
        items = to_items(checkpoint)
        self._scores[step] = _ranking(scores, self._best)
        with self._writing():
            return self._manager.save(step, args=items, force=True)  # when to save is the caller's decision

    def restore(self, variables: Tree, optimizer: Tree, *, report: Report) -> Checkpoint:
        """The newest sound checkpoint, in the structure of the given trees (of arrays, or shapes and dtypes).

        Newer, damaged ones are reported and moved into `damaged/`, so that their steps can be saved again.

        Raises:
            FileNotFoundError: there is none.
            DamagedCheckpointError: all are damaged.
            MismatchedCheckpointError: it is of another network or optimizer.
        """
        self.wait()

        def read(folder: Path) -> Checkpoint:
            return _read_together(lambda: read_checkpoint(folder, variables, optimizer))

        checkpoint, damage = _first_sound(self.folder, saved_steps(self.folder)[::-1], read)
        for step, reason in damage.items():
            report(
                f"{_sentence(self.folder, step, reason)}; it is moved to {self.folder / DAMAGED}, "
                f"and step {checkpoint.step} is used instead"
            )
            if jax.process_index() == 0:
                _move_aside(self.folder / str(step), self.folder / DAMAGED)
            self._scores.pop(step, None)
        multihost_utils.sync_global_devices("damaged checkpoints are moved")
        self._manager.reload()
        return checkpoint

    def wait(self) -> None:
        """Finish the save in progress; an OSError in it is raised here, or by the next save."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Finish the save in progress and let go of the folder; an OSError in it is raised, if it was not yet."""
        with self._open, self._writing():
            self._manager.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # as many kinds as there are ways to fail
            atexit.register(self._open.pop_all().close)  # what is still under way fails later, also after `close`
            code = re.search(r"os_error_code='(\d+)'", str(error))
            reason = os.strerror(int(code[1])) if code else getattr(error, "strerror", None) or brief(error)
            raise OSError(
                f"{self.folder}: a checkpoint cannot be written ({reason}); those before it are kept. "
                "Make that possible, and go on with --resume"
            ) from error


def load_newest_variables(folder: Path, *, report: Report) -> TrainedVariables:
    """The variables of the newest sound checkpoint. The folder is left as it is."""
    return _load_variables(folder, saved_steps(folder)[::-1], report)


def load_best_variables(folder: Path, best: str, *, report: Report) -> TrainedVariables:
    """The variables of the sound one with the highest score named `best`, without scores the newest."""

    def rank(step: int) -> tuple[float, int]:
        # One that cannot be read might have been the best: it is tried first, and so reported.
        return _read_score(folder / str(step), best, unreadable=math.inf), step

    return _load_variables(folder, sorted(saved_steps(folder), key=rank, reverse=True), report)


def _load_variables(folder: Path, steps: Sequence[int], report: Report) -> TrainedVariables:
    found, damage = _first_sound(folder, steps, read_variables)
    for step, reason in damage.items():
        report(f"{_sentence(folder, step, reason)}; step {found.step} is used instead")
    return found


def _first_sound(folder: Path, steps: Sequence[int], read: Callable[[Path], T]) -> tuple[T, dict[int, str]]:
    """The contents of the first sound step, and the problems of the steps before it."""
    damage: dict[int, str] = {}
    for step in steps:
        try:
            return read(folder / str(step)), damage
        except DamagedCheckpointError as error:
            damage[step] = str(error)
    if not damage:
        raise FileNotFoundError(f"no checkpoint in {folder}")
    sentences = "; ".join(_sentence(folder, step, reason) for step, reason in damage.items())
    raise DamagedCheckpointError(f"no sound checkpoint in {folder}: {sentences}")


def _sentence(folder: Path, step: int, reason: str) -> str:
    return f"the checkpoint of step {step}, {folder / str(step)}, is damaged ({reason})"


def _read_together(read: Callable[[], T]) -> T:
    """Read in every process, or fail in every process: all go on from the same step."""
    problem = None
    try:
        found = read()
    except DamagedCheckpointError as error:
        problem = error
    if multihost_utils.process_allgather(np.asarray(problem is None)).all():
        return found
    raise problem or DamagedCheckpointError("another process cannot read it")


def _move_aside(folder: Path, into: Path) -> None:
    """Move a damaged checkpoint. Nothing is deleted: the file system may only have failed for a moment."""
    into.mkdir(exist_ok=True)
    copies = sum(path.name.split("-")[0] == folder.name for path in into.iterdir())
    folder.rename(into / (f"{folder.name}-{copies + 1}" if copies else folder.name))


@dataclass(frozen=True)
class _HighestScore:
    """Orbax preservation policy. Its own `BestN` needs the scores stored once more, without a digest."""

    scores: Mapping[int, float]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        ranked = [(self.scores.get(one.step, -math.inf), one.step) for one in checkpoints]
        highest = max(ranked, default=None)
        return [pair == highest and pair[0] > -math.inf for pair in ranked]


def _ranking(scores: Mapping[str, float] | None, best: str) -> float:
    score = -math.inf if scores is None else scores.get(best, -math.inf)
    return -math.inf if math.isnan(score) else score


def _read_score(folder: Path, best: str, unreadable: float) -> float:
    try:
        return _ranking(read_record(folder)["scores"], best)
    except DamagedCheckpointError:
        return unreadable
