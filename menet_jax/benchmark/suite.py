"""The whole set of benchmarks that needs nothing but a device, in one table file."""

import sys
from collections.abc import Callable
from itertools import product
from typing import Any, TypeVar

from menet_jax.benchmark import jacobian, steps, upsampling
from menet_jax.benchmark.measuring import machine
from menet_jax.benchmark.options import Activity, All, Device
from menet_jax.benchmark.programs import SIZE, configuration
from menet_jax.benchmark.results import write
from menet_jax.benchmark.steps import Case
from menet_jax.reporting.tables import Table
from menet_jax.runtime import devices
from menet_jax.runtime.cli import FAILED, check_counts
from menet_jax.runtime.parallel import workers
from menet_jax.runtime.regular_files import at_home

Result = TypeVar("Result")


def run(options: All) -> int:
    """Measure and write it all; see `options.All`."""
    dest, rounds = at_home(options.dest), options.rounds
    for width in options.widths:
        configuration(width)
    check_counts(
        rounds=rounds, batch_size=options.batch_size, inference_batches=min(options.inference_batches, default=0)
    )
    dest.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []

    def attempt(what: str, function: Callable[..., Result], *args: Any) -> list[Result]:
        """The result, of a new process; none if it fails, which is kept in mind."""
        print(what, file=sys.stderr, flush=True)
        try:
            with workers(1, processes=True) as pool:
                return [pool.submit(_on_device, options.device, function, *args).result()]
        except Exception as error:  # one that takes too much memory leaves the others to be measured
            failures.append(f"{what}: {type(error).__name__}: {error}")
            return []

    where = attempt("machine", machine)
    kinds: list[tuple[Activity, int]] = [("training", options.batch_size)]
    kinds += [("inference", count) for count in options.inference_batches]
    sizes = list(product(options.widths, options.precisions))
    cases = [Case(kind, width, precision, count) for kind, count in kinds for width, precision in sizes]
    rows = [row for case in cases for row in attempt(str(case), steps.measure, case, rounds)]
    tables: list[Table] = [steps.table(rows)] if rows else []
    for width in options.widths:
        tables += attempt(f"upsampling, width {width}", upsampling.measure, width, options.batch_size, rounds)
        tables += attempt(f"jacobian, width {width}", jacobian.measure, width, SIZE, rounds)
    if not tables:
        raise ValueError("; ".join(dict.fromkeys(failures)))
    names = ("widths", "precisions", "batch_size", "rounds", "inference_batches")
    settings = {name: getattr(options, name) for name in names} | {"failures": failures}
    written = write(dest, tables, where[0], settings)
    print(where[0], *("\n".join([table.text(), *table.notes]) for table in tables), sep="\n\n")
    print(f"wrote {', '.join(path.name for path in written)} to {dest}")
    if failures:
        print("error: not measured:", *(f"  {failure}" for failure in failures), sep="\n", file=sys.stderr)
    return FAILED if failures else 0


def _on_device(device: Device | None, function: Callable[..., Result], *args: Any) -> Result:
    devices.start(device)
    return function(*args)
