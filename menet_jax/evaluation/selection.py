"""The images of a dataset that a figure shows: named ones, evenly spread ones, or the worst ones."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from menet_jax.data.sources import Example, Source, numbered
from menet_jax.metrics.scores import ImageScores
from menet_jax.runtime.text import composed


def by_stem(sources: Sequence[Source], stems: Sequence[str]) -> list[Example]:
    """The images whose files have these names, folder and extension aside, in the order of the stems.

    Raises:
        ValueError: one is not there; the text says what is called nearly so, and in which splits it was looked for.
    """
    places = {composed(Path(source.file_name(i)).stem): (source, i) for source in sources for i in range(len(source))}
    stems = [composed(stem) for stem in stems]
    for stem in stems:
        if stem not in places:
            close = difflib.get_close_matches(stem, places, n=3, cutoff=0)
            splits = " + ".join(f"{source.split} ({len(source):,} images)" for source in sources)
            raise ValueError(
                f"{sources[0].name} has no image called {stem} in {splits}; most like it are {', '.join(close)}. "
                "--split says where to look: test, train, validation or all."
            )
    return [source[i] for source, i in (places[stem] for stem in stems)]


def spread(sources: Sequence[Source], count: int) -> list[Example]:
    """At most `count` images, at equal steps over the sources."""
    places = numbered(sources)
    count = min(count, len(places))
    return [source[i] for source, i in (places[k * len(places) // count] for k in range(count))]


def worst(scores: Iterable[ImageScores], count: int) -> list[int]:
    """Places of the images with the lowest adaptive F-measure, lowest first; of equal ones, the higher MAE is worse.

    Images without any salient pixel are left out: their F-measure is 0 whatever the map is.
    """
    ranked = sorted((image.adaptive_f, -image.mae, place) for place, image in enumerate(scores) if image.recall[0] > 0)
    return [place for _, _, place in ranked[:count]]
