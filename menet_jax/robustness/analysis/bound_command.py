"""The command `python -m menet_jax.robustness bound`: what it says and does."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from menet_jax.evaluation.inputs import Dataset, NamedRun
from menet_jax.reporting.files import write_results
from menet_jax.reporting.tables import Record, Score, Table
from menet_jax.robustness.analysis.inputs import (
    Subjects,
    open_subjects,
    opened_lines,
    progress,
    run_analysis,
    say_failures,
    say_reused,
)
from menet_jax.robustness.analysis.loop import failure
from menet_jax.robustness.analysis.report import UNITS, results_content
from menet_jax.robustness.analysis.results_cache import Determinants, ResultsCache
from menet_jax.robustness.analysis.subject import Place, Subject, image_determinants, random_key
from menet_jax.robustness.jacobian.bounds import PAPER_SOFTMAX, TIGHT_SOFTMAX, BoundNorms, bound_norms
from menet_jax.robustness.jacobian.spectral import lanczos
from menet_jax.robustness.options import Bound
from menet_jax.runtime.text import listed, say

SOFTMAX = {"paper's, 1": PAPER_SOFTMAX, "tight, 1/4": TIGHT_SOFTMAX}
"""What is taken as the largest derivative of the softmax."""


class Measured(NamedTuple):
    """A norm of one image."""

    dataset: str
    image: str
    spectral: float
    residual: float
    converged: bool


class Outcome(NamedTuple):
    """What was found of one run: the bound with the tight softmax factor, and what was measured."""

    run: NamedRun
    bound: BoundNorms
    images: tuple[Measured, ...]


def prepare(options: Bound) -> Subjects:
    """Open and check everything, before anything is computed.

    Raises:
        ValueError, OSError: something cannot be used; the text says what, and what to do.
    """
    return open_subjects(options, options.reading, options.limit)


def describe(options: Bound, work: Subjects, used: Sequence[jax.Device]) -> str:
    """What the command says before it starts."""
    return "\n".join([*opened_lines(work.runs, work.datasets, used), f"reading  {options.reading}"])


def run(options: Bound) -> int:
    """Do what the command line asks for; the exit status, see `Bound`."""
    return run_analysis(options, prepare, do)


def do(options: Bound, used: Sequence[jax.Device], work: Subjects) -> int:
    """Bound, measure and report; the exit status."""
    say(describe(options, work, used))
    outcomes, failures = find(options, work)
    table = bounds_table(outcomes, options.reading)
    say(f"\n{table.text()}")
    missed = [image.image for outcome in outcomes for image in outcome.images if not image.converged]
    if missed:
        say(f"note: measured norms that have not converged, raise --max-iterations: {listed(missed)}")
    if options.dest:
        written = _write(options, outcomes, table, failures, options.dest)
        say(f"wrote {', '.join(path.name for path in written)} to {options.dest}")
    return say_failures(failures, "images or networks")


def find(options: Bound, work: Subjects) -> tuple[list[Outcome], list[str]]:
    """Bound every run and measure its norm at the images, as far as the cache does not have them."""
    failures, outcomes = list[str](), list[Outcome]()
    places = [(dataset, place) for dataset, several in work.datasets for place in several]
    with progress(len(work.runs) * (1 + len(places))) as bar:
        for named_run, measured in work.runs:
            bar.set_description(f"{named_run.name}, bound")
            try:
                value = work.cache.kept(_bound_determinants(options, measured), partial(_bound, options, measured))
            except (ValueError, TypeError, OverflowError) as error:
                failures.append(f"{named_run.name}: {error}")
                bar.update(1 + len(places))
                continue
            bar.update()
            images = list[Measured]()
            for dataset, place in places:
                bar.set_description(f"{named_run.name}, {place.file_name}")
                try:
                    images.append(_measured(options, work.cache, measured, dataset, place))
                except ValueError as error:
                    failures.append(failure(named_run, place, error))
                bar.update()
            outcomes.append(Outcome(named_run, BoundNorms(**value), tuple(images)))
    say_reused(work.cache, len(work.runs) * (1 + len(places)))
    return outcomes, list(dict.fromkeys(failures))


def bounds_table(outcomes: Sequence[Outcome], reading: str) -> Table:
    """Eq. 13: a row for each run and softmax factor."""
    scores = [
        Score("1-norm", "bounds Σ|ΔF| / Σ|Δ| at every image", True, ".3e"),
        Score("inf-norm", "bounds max|ΔF| / max|Δ|", True, ".3e"),
        Score("2-norm", f"bounds ‖ΔF‖ / ‖Δ‖, a Lipschitz constant; {UNITS[reading]}", True, ".3e"),
        Score(
            "2-norm at least", "what the 2-norm of J̄ itself is at least: a bound from J̄ cannot be lower", None, ".3e"
        ),
        Score("measured", "largest ‖J‖₂ of the images", None, ".3e"),
        Score("loose", "the bound's 2-norm as a multiple of the largest measured one", None, ".1e"),
    ]
    records = []
    for outcome in outcomes:
        # The bounding matrix is a multiple of the factor, which is a power of two: this rounds nothing.
        factors = {name: factor / TIGHT_SOFTMAX for name, factor in SOFTMAX.items()}
        for name, multiple in (factors if reading == "probability" else {"none": 1.0}).items():
            numbers = {
                "1-norm": multiple * outcome.bound.one,
                "inf-norm": multiple * outcome.bound.infinity,
                "2-norm": multiple * outcome.bound.two,
                "2-norm at least": multiple * outcome.bound.two_at_least,
            }
            largest = max((image.spectral for image in outcome.images), default=0.0)
            if outcome.images:
                numbers["measured"] = largest
            if largest:
                numbers["loose"] = numbers["2-norm"] / largest
            size = outcome.run.trained.config.data.size
            labels = {
                "run": outcome.run.name,
                "reading": reading,
                "softmax": name,
                "size": f"{size}",
                "images": f"{len(outcome.images)}",
                "source": outcome.run.source,
            }
            records.append(Record(f"{name} {size}", labels, numbers))
    title = f"Certified bound (Eq. 13): norms of J̄ ≥ |J|, the Jacobian of the {reading} at every image"
    order = list(dict.fromkeys(record.group for record in records))
    return Table("bounds", title, sorted(records, key=lambda record: order.index(record.group)), scores)


def _bound(options: Bound, measured: Subject) -> dict[str, float]:
    return bound_norms(
        measured.f,
        (measured.size, measured.size),
        tolerance=options.bound_tolerance,
        max_iterations=options.bound_iterations,
    )._asdict()


def _bound_determinants(options: Bound, measured: Subject) -> Determinants:
    return {
        "bound": 3,
        "network": dict(measured.identity),
        "reading": options.reading,
        "tolerance": options.bound_tolerance,
        "iterations": options.bound_iterations,
        "platform": jax.default_backend(),
    }


def _measured(options: Bound, cache: ResultsCache, measured: Subject, dataset: Dataset, place: Place) -> Measured:
    """The norm at one image."""
    example = place.source[place.number]
    settings = {name: getattr(options, name) for name in ("reading", "tolerance", "max_iterations", "seed")}
    of = {"norm": 2, **image_determinants(measured, example), "settings": settings}

    def compute() -> dict[str, Any]:
        key, x = random_key(options.seed, example.file_name), measured.seen(example.image)
        norm = lanczos(measured.f, x, key, tolerance=options.tolerance, max_iterations=options.max_iterations)
        return {"spectral": norm.value, "residual": norm.residual, "converged": norm.converged}

    return Measured(dataset.name, place.file_name, **cache.kept(of, compute))


def _write(
    options: Bound, outcomes: Sequence[Outcome], table: Table, failures: Sequence[str], dest: Path
) -> list[Path]:
    flags: dict[str, Any] = {
        name: value
        for name, value in asdict(options).items()
        if name in ("reading", "limit", "bound_tolerance", "bound_iterations", "tolerance", "max_iterations", "seed")
    }
    lines = [{"run": outcome.run.name, **image._asdict()} for outcome in outcomes for image in outcome.images]
    return write_results(dest, [table], lines, [], results_content([table], flags, failures))
