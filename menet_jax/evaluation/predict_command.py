"""The command `python -m menet_jax.predict`: what it says and does."""

import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax

from menet_jax.evaluation.files import Job, plan, predict_files
from menet_jax.evaluation.options import Predict
from menet_jax.evaluation.predictor import Predictor
from menet_jax.images.opening import UnreadableImageError
from menet_jax.model.inference import Kind
from menet_jax.runtime import devices
from menet_jax.runtime.cli import run_command
from menet_jax.runtime.progress import Bar
from menet_jax.runtime.text import complain, listed, say, warn
from menet_jax.training.run import TrainedRun, load_run


def describe(options: Predict, used: Sequence[jax.Device], run: TrainedRun, images: int, others: list[str]) -> str:
    """The lines that the command prints before it starts."""
    skipped = f"; {len(others)} others skipped: {listed(others)}" if others else ""
    kind = _kind(options)
    untrained = "" if run.config.loss.trains(kind) else ", which the run did not train: its loss had weight 0"
    lines = [
        devices.line(used),
        f"run      {options.run}, {run.history}, {run.validated}",
        f"images   {images:,} from {options.source}{skipped}",
        f"maps     {kind}{untrained}",
    ]
    return "\n".join(lines)


def predict(options: Predict, jobs: Sequence[Job], predictor: Predictor) -> list[UnreadableImageError]:
    """Do the jobs and report; returns the errors of images that could not be read."""
    start = time.monotonic()
    outcomes = predict_files(predictor, jobs, _kind(options), threads=options.threads)
    problems, first = [], start
    with Bar(total=len(jobs), unit="image") as bar:
        bar.compiling()
        for done, problem in enumerate(outcomes):
            first = first if done else time.monotonic()
            problems += [problem] if problem else []
            bar.update()
    end = time.monotonic()
    # The first batch waits for the compiler, which would drown the speed of all but large folders.
    rest = len(jobs) - predictor.batch_size
    speed = rest / (end - first) if rest > 0 else len(jobs) / (end - start)
    say(
        f"wrote {len(jobs) - len(problems):,} maps to {options.dest} in {end - start:.1f} s; {speed:.1f} images/s "
        f"{'after the first batch' if rest > 0 else 'with compilation'}"
    )
    if problems:
        complain(f"{len(problems):,} of {len(jobs):,} images could not be read:", list(map(str, problems)))
    return problems


def _kind(options: Predict) -> Kind:
    return "probability" if options.probability else "metric"


class Work(NamedTuple):
    """The images and the network, opened and checked."""

    jobs: list[Job]
    skipped: list[str]
    used: Sequence[jax.Device]
    run: TrainedRun


def prepare(options: Predict) -> Work:
    """Open and check everything, before anything is computed; ValueError or OSError says what cannot be used."""
    jobs, skipped = plan(options.source, options.dest, overlay=options.overlay, cutout=options.cutout)
    used = devices.start(options.device)
    run = load_run(options.run, newest=options.newest, report=warn)
    run.check_map(_kind(options))
    options.dest.mkdir(parents=True, exist_ok=True)
    return Work(jobs, skipped, used, run)


def do(options: Predict, work: Work) -> int:
    """Predict all; the exit status."""
    say(describe(options, work.used, work.run, len(work.jobs), work.skipped))
    batch = min(options.batch_size, len(work.jobs))
    return 1 if predict(options, work.jobs, Predictor(work.run.config, work.run.variables, work.used, batch)) else 0


def run(options: Predict) -> int:
    """Do what the command line asks for; the exit status, see `Predict`."""
    return run_command(lambda: prepare(options), partial(do, options), lambda _: "the maps written so far are whole")
