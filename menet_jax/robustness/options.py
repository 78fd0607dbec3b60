"""The flags of `python -m menet_jax.robustness`, and the settings that measurements depend on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_type_hints

import tyro

from menet_jax.evaluation.options import InputOptions, ScoringOptions
from menet_jax.images.distortions import QUALITIES, QUALITY_RANGE, SIGMA_RANGE, SIGMAS, Jpeg, Noise
from menet_jax.robustness.conditions import Conditions, conditions
from menet_jax.runtime.cli import check_counts
from menet_jax.runtime.regular_files import at_home, real

SettingsT = TypeVar("SettingsT")

READING = tyro.conf.arg(aliases=["--reading"])
"""The name of `--map` before 0.2."""

MapName = Literal["probability", "logit_margin", "metric"]
"""What is differentiated."""


@dataclass(frozen=True, kw_only=True)
class Distortion(ScoringOptions):
    """Score runs on distorted images: Table II and Figure 9.

    Images are distorted in 8 bits, at their own full size or at the network's, and the same for the same file name and
    seed, on every machine. Exit status: 0; 1 if an image could not be scored, the rest being done; 2 for bad input,
    nothing being done.
    """

    sigma_range: tuple[float, float] = SIGMA_RANGE
    """Noise of random strength, drawn for each image: lowest and highest σ, on the scale 0…255."""
    quality_range: tuple[int, int] = QUALITY_RANGE
    """JPEG compression of random quality, drawn for each image: lowest and highest, within 1…100."""
    sigmas: tuple[float, ...] = SIGMAS
    """Noise of fixed strengths, the points of a curve; none given after the flag: no curve."""
    qualities: tuple[int, ...] = QUALITIES
    """JPEG compression of fixed qualities, the same."""
    severities: bool = False
    """The five severities of ImageCorruptions too, of noise and of compression."""
    seed: int = 0
    """Another seed draws other noise and other random strengths."""
    after_resizing: bool = False
    """Distort images at the network's size, where no resizing averages noise away; not at their own."""
    save_images: Path | None = None
    """Write the images as they were scored, as PNG, and their masks: a dataset for each dataset and distortion."""

    def conditions(self) -> Conditions:
        """The conditions to score images under; ValueError for impossible strengths."""
        return conditions(self.sigma_range, self.quality_range, self.sigmas, self.qualities, self.severities)

    def check(self) -> None:
        if not self.data or not (self.run or self.save_images):
            raise ValueError("nothing to do: give --run RUN --data DATASET, or --data DATASET --save-images FOLDER")
        if self.dest and not self.run:
            raise ValueError(f"--dest {self.dest}: without --run there are no results to write")
        if self.after_resizing and self.save_images:
            raise ValueError("--after-resizing --save-images: images are saved at their own size, distorted there")
        self.conditions()
        self._check_save_images()
        super().check()

    def _check_save_images(self) -> None:
        if self.save_images is None:
            return
        saved = real(at_home(self.save_images))
        downloads = [self.manual_dir] if self.manual_dir else []
        for folder in map(at_home, (*map(Path, self.data), *downloads)):
            if folder.is_dir() and real(folder) in (saved, *saved.parents):
                raise ValueError(
                    f"--save-images {self.save_images}: lies in {folder}, which is read; name another folder"
                )


@dataclass(frozen=True, kw_only=True)
class MeasuringOptions(InputOptions):
    """The flags of all commands that measure images of datasets one by one."""

    limit: int | None = 20
    """Images of each dataset, always the same ones; None: all."""

    def check(self) -> None:
        check_counts(limit=1 if self.limit is None else self.limit)
        super().check()


@dataclass(frozen=True)
class Settings:
    """The flags that the numbers of an image depend on, besides the network and the image."""

    map: Annotated[MapName, READING] = "probability"
    """Map to differentiate: the probability map, the margin between the two logits, or the metric map (Eq. 5)."""
    sigma: float = 50.0
    """Standard deviation of the noise of Eq. 12, on the scale 0…255, at the image's own size; resizing averages it."""
    quality: int = 10
    """JPEG quality of Eq. 12."""
    draws: int = 4
    """Draws of the noise for each image."""
    tolerance: float = 1e-3
    """Relative residual at which a spectral norm counts as converged: some singular value is at least that near."""
    max_iterations: int = 64
    """Most iterations of a spectral norm, which is then reported as not converged."""
    relative_error: float = 0.05
    """Relative standard error at which a Frobenius norm has converged."""
    max_samples: int = 128
    """Most samples of a Frobenius norm, at least 64, which is then reported as not converged."""
    seed: int = 0
    """Another seed draws other noise, starts and samples."""

    def draw_seeds(self, draws: int) -> range:
        """Seeds of the draws of a distortion; no two values of `seed` share one."""
        return range(self.seed * draws, (self.seed + 1) * draws)

    @property
    def distortions(self) -> dict[str, tuple[Noise | Jpeg, int]]:
        """Name → distortion and its draws."""
        return {
            "AWGN": (Noise(self.sigma, self.sigma), self.draws),
            "JPEG": (Jpeg(self.quality, self.quality), 1),
        }


@dataclass(frozen=True, kw_only=True)
class Jacobian(Settings, MeasuringOptions):
    """Measure the Jacobian of runs at images of datasets: Eq. 11, Eq. 12 and Table III.

    Exact work is slow on a CPU: the defaults take some seconds an image for a network of width 8 on two cores. Each
    image's numbers are kept in --dest as they come; started again with the same flags, an interrupted command goes on
    where it was. Exit status: 0; 1 if an image could not be measured, the rest being done; 2 for bad input, nothing
    being done.
    """

    pictures: int = 3
    """Images of each dataset whose sensitivity maps are drawn, from the most to the least fragile; needs --dest."""
    picture_samples: int = 32
    """Random products of each sensitivity map, at least 2."""
    published: bool = False
    """The paper's own Table III on these datasets too, in rows that say so. Datasets are recognised by name."""

    def check(self) -> None:
        check_counts(draws=self.draws, max_iterations=self.max_iterations, max_samples=self.max_samples)
        _check_positive(sigma=self.sigma, tolerance=self.tolerance, relative_error=self.relative_error)
        _check_seed(self.seed)
        _ = self.distortions  # which refuse impossible strengths
        for name, value, lowest in (("pictures", self.pictures, 0), ("picture-samples", self.picture_samples, 2)):
            if value < lowest:
                raise ValueError(f"--{name} {value}: must be at least {lowest}")
        if not self.run or not self.data:
            raise ValueError("nothing to measure: give --run RUN --data DATASET")
        super().check()


@dataclass(frozen=True)
class BoundSettings:
    """Flags that determine the measured norm, with which the bound is compared."""

    map: Annotated[Literal["probability", "logit_margin"], READING] = "probability"
    """Map to differentiate. The metric map (Eq. 5) has no such bound."""
    tolerance: float = 1e-3
    """Relative residual at which a measured norm counts as converged."""
    max_iterations: int = 64
    """Most iterations of a measured norm, which is then reported as not converged."""
    seed: int = 0
    """Seed of the random start."""


@dataclass(frozen=True, kw_only=True)
class Bound(BoundSettings, MeasuringOptions):
    """Bound the Jacobian of runs at every image (Eq. 13), beside the largest norm measured at images of datasets.

    What was found is kept in --dest as it comes; started again with the same flags, an interrupted command goes on
    where it was. Exit status: 0; 1 if a network could not be bounded or an image not be measured, the rest being
    done; 2 for bad input, nothing being done.
    """

    limit: int | None = 5
    bound_tolerance: float = 0.02
    """The 2-norm of the bound is iterated until it is known to within this, relatively."""
    bound_iterations: int = 50
    """Most iterations of it, which is then less tight."""

    def check(self) -> None:
        check_counts(bound_iterations=self.bound_iterations, max_iterations=self.max_iterations)
        _check_positive(bound_tolerance=self.bound_tolerance, tolerance=self.tolerance)
        _check_seed(self.seed)
        if not self.run:
            raise ValueError("nothing to bound: give --run RUN, and --data DATASET to compare with what is measured")
        super().check()


@dataclass(frozen=True)
class AttackSettings:
    """The flags that the numbers of an attacked image depend on, besides the network and the image."""

    map: Annotated[Literal["probability", "metric"], READING] = "metric"
    """The map to attack."""
    norm: Literal["l2", "linf"] = "l2"
    """What bounds a change: its Euclidean length over all values, or its largest value."""
    strengths: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    """How strong changes are, in gray levels: in l2 the σ of noise of that length, in linf the largest value."""
    steps: int = 10
    """Gradient steps of each search."""
    starts: int = 1
    """Random starts of each search, besides the Jacobian's first singular vector and what was found before."""
    draws: int = 4
    """Draws of the noise for each image and strength."""
    qualities: tuple[int, ...] = (90, 50, 10)
    """JPEG compression to compare with."""
    seed: int = 0
    """Another seed draws other noise and other starts."""


@dataclass(frozen=True, kw_only=True)
class Attack(AttackSettings, MeasuringOptions):
    """Search for the worst change of images within a distance, by projected gradient ascent.

    What is found is a lower bound on the worst case. Beside it stand noise of the same length and JPEG compression. All
    changes are of what the network sees, the image at its size. It takes about a minute an image for a network of
    width 8 on two cores. Each image's numbers are kept in --dest as they come; started again with the same flags, an
    interrupted command goes on where it was. Exit status: 0; 1 if an image could not be attacked, the rest being
    done; 2 for bad input, nothing being done.
    """

    batch_size: int = 4
    """Images that are searched at once; numbers depend on it by rounding alone."""

    def check(self) -> None:
        check_counts(steps=self.steps, starts=self.starts, draws=self.draws, batch_size=self.batch_size)
        rising = list(self.strengths) == sorted(set(self.strengths))
        if not self.strengths or not rising or not 0 < self.strengths[0] <= self.strengths[-1] <= 255:
            raise ValueError(f"--strengths {self.strengths}: want rising numbers of gray levels above 0, up to 255")
        for quality in self.qualities:
            Jpeg(quality, quality)
        _check_seed(self.seed)
        if not self.run or not self.data:
            raise ValueError("nothing to attack: give --run RUN --data DATASET")
        super().check()


@dataclass(frozen=True)
class SmoothSettings:
    """The flags that the certificates of an image depend on, besides the network and the image."""

    sigmas: tuple[float, ...] = (8.0, 16.0, 32.0)
    """Standard deviations of the noise, in gray levels, on the image at the network's size."""
    thresholds: tuple[float, ...] = (0.75,)
    """Probabilities that a pixel's class has to exceed; the radius is σ times its normal quantile."""
    samples: int = 100
    """Noisy images to test by, of each image and σ."""
    guesses: int = 10
    """Noisy images to guess each pixel's class by, others than those."""
    risk: float = 0.001
    """Largest probability that any pixel of an image is certified wrongly, under one σ and threshold."""
    seed: int = 0
    """Another seed draws other noise."""


@dataclass(frozen=True, kw_only=True)
class Smooth(SmoothSettings, MeasuringOptions):
    """Certify the pixels of images by randomised smoothing: no change shorter than a radius changes them.

    The metric map is thresholded at its adaptive threshold, the probability map at 1/2. A pixel is certified if its
    class under Gaussian noise exceeds a probability, with a correction for testing all pixels at once, or is abstained
    from. Each image's numbers are kept in --dest as they come; started again with the same flags, an interrupted
    command goes on where it was. Exit status: 0; 1 if an image could not be certified, the rest being done; 2 for bad
    input, nothing being done.
    """

    def check(self) -> None:
        check_counts(guesses=self.guesses, samples=self.samples)
        twice = len(set(self.sigmas)) < len(self.sigmas)
        if not self.sigmas or twice or not 0 < min(self.sigmas) <= max(self.sigmas) <= 255:
            raise ValueError(f"--sigmas {self.sigmas}: want different numbers of gray levels above 0, up to 255")
        if not self.thresholds or not all(0.5 < each < 1 for each in self.thresholds):
            raise ValueError(f"--thresholds {self.thresholds}: want probabilities above 0.5 and below 1")
        if not 0 < self.risk < 1:
            raise ValueError(f"--risk {self.risk}: is a probability between 0 and 1")
        _check_seed(self.seed)
        if not self.run or not self.data:
            raise ValueError("nothing to certify: give --run RUN --data DATASET")
        super().check()


def among(kind: type[SettingsT], options: MeasuringOptions) -> SettingsT:
    """The settings among a command's flags."""
    return kind(**{name: getattr(options, name) for name in get_type_hints(kind)})


def _check_positive(**values: float) -> None:
    """Raise ValueError, naming the flag, for what is not finite and positive."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"--{name.replace('_', '-')} {value}: must be finite and positive")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:  # of others, JAX takes what is left over 2**32
        raise ValueError(f"--seed {seed}: must be at least 0 and less than 2**32")
