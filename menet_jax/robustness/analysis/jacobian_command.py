"""The command `python -m menet_jax.robustness jacobian`: what it says and does."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from menet_jax.data.sources import Example
from menet_jax.evaluation.inputs import Dataset, NamedRun
from menet_jax.images.files import UnreadableImageError, resize_image
from menet_jax.reporting.files import file_name
from menet_jax.reporting.plots import SensitivityRow, save, sensitivity_maps
from menet_jax.robustness.analysis import report
from menet_jax.robustness.analysis.inputs import (
    open_subjects,
    opened_lines,
    progress,
    run_analysis,
    say_failures,
    say_reused,
)
from menet_jax.robustness.analysis.measurement import (
    Analysis,
    Measurement,
    Pictures,
    determinants,
    from_json,
    measure,
    picture,
    to_json,
)
from menet_jax.robustness.analysis.results_cache import ResultsCache, kept_arrays
from menet_jax.robustness.analysis.subject import Place, Subject
from menet_jax.robustness.options import Jacobian, Settings
from menet_jax.runtime.text import listed, say

PICTURES = "sensitivity"
"""In --dest: folder of sensitivity maps as arrays."""


class Work(NamedTuple):
    """All there is to do, opened and checked."""

    settings: Settings
    runs: list[tuple[NamedRun, Subject]]
    datasets: list[tuple[Dataset, list[Place]]]
    cache: ResultsCache

    @property
    def images(self) -> int:
        """How many measurements there are to be."""
        return len(self.runs) * sum(len(places) for _, places in self.datasets)


def prepare(options: Jacobian) -> Work:
    """Open and check everything, before anything is computed.

    Raises:
        ValueError, OSError: something cannot be used; the text says what, and what to do.
    """
    return Work(options.settings(), *open_subjects(options, options.reading, options.limit))


def describe(options: Jacobian, work: Work, used: Sequence[jax.Device]) -> str:
    """What the command says before it starts."""
    strengths = ", ".join(distortion.label for distortion, _ in work.settings.distortions.values())
    reading = f"reading  {options.reading}; {strengths}; seed {options.seed}"
    return "\n".join([*opened_lines(work.runs, work.datasets, used), reading])


def run(options: Jacobian) -> int:
    """Do what the command line asks for; the exit status, see `Jacobian`."""
    return run_analysis(options, prepare, do)


def do(options: Jacobian, used: Sequence[jax.Device], work: Work) -> int:
    """Measure and report; the exit status."""
    say(describe(options, work, used))
    analyses, failures = analyse(work)
    for table in report.all_tables(analyses, work.settings, options.published):
        say(f"\n{table.text()}")
    _say_what_did_not_converge(analyses)
    if options.dest:
        written = report.write(analyses, failures, work.settings, options.published, options.dest)
        written += _pictures(options, work, analyses, options.dest)
        say(f"wrote {', '.join(path.name for path in written)} to {options.dest}")
    return say_failures(failures)


def analyse(work: Work) -> tuple[list[Analysis], list[str]]:
    """Measure what the cache does not have, with a progress bar; also, what failed and why."""
    found, pending, failures = _known(work)
    say_reused(work.cache, len(work.cache), len(found), work.images)
    with progress(len(pending)) as bar:
        for run_index, dataset_index, place in pending:
            named_run, measured = work.runs[run_index]
            bar.set_description(f"{named_run.name}, {place.file_name}")
            try:
                example = place.source[place.number]
                measurement = measure(measured, example, work.settings, bar.set_postfix_str)
            except ValueError as error:  # also of images that cannot be read
                failures.append(f"{named_run.name} on {place.file_name}: {error}")
            else:
                work.cache.add(determinants(measured, example, work.settings), to_json(measurement))
                found[run_index, dataset_index, place.file_name] = measurement
            bar.update()
    analyses = []
    for run_index, (named_run, _) in enumerate(work.runs):
        for dataset_index, (dataset, places) in enumerate(work.datasets):
            keys = [(run_index, dataset_index, place.file_name) for place in places]
            images = tuple(found[each] for each in keys if each in found)
            analyses.append(Analysis(named_run, dataset, len(places), images))
    return analyses, failures


_Where = tuple[int, int, str]
"""Run, dataset, file name."""


def _known(work: Work) -> tuple[dict[_Where, Measurement], list[tuple[int, int, Place]], list[str]]:
    """What the cache has, what is still to be measured, and what cannot be read."""
    found, pending, failures = dict[_Where, Measurement](), list[tuple[int, int, Place]](), list[str]()
    for dataset_index, (_, places) in enumerate(work.datasets):
        for place in places:
            try:
                example = place.source[place.number]
            except UnreadableImageError as error:
                failures.append(str(error))
                continue
            for run_index, (_, measured) in enumerate(work.runs):
                value = work.cache.get(determinants(measured, example, work.settings))
                if value is None:
                    pending.append((run_index, dataset_index, place))
                else:
                    found[run_index, dataset_index, place.file_name] = from_json(value)
    return found, sorted(pending, key=lambda task: task[:2]), failures


def _say_what_did_not_converge(analyses: Sequence[Analysis]) -> None:
    missed = [
        f"{image.image} ({analysis.run.name}: "
        + f"spectral residual {image.spectral_residual:.1g}, Frobenius ± {image.frobenius_error / image.frobenius:.0%})"
        for analysis in analyses
        for image in analysis.images
        if not image.converged
    ]
    if missed:
        say(f"note: not converged, raise --max-iterations or --max-samples: {listed(missed, '; ')}")
    if any(len(analysis.images) == 1 for analysis in analyses):
        say("note: a dataset of one image has no standard error")


def _pictures(options: Jacobian, work: Work, analyses: Sequence[Analysis], dest: Path) -> list[Path]:
    """Draw the sensitivity maps of some images of each analysis, from the most to the least fragile."""
    files, taken = list[Path](), set[str]()
    jobs = [(analysis, image) for analysis in analyses for image in _spread(analysis.images, options.pictures)]
    subjects = {named_run.name: measured for named_run, measured in work.runs}
    places = {(dataset.truth, place.file_name): place for dataset, several in work.datasets for place in several}
    rows: dict[int, list[SensitivityRow]] = {}
    with progress(len(jobs)) as bar:
        bar.set_description("sensitivity maps")
        for analysis, image in jobs:
            place, measured = places[analysis.dataset.truth, image.image], subjects[analysis.run.name]
            example = place.source[place.number]
            maps = _kept_picture(options, work.settings, measured, example, dest / PICTURES)
            note = f"{Path(image.image).stem}\n‖J‖₂ {image.spectral:.2g}"
            shown = resize_image(example.image, (measured.size, measured.size))
            rows.setdefault(id(analysis), []).append(SensitivityRow(note, shown, *maps))
            bar.update()
    for analysis in analyses:
        if id(analysis) in rows:
            stem = dest / file_name(f"sensitivity_{analysis.run.name}_{analysis.dataset.name}", taken)
            title = f"{analysis.run.name} on {analysis.dataset.name}, {options.reading}, per gray level"
            files += save(sensitivity_maps(rows[id(analysis)], title), stem)
    return files


def _kept_picture(options: Jacobian, settings: Settings, measured: Subject, example: Example, folder: Path) -> Pictures:
    of = {**determinants(measured, example, settings), "picture_samples": options.picture_samples}

    def compute() -> dict[str, np.ndarray]:
        return picture(measured, example, settings, options.picture_samples)._asdict()

    return Pictures(**kept_arrays(folder, Path(example.file_name).stem, of, compute))


def _spread(images: Sequence[Measurement], count: int) -> list[Measurement]:
    """At most `count` images at equal steps from the largest spectral norm to the smallest."""
    ranked = sorted(images, key=lambda image: -image.spectral)
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return [ranked[place] for place in places]
