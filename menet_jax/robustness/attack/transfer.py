"""Whether attacks found on one network fool another one: where they do so better than those found on it, its own search
has missed the worst, be it for a gradient that says little (masking) or for too few steps.
"""

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np

from menet_jax.data.sources import Example
from menet_jax.evaluation.inputs import NamedRun
from menet_jax.robustness.analysis.loop import Analysis
from menet_jax.robustness.analysis.networks import MeasuredNetwork
from menet_jax.robustness.attack.measurement import Images, Measurement, scored
from menet_jax.runtime.progress import Bar
from menet_jax.runtime.text import say

TOLERANCE = 0.005
"""F by which a transferred attack must cost more, to count as stronger."""


Attacked = Callable[[MeasuredNetwork, Example], Images]
"""A network, an image → the attacked images of the greatest strength."""


class Transfer(NamedTuple):
    """Attacks found on one run, scored by another, at the greatest strength.

    Attributes:
        target: the run that is fooled, and the dataset.
        source: the run that they were found on.
        own: adaptive F of each image under the target's own attack.
        transferred: the same under the source's.
    """

    target: Analysis[Measurement]
    source: NamedRun
    own: list[float]
    transferred: list[float]

    @property
    def stronger(self) -> float:
        """Share of the images at which the transferred attack costs more F."""
        return float(np.mean(np.array(self.transferred) < np.array(self.own) - TOLERANCE))


def transfers(analyses: Sequence[Analysis[Measurement]], attacked: Attacked) -> list[Transfer]:
    """Of every run to every other one that sees images of the same size, on each dataset; the others are named."""
    pairs, apart = list[tuple[Analysis[Measurement], Analysis[Measurement]]](), set[frozenset[str]]()
    for target, source in permutations(analyses, 2):
        if target.dataset.truth != source.dataset.truth or target.run.name == source.run.name:
            continue
        if target.network.size == source.network.size:
            pairs.append((target, source))
        else:
            apart.add(frozenset({target.run.name, source.run.name}))
    for names in sorted(map(sorted, apart)):
        say(f"note: {' and '.join(names)} see images of different sizes: no attack is transferred between them")
    found = []
    total = sum(len(target.images) for target, _ in pairs)
    with Bar(total=total, unit="image", smoothing=0.1, disable=not total) as bar:
        for target, source in pairs:
            attacked_there = {image.image for image in source.images}
            own, transferred = list[float](), list[float]()
            for image in target.images:
                bar.set_description(f"{source.run.name} to {target.run.name}, {image.image}")
                if image.image in attacked_there:
                    example = target.example(image.image)
                    found_there = [scored(target.network, each, example) for each in attacked(source.network, example)]
                    own.append(image.strengths[-1].attack.adaptive_f)
                    transferred.append(min(found_there).adaptive_f)
                bar.update()
            if own:
                found.append(Transfer(target, source.run, own, transferred))
    return found
