"""The command `python -m menet_jax.robustness jacobian`: what it says and does."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from menet_jax.data.sources import Example
from menet_jax.images.files import resize_image
from menet_jax.reporting.files import file_name
from menet_jax.reporting.plots import SensitivityRow, save, sensitivity_maps
from menet_jax.robustness.analysis import report
from menet_jax.robustness.analysis.inputs import (
    Subjects,
    open_subjects,
    opened_lines,
    progress,
    run_analysis,
    say_failures,
)
from menet_jax.robustness.analysis.loop import Analysis, analyse
from menet_jax.robustness.analysis.measurement import MEANING, Measurement, Pictures, measure, picture
from menet_jax.robustness.analysis.results_cache import kept_arrays
from menet_jax.robustness.analysis.subject import Subject, determinants
from menet_jax.robustness.options import Jacobian, Settings
from menet_jax.runtime.text import listed, say

PICTURES = "sensitivity"
"""In --dest: folder of sensitivity maps as arrays."""


def prepare(options: Jacobian) -> Subjects:
    """Open and check everything, before anything is computed.

    Raises:
        ValueError, OSError: something cannot be used; the text says what, and what to do.
    """
    return open_subjects(options, options.reading, options.limit)


def describe(options: Jacobian, work: Subjects, used: Sequence[jax.Device]) -> str:
    """What the command says before it starts."""
    strengths = ", ".join(distortion.label for distortion, _ in options.settings().distortions.values())
    reading = f"reading  {options.reading}; {strengths}; seed {options.seed}"
    return "\n".join([*opened_lines(work.runs, work.datasets, used), reading])


def run(options: Jacobian) -> int:
    """Do what the command line asks for; the exit status, see `Jacobian`."""
    return run_analysis(options, prepare, do)


def do(options: Jacobian, used: Sequence[jax.Device], work: Subjects) -> int:
    """Measure and report; the exit status."""
    say(describe(options, work, used))
    settings = options.settings()
    analyses, failures = analyse(work, settings, measure, Measurement, MEANING)
    for table in report.all_tables(analyses, settings, options.published):
        say(f"\n{table.text()}")
    _say_what_did_not_converge(analyses)
    if options.dest:
        written = report.write(analyses, failures, settings, options.published, options.dest)
        written += _pictures(options, work, analyses, options.dest)
        say(f"wrote {', '.join(path.name for path in written)} to {options.dest}")
    return say_failures(failures)


def _say_what_did_not_converge(analyses: Sequence[Analysis[Measurement]]) -> None:
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


def _pictures(options: Jacobian, work: Subjects, analyses: Sequence[Analysis[Measurement]], dest: Path) -> list[Path]:
    """Draw the sensitivity maps of some images of each analysis, from the most to the least fragile."""
    files, taken = list[Path](), set[str]()
    jobs = [(analysis, image) for analysis in analyses for image in _spread(analysis.images, options.pictures)]
    rows: dict[int, list[SensitivityRow]] = {}
    with progress(len(jobs)) as bar:
        bar.set_description("sensitivity maps")
        for analysis, image in jobs:
            measured, example = work.subject(analysis.run), work.example(analysis.dataset, image.image)
            maps = _kept_picture(options, options.settings(), measured, example, dest / PICTURES)
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
    of = {**determinants(measured, example, settings, MEANING), "picture_samples": options.picture_samples}

    def compute() -> dict[str, np.ndarray]:
        return picture(measured, example, settings, options.picture_samples)._asdict()

    return Pictures(**kept_arrays(folder, Path(example.file_name).stem, of, compute))


def _spread(images: Sequence[Measurement], count: int) -> list[Measurement]:
    """At most `count` images at equal steps from the largest spectral norm to the smallest."""
    ranked = sorted(images, key=lambda image: -image.spectral)
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return [ranked[place] for place in places]
