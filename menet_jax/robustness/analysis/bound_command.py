"""The command `python -m menet_jax.robustness bound`: its work and its messages."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import NamedTuple

import jax

from menet_jax.data.sources import Example
from menet_jax.evaluation.inputs import NamedRun
from menet_jax.reporting.tables import Record, Score, Table
from menet_jax.robustness.analysis.inputs import Inputs, run_analysis
from menet_jax.robustness.analysis.loop import Stage, analyse, one_by_one
from menet_jax.robustness.analysis.networks import MeasuredNetwork, random_key
from menet_jax.robustness.analysis.report import UNITS, grouped, leave
from menet_jax.robustness.jacobian.bounds import PAPER_SOFTMAX, TIGHT_SOFTMAX, BoundNorms, bound_norms
from menet_jax.robustness.jacobian.spectral import lanczos
from menet_jax.robustness.options import Bound, BoundSettings, among
from menet_jax.runtime.progress import Bar
from menet_jax.runtime.text import listed

SOFTMAX = {"paper's, 1": PAPER_SOFTMAX / TIGHT_SOFTMAX, "tight, 1/4": 1.0}
"""The two bounds on a derivative of the softmax, as multiples of the tight one. J̄ is a multiple of it, and these are
powers of two, which round nothing.
"""

MEANING = {"norm": 3}
"""Version of the records; raise it when the record of an image under the same settings changes."""


@dataclass(frozen=True)
class Measurement:
    """The norm of one image."""

    image: str
    spectral: float
    residual: float
    converged: bool


class Outcome(NamedTuple):
    """Results of one run: the bound with the tight softmax factor, and the measured norms."""

    run: NamedRun
    bound: BoundNorms
    images: Sequence[Measurement]


def run(options: Bound) -> int:
    """Do what the command line asks for; the exit status, see `Bound`."""
    return run_analysis(options, options.map, f"map      {options.map}", do)


def do(options: Bound, work: Inputs) -> int:
    """Bound, measure and report; the exit status."""
    bounds, unbounded = bound_all(options, work)
    settings, bounded = among(BoundSettings, options), [pair for pair in work.runs if pair[0].name in bounds]
    analyses, failures = analyse(work._replace(runs=bounded), settings, one_by_one(measure), Measurement, MEANING)
    outcomes = [
        Outcome(run, bounds[run.name], [image for each in analyses if each.run is run for image in each.images])
        for run, _ in bounded
    ]
    missed = [image.image for outcome in outcomes for image in outcome.images if not image.converged]
    note = f"note: measured norms that have not converged, raise --max-iterations: {listed(missed)}"
    names = ("limit", "bound_tolerance", "bound_iterations")
    return leave(
        options.dest,
        [bounds_table(outcomes, options.map)],
        [
            {"run": analysis.run.name, "dataset": analysis.dataset.name, **asdict(image)}
            for analysis in analyses
            for image in analysis.images
        ],
        lambda _: [],
        settings={**asdict(settings), **{name: getattr(options, name) for name in names}},
        failures=[*unbounded, *failures],
        notes=[note] if missed else [],
        of="images or networks",
    )


def bound_all(options: Bound, work: Inputs) -> tuple[dict[str, BoundNorms], list[str]]:
    """The bound of each run by its name, from the cache or computed; and the failures."""
    bounds, failures = dict[str, BoundNorms](), list[str]()
    for named_run, of in Bar(work.runs, unit="bound"):
        key = {
            "bound": 3,
            "network": dict(of.identity),
            "map": options.map,
            "tolerance": options.bound_tolerance,
            "iterations": options.bound_iterations,
            "platform": jax.default_backend(),
        }
        try:
            value = work.cache.kept(key, partial(_bound, options, of))
            bounds[named_run.name] = BoundNorms(**value)
        except (ValueError, TypeError, OverflowError) as error:
            failures.append(f"{named_run.name}: {error}")
    return bounds, failures


def measure(of: MeasuredNetwork, example: Example, settings: BoundSettings, stage: Stage) -> Measurement:
    """The norm of one image; raises ValueError where the Jacobian is not finite."""
    stage("spectral norm")
    x, random = of.seen(example.image), random_key(settings.seed, example.file_name)
    norm = lanczos(of.f, x, random, tolerance=settings.tolerance, max_iterations=settings.max_iterations)
    return Measurement(example.file_name, norm.value, norm.residual, norm.converged)


def bounds_table(outcomes: Sequence[Outcome], name: str) -> Table:
    """Eq. 13: a row for each run and softmax factor."""
    scores = [
        Score("1-norm", "bounds Σ|ΔF| / Σ|Δ| at every image", True, ".3e"),
        Score("inf-norm", "bounds max|ΔF| / max|Δ|", True, ".3e"),
        Score("2-norm", f"bounds ‖ΔF‖ / ‖Δ‖, a Lipschitz constant; {UNITS[name]}", True, ".3e"),
        Score(
            "2-norm at least", "what the 2-norm of J̄ itself is at least: a bound from J̄ cannot be lower", None, ".3e"
        ),
        Score("measured", "largest ‖J‖₂ of the images", None, ".3e"),
        Score("loose", "the bound's 2-norm as a multiple of the largest measured one", None, ".1e"),
    ]
    records = []
    for run, bound, measured in outcomes:
        for softmax, multiple in (SOFTMAX if name == "probability" else {"none": 1.0}).items():
            numbers = {
                "1-norm": multiple * bound.one,
                "inf-norm": multiple * bound.infinity,
                "2-norm": multiple * bound.two,
                "2-norm at least": multiple * bound.two_at_least,
            }
            largest = max((image.spectral for image in measured), default=0.0)
            if measured:
                numbers["measured"] = largest
            if largest:
                numbers["loose"] = numbers["2-norm"] / largest
            size = run.trained.config.data.size
            labels = {
                "run": run.name,
                "map": name,
                "softmax": softmax,
                "size": f"{size}",
                "images": f"{len(measured)}",
                "source": run.source,
            }
            records.append(Record(f"{softmax} {size}", labels, numbers))
    title = f"Certified bound (Eq. 13): norms of J̄ ≥ |J|, the Jacobian of the {name} at every image"
    return Table("bounds", title, grouped(records), scores)


def _bound(options: Bound, of: MeasuredNetwork) -> dict[str, float]:
    size, tolerance = (of.size, of.size), options.bound_tolerance
    return bound_norms(of.f, size, tolerance=tolerance, max_iterations=options.bound_iterations)._asdict()
