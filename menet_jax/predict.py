"""Predict saliency maps:  python -m menet_jax.predict --checkpoint RUN --source FILE_OR_FOLDER --dest FOLDER"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import tyro
from tqdm import tqdm

from menet_jax import devices
from menet_jax.batch_prediction import Job, Kind, plan, predict_files
from menet_jax.commands import run_command
from menet_jax.images import UnreadableImageError
from menet_jax.messages import complain, listed, warn
from menet_jax.prediction import Predictor
from menet_jax.runs import TrainedRun, load_run


@dataclass(frozen=True)
class Options:
    """Predict saliency maps of images with a trained network.

    Writes DEST/<stem>.png of every image: 8-bit gray, at the image's own size. Exit status: 0; 1 if an image could
    not be read or a map not be written, the rest being done; 2 for bad input, nothing being done.
    """

    checkpoint: Path
    """Run directory, as training wrote it."""
    source: Path
    """Image file, or folder of images."""
    dest: Path
    """Folder to write to; made if there is none."""
    probability: bool = False
    """Write the probability map (cross-entropy branch) instead of the metric map."""
    overlay: bool = False
    """Write <stem>_overlay.png too: the map in red over the image."""
    cutout: bool = False
    """Write <stem>_cutout.png too: the image with the map as its transparency."""
    newest: bool = False
    """Use the newest checkpoint of the run, not the best."""
    batch_size: int = 8
    """Images computed at once; rounded up to a multiple of the devices."""
    threads: int = 2
    """Threads that decode images and write maps."""
    device: Literal["cpu", "gpu", "tpu"] | None = None
    """Fail unless JAX computes there; none given: wherever JAX does by default."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")

    @property
    def kind(self) -> Kind:
        """Which map to write."""
        return "probability" if self.probability else "metric"


def describe(options: Options, used: Sequence[jax.Device], run: TrainedRun, images: int, others: list[str]) -> str:
    """What the command says before it starts."""
    name, value = run.score
    score = "not validated" if value is None else f"{name} {value:.3f}"
    passed_over = f"; {len(others)} others passed over: {listed(others)}" if others else ""
    weight = run.config.loss.cross_entropy if options.probability else run.config.loss.metric
    lines = [
        f"devices  {len(used)} × {used[0].device_kind} ({used[0].platform})",
        f"run      {options.checkpoint}, {run.history}, {score}",
        f"images   {images:,} from {options.source}{passed_over}",
        f"maps     {options.kind}{'' if weight else ', which the run did not train: its loss had weight 0'}",
    ]
    return "\n".join(lines)


def predict(options: Options, jobs: Sequence[Job], predictor: Predictor) -> list[UnreadableImageError]:
    """Do the jobs and report; what is wrong with the images that could not be read."""
    start = time.monotonic()
    outcomes = predict_files(predictor, jobs, options.kind, threads=options.threads)
    problems, first = [], start
    with tqdm(total=len(jobs), unit="image", dynamic_ncols=True) as bar:
        for done, problem in enumerate(outcomes):
            first = first if done else time.monotonic()
            problems += [problem] if problem else []
            bar.update()
    end = time.monotonic()
    # The first batch waits for the compiler, which would drown the speed of all but large folders.
    rest = len(jobs) - predictor.batch_size
    speed = rest / (end - first) if rest > 0 else len(jobs) / (end - start)
    print(
        f"wrote {len(jobs) - len(problems):,} maps to {options.dest} in {end - start:.1f} s; {speed:.1f} images/s "
        f"{'after the first batch' if rest > 0 else 'with compilation'}"
    )
    if problems:
        complain(f"{len(problems):,} of {len(jobs):,} images could not be read:", list(map(str, problems)))
    return problems


class Work(NamedTuple):
    """All there is to do, opened and checked."""

    options: Options
    jobs: list[Job]
    passed_over: list[str]
    used: Sequence[jax.Device]
    run: TrainedRun


def prepare(arguments: Sequence[str]) -> Work:
    """Open and check everything, before anything is computed.

    Raises:
        ValueError, OSError: something cannot be used; the text says what, and what to do.
    """
    options = tyro.cli(Options, args=arguments, prog="python -m menet_jax.predict")
    jobs, passed_over = plan(options.source, options.dest, overlay=options.overlay, cutout=options.cutout)
    used = devices.start(options.device)
    run = load_run(options.checkpoint, newest=options.newest, report=warn)
    options.dest.mkdir(parents=True, exist_ok=True)
    return Work(options, jobs, passed_over, used, run)


def do(work: Work) -> int:
    """Predict all; the exit status."""
    print(describe(work.options, work.used, work.run, len(work.jobs), work.passed_over))
    batch = min(work.options.batch_size, len(work.jobs))
    return (
        1 if predict(work.options, work.jobs, Predictor(work.run.config, work.run.variables, work.used, batch)) else 0
    )


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, see `Options`."""
    return run_command(lambda: prepare(arguments), do, lambda _: "the maps written so far are whole")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
