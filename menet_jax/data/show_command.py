"""A picture of what the network is fed; see `options.Show`."""

from menet_jax.data.options import Show
from menet_jax.data.pipeline import training_batches
from menet_jax.data.sources import Source, open_split
from menet_jax.images import pictures
from menet_jax.images.distortions import QUALITY_RANGE, SIGMA_RANGE, Jpeg, Noise
from menet_jax.runtime.cli import run_command
from menet_jax.runtime.text import say


def run(options: Show) -> int:
    """Draw a training batch; the exit status, see `run_command`."""
    places = options.places(options.skip_bad)
    return run_command(
        lambda: [open_split(spec, options.split, places) for spec in options.specs],
        lambda sources: draw(options, sources),
        lambda _: "no picture was written",
    )


def draw(options: Show, sources: list[Source]) -> int:
    """The exit status of drawing a batch of these sources."""
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
    pictures.batch_grid(batch["image"], batch["mask"], options.dest)
    say(f"{options.count} images: {options.dest}")
    return 0
