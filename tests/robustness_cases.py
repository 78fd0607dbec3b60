"""The commands that attack and certify, on a network that is compiled in no time in the place of a run's."""

from pathlib import Path

import flax.linen as nn
import pytest
from command_cases import Outcome, outcome
from jacobian_cases import SmallNet, small_variables

from menet_jax.model.saliency import border_background
from menet_jax.robustness import __main__ as robustness
from menet_jax.robustness.analysis import inputs
from menet_jax.robustness.analysis.networks import MeasuredNetwork
from menet_jax.robustness.jacobian import image_function
from menet_jax.robustness.jacobian.image_function import network_map

SIZE = 16


def small_command(name: str, run: Path, dataset: Path, *flags: str | Path, other: Path | None = None) -> Outcome:
    """Run one of them on all images of a dataset; also, on another run."""
    runs = [f"small={run}", *([f"other={other}"] if other else [])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "measured_network", lambda run, name: small_network(run.config.run.name, name))
        data = ("--data", dataset, "--split", "all", "--cache", dataset.parent / "cache")
        return outcome(robustness.main, name, "--run", *runs, *data, *flags)


def small_network(run: str, name: str) -> MeasuredNetwork:
    """What takes the place of an output of the run of this name."""
    of = {"metric": image_function.metric, "probability": image_function.probability}[name]
    seed = 3 if run == "narrow" else 4
    f = network_map(SmallNet(relu=nn.softplus), small_variables(seed), of)
    return MeasuredNetwork(f, border_background, SIZE, ("metric", "probability"), {"network": name, "seed": seed})
