"""What attacks leave behind: a table, the numbers of every image, curves over the strength, and the worst images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from menet_jax.reporting.plots import GainCurve, attack_curves
from menet_jax.reporting.tables import Score, Table
from menet_jax.robustness.analysis.loop import Analysis
from menet_jax.robustness.analysis.report import UNITS, grouped, record
from menet_jax.robustness.attack.measurement import AtStrength, Measurement, Scores
from menet_jax.robustness.attack.transfer import TOLERANCE, Transfer
from menet_jax.robustness.options import AttackSettings

UNIT = {"l2": "gray levels, root of the mean square", "linf": "gray levels at most"}

Found = Sequence[Analysis[Measurement]]


def tables(analyses: Found, transferred: Sequence[Transfer], settings: AttackSettings) -> list[Table]:
    """Everything that is printed and written."""
    always = [_strengths(analyses, settings), _compression(analyses, settings)]
    return [*always, _transfers(transferred, settings)] if transferred else always


def _strengths(analyses: Found, settings: AttackSettings) -> Table:
    """A row for each strength of each run on each dataset."""
    unit = UNITS[settings.reading]
    scores = [
        Score("F clean", "mean adaptive F of the images' maps without any change"),
        Score("F noise", "the same under noise of this strength"),
        Score("F attack", "the same under the attack that costs most F; the worst case is no better"),
        Score("F file", "the same of attacked images rounded to 8 bits"),
        Score("MAE attack", "mean absolute error under the attack", lower_is_better=True),
        Score("noise gain", f"mean ‖F(x+Δ) − F(x)‖₂ / ‖Δ‖ of the noise, ‖Δ‖ in {settings.norm}; {unit}", True, ".3g"),
        Score("attack gain", "mean of the largest that was found, a lower bound on the worst case", True, ".3g"),
        Score("noise flips", "mean share of the map's pixels that change sides under the noise", True, ".3g"),
        Score("attack flips", "mean of the largest share that was found", True, ".3g"),
        Score(
            "‖J‖₂",
            "mean over images, each to 1 % or from 64 iterations: in l2 the largest gain of small changes",
            True,
            ".3g",
        ),
    ]
    records = []
    for analysis in analyses:
        for index, strength in enumerate(settings.strengths):
            at = [image.strengths[index] for image in analysis.images]
            numbers = {} if not at else _means(analysis.images, at)
            labels = {"map": settings.reading, "norm": settings.norm, "strength": f"{strength:g}"}
            records.append(record(analysis, f"{strength:g}", labels, numbers))
    title = f"Worst changes found of the network's {settings.reading} map; strength in {UNIT[settings.norm]}"
    return Table("attack", title, grouped(records), scores)


def _means(images: Sequence[Measurement], at: Sequence[AtStrength]) -> dict[str, float]:
    values = {
        "F clean": [image.clean.adaptive_f for image in images],
        "F noise": [each.noise.adaptive_f for each in at],
        "F attack": [each.attack.adaptive_f for each in at],
        "F file": [each.file.adaptive_f for each in at],
        "MAE attack": [each.attack.mae for each in at],
        "noise gain": [each.noise_gain for each in at],
        "attack gain": [each.attack_gain for each in at],
        "noise flips": [each.noise_flipped for each in at],
        "attack flips": [each.attack_flipped for each in at],
        "‖J‖₂": [image.spectral for image in images],
    }
    return {name: float(np.mean(each)) for name, each in values.items()}


def _compression(analyses: Found, settings: AttackSettings) -> Table:
    """A row for each quality of each run on each dataset."""
    scores = [
        Score("strength", f"mean, in {UNIT[settings.norm]}", None, ".3g"),
        Score("F", "mean adaptive F of the compressed images' maps"),
    ]
    records = []
    for analysis in analyses:
        for index, quality in enumerate(settings.qualities):
            at = [image.compressed[index] for image in analysis.images]
            numbers = dict[str, float]()
            if at:
                numbers["strength"] = float(np.mean([each.strength for each in at]))
                numbers["F"] = float(np.mean([each.scores.adaptive_f for each in at]))
            labels = {"map": settings.reading, "quality": f"{quality}"}
            records.append(record(analysis, f"JPEG {quality}", labels, numbers))
    return Table("compression", "JPEG compression of the image at the network's size", grouped(records), scores)


def _transfers(transferred: Sequence[Transfer], settings: AttackSettings) -> Table:
    """A row for each pair of runs on each dataset."""
    scores = [
        Score("F own", "mean adaptive F under the attack found on the run itself"),
        Score("F transferred", "the same under the attack found on the other run"),
        Score("stronger", f"share of images where the latter costs more, by over {TOLERANCE} of F", True, ".2f"),
    ]
    records = []
    for each in transferred:
        labels = {"map": settings.reading, "found on": each.source.name}
        own, of_other = (float(np.mean(values)) for values in (each.own, each.transferred))
        numbers = {"F own": own, "F transferred": of_other, "stronger": each.stronger}
        records.append(record(each.target, f"from {each.source.name}", labels, numbers))
    title = f"Attacks found on another run, strength {settings.strengths[-1]:g}"
    return Table("transfer", title, grouped(records), scores)


def curves(analyses: Found, settings: AttackSettings) -> list[tuple[str, Figure]]:
    """`attack_<dataset>`, over the strength."""
    by_dataset: dict[str, list[Analysis[Measurement]]] = {}
    for analysis in analyses:
        if analysis.images:
            by_dataset.setdefault(analysis.dataset.truth, []).append(analysis)
    return [
        (
            f"attack_{several[0].dataset.name}",
            attack_curves(
                [_curve(analysis, settings) for analysis in several],
                f"{several[0].dataset.name}, {settings.reading} map, {settings.norm}, {len(several[0].images)} images",
                f"strength of the change, {UNIT[settings.norm]}",
            ),
        )
        for several in by_dataset.values()
    ]


def _curve(analysis: Analysis[Measurement], settings: AttackSettings) -> GainCurve:
    at = [[image.strengths[index] for image in analysis.images] for index in range(len(settings.strengths))]
    compressed = [[image.compressed[index] for image in analysis.images] for index in range(len(settings.qualities))]

    def mean_f(scores: Sequence[Scores]) -> float:
        return float(np.mean([each.adaptive_f for each in scores]))

    return GainCurve(
        label=analysis.run.name,
        clean=mean_f([image.clean for image in analysis.images]),
        noise={s: mean_f([each.noise for each in of]) for s, of in zip(settings.strengths, at, strict=True)},
        attack={s: mean_f([each.attack for each in of]) for s, of in zip(settings.strengths, at, strict=True)},
        jpeg={
            float(np.mean([each.strength for each in of])): mean_f([each.scores for each in of]) for of in compressed
        },
    )


def image_rows(analyses: Found) -> list[dict[str, Any]]:
    """A line for each image and strength."""
    return [
        {
            "dataset": analysis.dataset.name,
            "run": analysis.run.name,
            "image": image.image,
            "spectral": image.spectral,
            "clean_f": image.clean.adaptive_f,
            "strength": at.strength,
            "noise_gain": at.noise_gain,
            "attack_gain": at.attack_gain,
            "noise_flipped": at.noise_flipped,
            "attack_flipped": at.attack_flipped,
            **{f"{kind}_{name}": value for kind in ("noise", "attack", "file") for name, value in _named(at, kind)},
        }
        for analysis in analyses
        for image in analysis.images
        for at in image.strengths
    ]


def _named(at: AtStrength, kind: str) -> list[tuple[str, float]]:
    scores: Scores = getattr(at, kind)
    return list(scores._asdict().items())
