"""The command `python -m menet_jax.robustness jacobian`: its work and its messages."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure

from menet_jax.data.sources import Example
from menet_jax.images.files import resize_image
from menet_jax.reporting.plots.jacobians import SensitivityRow, sensitivity_maps
from menet_jax.robustness.analysis import report
from menet_jax.robustness.analysis.inputs import Inputs, run_analysis
from menet_jax.robustness.analysis.loop import Analysis, analyse, one_by_one
from menet_jax.robustness.analysis.measurement import MEANING, Measurement, Pictures, measure, picture
from menet_jax.robustness.analysis.networks import MeasuredNetwork, cache_key
from menet_jax.robustness.analysis.results_cache import kept_arrays
from menet_jax.robustness.options import Jacobian, Settings, among
from menet_jax.runtime.progress import Bar
from menet_jax.runtime.text import listed

PICTURES = "sensitivity"
"""Folder in --dest: sensitivity maps as arrays."""


def run(options: Jacobian) -> int:
    """Do what the command line asks for; the exit status, see `Jacobian`."""
    strengths = ", ".join(distortion.label for distortion, _ in options.distortions.values())
    about = f"map      {options.map}; {strengths}; seed {options.seed}"
    return run_analysis(options, options.map, about, do)


def do(options: Jacobian, work: Inputs) -> int:
    """Measure and report; the exit status."""
    settings = among(Settings, options)
    analyses, failures = analyse(work, settings, one_by_one(measure), Measurement, MEANING)

    def figures(dest: Path) -> list[tuple[str, Figure]]:
        pictured = [analysis for analysis in analyses if analysis.images and options.pictures]
        sensitivity = [_pictures(options, settings, analysis, dest / PICTURES) for analysis in pictured]
        return [*report.figures(analyses, settings), *sensitivity]

    return report.leave(
        options.dest,
        [
            report.norms(analyses, settings),
            report.directions(analyses, settings),
            report.correlations(analyses),
            report.table_iii(analyses, options.published),
        ],
        report.image_rows(analyses, settings),
        figures,
        settings=asdict(settings),
        failures=failures,
        notes=_notes(analyses),
    )


def _notes(analyses: Sequence[Analysis[Measurement]]) -> list[str]:
    missed = [
        f"{image.image} ({analysis.run.name}: "
        + f"spectral residual {image.spectral_residual:.1g}, Frobenius ± {image.frobenius_error / image.frobenius:.0%})"
        for analysis in analyses
        for image in analysis.images
        if not image.converged
    ]
    notes = [f"note: not converged, raise --max-iterations or --max-samples: {listed(missed, '; ')}"] if missed else []
    alone = any(len(analysis.images) == 1 for analysis in analyses)
    return [*notes, *(["note: a dataset of one image has no standard error"] if alone else [])]


def _pictures(
    options: Jacobian, settings: Settings, analysis: Analysis[Measurement], folder: Path
) -> tuple[str, Figure]:
    """The sensitivity maps of some images, from the most to the least fragile."""
    network, rows = analysis.network, list[SensitivityRow]()
    images = report.evenly(sorted(analysis.images, key=lambda image: -image.spectral), options.pictures)
    for image in Bar(images, unit="image", desc=f"{analysis.run.name}, sensitivity maps"):
        example = analysis.example(image.image)
        maps = _kept_picture(options, settings, network, example, folder)
        note = f"{Path(image.image).stem}\n‖J‖₂ {image.spectral:.2g}"
        rows.append(SensitivityRow(note, resize_image(example.image, (network.size, network.size)), *maps))
    title = f"{analysis.run.name} on {analysis.dataset.name}, {options.map}, per gray level"
    return f"sensitivity_{analysis.run.name}_{analysis.dataset.name}", sensitivity_maps(rows, title)


def _kept_picture(
    options: Jacobian, settings: Settings, network: MeasuredNetwork, example: Example, folder: Path
) -> Pictures:
    samples = options.picture_samples
    key = {**cache_key(network, example, settings, MEANING), "picture_samples": samples}
    return Pictures(**kept_arrays(folder, key, lambda: picture(network, example, settings, samples)._asdict()))
