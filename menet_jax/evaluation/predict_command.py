"""The command `python -m menet_jax.predict`: what it says and does."""

import time
from collections.abc import Sequence

import jax

from menet_jax.evaluation.files import Job, plan, predict_files
from menet_jax.evaluation.options import Predict, map_kind
from menet_jax.evaluation.predictor import Predictor
from menet_jax.runtime import devices
from menet_jax.runtime.cli import run_command
from menet_jax.runtime.progress import Bar
from menet_jax.runtime.text import complain, listed, say, warn
from menet_jax.training.run import TrainedRun, load_run


def prepare(options: Predict) -> tuple[list[Job], list[str], Sequence[jax.Device], TrainedRun]:
    """Open and check everything, before anything is computed; ValueError or OSError says what cannot be used.

    Returns:
        what there is to do, what was skipped, the devices and the network.
    """
    jobs, skipped = plan(options.source, options.dest, overlay=options.overlay, cutout=options.cutout)
    used = devices.start(options.device)
    run = load_run(options.run, newest=options.newest, report=warn)
    run.check_map(map_kind(options.probability))
    options.dest.mkdir(parents=True, exist_ok=True)
    return jobs, skipped, used, run


def do(
    options: Predict, jobs: Sequence[Job], skipped: Sequence[str], used: Sequence[jax.Device], run: TrainedRun
) -> int:
    """Say what there is to do, and predict it all; the exit status."""
    kind = map_kind(options.probability)
    others = f"; {len(skipped)} others skipped: {listed(skipped)}" if skipped else ""
    untrained = "" if run.config.loss.trains(kind) else ", which the run did not train: its loss had weight 0"
    say(
        devices.line(used),
        f"run      {options.run}, {run.history}, {run.validated}",
        f"images   {len(jobs):,} from {options.source}{others}",
        f"maps     {kind}{untrained}",
    )
    return predict(options, jobs, Predictor(run.config, run.variables, used, min(options.batch_size, len(jobs))))


def predict(options: Predict, jobs: Sequence[Job], predictor: Predictor) -> int:
    """Do the jobs and report; the exit status, 1 if an image could not be read."""
    start = time.monotonic()
    outcomes = predict_files(predictor, jobs, map_kind(options.probability), threads=options.threads)
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
    return 1 if problems else 0


def run(options: Predict) -> int:
    """Do what the command line asks for; the exit status, see `Predict`."""
    return run_command(
        lambda: prepare(options), lambda work: do(options, *work), lambda _: "the maps written so far are whole"
    )
