"""A picture of what the network is fed; see `options.Show`."""

from menet_jax.data.options import Show
from menet_jax.data.pipeline import TrainingBatch, training_batches
from menet_jax.data.sources import open_split
from menet_jax.images import pictures
from menet_jax.images.distortions import QUALITY_RANGE, SIGMA_RANGE, Jpeg, Noise
from menet_jax.runtime.cli import run_command
from menet_jax.runtime.text import say


def run(options: Show) -> int:
    """Draw a training batch; the exit status, see `run_command`."""
    return run_command(
        lambda: batch_of(options), lambda batch: draw(options, batch), lambda _: "no picture was written"
    )


def batch_of(options: Show) -> TrainingBatch:
    """The first batch; ValueError or OSError says what cannot be used."""
    places = options.places(options.skip_bad)
    sources = [open_split(spec, options.split, places) for spec in options.specs]
    say(*(source.summary() for source in sources))
    batches = training_batches(
        sources,
        batch_size=options.count,
        seed=options.seed,
        distorted=options.distort,
        distortions=(Noise(*SIGMA_RANGE), Jpeg(*QUALITY_RANGE)),
    )
    batch = next(batches)
    batches.close()
    return batch


def draw(options: Show, batch: TrainingBatch) -> int:
    """The exit status of writing a picture of a batch."""
    pictures.batch_grid(batch["image"], batch["mask"], options.dest)
    say(f"{options.count} images: {options.dest}")
    return 0
