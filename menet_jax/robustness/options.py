"""What `python -m menet_jax.robustness` is told: the flags of its commands, and what measuring depends on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from menet_jax.evaluation.options import InputOptions, ScoringOptions
from menet_jax.images.distortions import QUALITIES, QUALITY_RANGE, SIGMA_RANGE, SIGMAS, Jpeg, Noise
from menet_jax.robustness.distortion.conditions import Conditions, conditions
from menet_jax.runtime.cli import check_counts
from menet_jax.runtime.regular_files import real

ReadingName = Literal["probability", "logit_margin", "metric"]
"""What is differentiated."""


@dataclass(frozen=True, kw_only=True)
class Distortion(ScoringOptions):
    """Score runs on distorted images: Table II and Figure 9.

    Images are distorted at their own full size, in 8 bits, and the same for the same file name and seed, on every
    machine. Exit status: 0; 1 if an image could not be scored, the rest being done; 2 for bad input, nothing being
    done.
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
    save_images: Path | None = None
    """Write the images as they were scored, as PNG, and their masks: a dataset for each dataset and distortion."""

    def conditions(self) -> Conditions:
        """What images are to be scored under; ValueError for impossible strengths."""
        return conditions(self.sigma_range, self.quality_range, self.sigmas, self.qualities, self.severities)

    def check(self) -> None:
        if not self.data or not (self.run or self.save_images):
            raise ValueError("nothing to do: give --run RUN --data DATASET, or --data DATASET --save-images FOLDER")
        if self.dest and not self.run:
            raise ValueError(f"--dest {self.dest}: without --run there are no results to write")
        self.conditions()
        self._check_save_images()
        super().check()

    def _check_save_images(self) -> None:
        if self.save_images is None:
            return
        saved = real(self.save_images.expanduser())
        downloads = [self.manual_dir] if self.manual_dir else []
        for folder in (path.expanduser() for path in (*map(Path, self.data), *downloads)):
            if folder.is_dir() and real(folder) in (saved, *saved.parents):
                raise ValueError(
                    f"--save-images {self.save_images}: lies in {folder}, which is read; name another folder"
                )


@dataclass(frozen=True)
class Settings:
    """What the numbers of an image depend on, besides the network and the image.

    Attributes:
        reading: which output is differentiated.
        sigma, quality: strength of the noise and of the compression.
        draws: of the noise. Compression has nothing random in it.
        tolerance, max_iterations: of `spectral.lanczos`.
        relative_error, max_samples: of `norms.frobenius_norm`.
        seed: of everything random.

    Raises:
        ValueError: a value is impossible; it is named.
    """

    reading: ReadingName
    sigma: float
    quality: int
    draws: int
    tolerance: float
    max_iterations: int
    relative_error: float
    max_samples: int
    seed: int

    def __post_init__(self) -> None:
        check_counts(draws=self.draws, max_iterations=self.max_iterations, max_samples=self.max_samples)
        for name in ("sigma", "tolerance", "relative_error"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be finite and positive")
        if self.seed < 0:
            raise ValueError(f"--seed {self.seed}: must not be negative")
        _ = self.distortions  # which refuse impossible strengths

    def draw_seeds(self, draws: int) -> range:
        """Of the draws of a distortion; another `seed` has none of them."""
        return range(self.seed * draws, (self.seed + 1) * draws)

    @property
    def distortions(self) -> dict[str, tuple[Noise | Jpeg, int]]:
        """Name → distortion and its draws."""
        return {
            "AWGN": (Noise(self.sigma, self.sigma), self.draws),
            "JPEG": (Jpeg(self.quality, self.quality), 1),
        }


@dataclass(frozen=True, kw_only=True)
class Jacobian(InputOptions):
    """Measure the Jacobian of runs at images of datasets: Eq. 11, Eq. 12 and Table III.

    Exact work is slow on a CPU: the defaults take some seconds an image for a network of width 8 on two cores. Each
    image's numbers are kept in --dest as they come; started again with the same flags, an interrupted command goes on
    where it was. Exit status: 0; 1 if an image could not be measured, the rest being done; 2 for bad input, nothing
    being done.
    """

    reading: ReadingName = "probability"
    """What is differentiated: the probability map, the margin between the two logits, or the metric map (Eq. 5)."""
    limit: int | None = 20
    """Images of each dataset, always the same ones; None: all."""
    sigma: float = 50.0
    """Standard deviation of the noise of Eq. 12, on the scale 0…255, at the image's own size; resizing averages it."""
    quality: int = 10
    """JPEG quality of Eq. 12."""
    draws: int = 4
    """Draws of the noise for each image."""
    tolerance: float = 1e-3
    """Residual at which a spectral norm has converged: so near, relatively, lies a singular value, mostly nearer."""
    max_iterations: int = 64
    """Where a spectral norm stops at the latest, and is said not to have converged."""
    relative_error: float = 0.05
    """Relative standard error at which a Frobenius norm has converged."""
    max_samples: int = 128
    """Where a Frobenius norm stops at the latest, but not before 64, and is said not to have converged."""
    pictures: int = 3
    """Images of each dataset whose sensitivity maps are drawn, from the most to the least fragile; needs --dest."""
    picture_samples: int = 32
    """Random products of each sensitivity map, at least 2."""
    seed: int = 0
    """Another seed draws other noise, starts and samples."""
    published: bool = False
    """The paper's own Table III on these datasets too, in rows that say so. Datasets are recognised by name."""

    def settings(self) -> Settings:
        """What each image's numbers depend on.

        Raises:
            ValueError: a value is impossible.
        """
        return Settings(
            self.reading,
            self.sigma,
            self.quality,
            self.draws,
            self.tolerance,
            self.max_iterations,
            self.relative_error,
            self.max_samples,
            self.seed,
        )

    def check(self) -> None:
        self.settings()
        for name, lowest in (("limit", 1), ("pictures", 0), ("picture_samples", 2)):
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise ValueError(f"--{name.replace('_', '-')} {value}: must be at least {lowest}")
        if not self.run or not self.data:
            raise ValueError("nothing to measure: give --run RUN --data DATASET")
        super().check()


@dataclass(frozen=True, kw_only=True)
class Bound(InputOptions):
    """Bound the Jacobian of runs at every image (Eq. 13), beside the largest norm measured at images of datasets.

    What was found is kept in --dest as it comes; started again with the same flags, an interrupted command goes on
    where it was. Exit status: 0; 1 if a network could not be bounded or an image not be measured, the rest being done;
    2 for bad input, nothing being done.
    """

    reading: Literal["probability", "logit_margin"] = "probability"
    """What is differentiated. The metric map (Eq. 5) has no such bound."""
    limit: int | None = 5
    """Images of each dataset to measure, always the same ones; None: all."""
    bound_tolerance: float = 0.02
    """The 2-norm of the bound is iterated until it is known to within this, relatively."""
    bound_iterations: int = 50
    """Or so many times."""
    tolerance: float = 1e-3
    """Residual at which a measured norm has converged."""
    max_iterations: int = 64
    """Where a measured norm stops at the latest, and is said not to have converged."""
    seed: int = 0
    """Another seed starts otherwise."""

    def check(self) -> None:
        limit = 1 if self.limit is None else self.limit
        check_counts(limit=limit, bound_iterations=self.bound_iterations, max_iterations=self.max_iterations)
        for name in ("bound_tolerance", "tolerance"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be finite and positive")
        if self.seed < 0:
            raise ValueError(f"--seed {self.seed}: must not be negative")
        if not self.run:
            raise ValueError("nothing to bound: give --run RUN, and --data DATASET to compare with what is measured")
        super().check()
