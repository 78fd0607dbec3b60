"""The whole set of benchmarks that needs nothing but a device, in one table file."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax

from menet_jax.benchmark import jacobian, steps, upsampling
from menet_jax.benchmark.commands import Activity, Device, Precision
from menet_jax.benchmark.measuring import machine
from menet_jax.benchmark.programs import SIZE, configuration
from menet_jax.benchmark.results import RESULTS, Table, write
from menet_jax.benchmark.steps import Case
from menet_jax.reporting.tables import Record
from menet_jax.runtime import devices
from menet_jax.runtime.cli import check_counts
from menet_jax.runtime.parallel import workers
from menet_jax.runtime.regular_files import at_home
from menet_jax.runtime.whole_files import check_writable

Result = TypeVar("Result")


def suite(
    dest: Path,
    widths: tuple[int, ...],
    precisions: tuple[Precision, ...],
    batch_size: int,
    inference_batches: tuple[int, ...],
    rounds: int,
    device: Device | None,
    overwrite: bool,
) -> None:
    """Measure and write it all; see `commands.suite`."""
    dest = at_home(dest)
    if (dest / RESULTS).exists() and not overwrite:
        raise ValueError(f"--dest {dest}: holds results already; replace them with --overwrite, or name another folder")
    check_writable(dest)
    for width in widths:
        configuration(width)
    check_counts(rounds=rounds, batch_size=batch_size, inference_batches=min(inference_batches))
    dest.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []

    def attempt(what: str, function: Callable[..., Result], *args: Any) -> list[Result]:
        """The result, of a new process; none if it fails, which is kept in mind."""
        print(what, file=sys.stderr, flush=True)
        try:
            with workers(1, processes=True) as pool:
                return [pool.submit(_on_device, device, function, *args).result()]
        except Exception as error:  # one that takes too much memory leaves the others to be measured
            failures.append(f"{what}: {type(error).__name__}: {error}")
            return []

    where = attempt("machine", machine)
    kinds: list[tuple[Activity, int]] = [("training", batch_size)]
    kinds += [("inference", count) for count in inference_batches]
    cases = [
        Case(kind, width, precision, count) for kind, count in kinds for width in widths for precision in precisions
    ]
    rows = [row for case in cases for row in attempt(str(case), _measure, case, rounds)]
    tables: list[Table] = [steps.table(rows)] if rows else []
    for width in widths:
        tables += attempt(f"upsampling, width {width}", upsampling.measure, width, batch_size, rounds)
        tables += attempt(f"jacobian, width {width}", jacobian.measure, width, SIZE, rounds)
    if not tables:
        raise ValueError("; ".join(dict.fromkeys(failures)))
    settings = {"widths": widths, "precisions": precisions, "batch_size": batch_size, "rounds": rounds}
    settings |= {"inference_batches": inference_batches, "failures": failures}
    written = write(dest, tables, where[0], settings)
    print(where[0], *("\n".join([table.text(), *table.notes]) for table in tables), sep="\n\n")
    print(f"wrote {', '.join(path.name for path in written)} to {dest}")
    if failures:
        print("error: not measured:", *(f"  {failure}" for failure in failures), sep="\n", file=sys.stderr)
        sys.exit(1)


def _on_device(device: Device | None, function: Callable[..., Result], *args: Any) -> Result:
    devices.start(device)
    return function(*args)


def _measure(case: Case, rounds: int) -> tuple[Record, Sequence[str]]:
    return steps.measure(case, rounds, jax.local_devices())
