"""The authors' names and layouts against ours, both ways."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from menet_jax.model.menet import MENet
from menet_jax.model.pytorch.names import from_state_dict, to_state_dict

DATA = Path(__file__).parent / "data"
StateDict = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def golden() -> StateDict:
    """The authors' tensors at width 1."""
    with np.load(DATA / "menet_width1.npz") as arrays:
        return {name[6:]: array for name, array in arrays.items() if name.startswith("param/")}


@pytest.fixture(scope="module")
def authors_shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the authors' checkpoint, at width 32."""
    rows = [line.split("\t") for line in (DATA / "authors_state_dict.tsv").read_text().splitlines()]
    return {name: tuple(map(int, shape.split("x"))) for name, shape in rows}


@cache
def shapes_of(width: int, multi_scale: bool = True) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Path and shape of every variable of ours, without computing any."""
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(MENet(width, multi_scale).init, jax.random.key(0), image)
    return {path: leaf.shape for path, leaf in flatten_dict(variables).items()}


def random_variables(width: int, multi_scale: bool = True) -> dict[str, Any]:
    generator = np.random.default_rng(width)
    shapes = shapes_of(width, multi_scale)
    return unflatten_dict({p: generator.standard_normal(shape, np.float32) for p, shape in shapes.items()})


def bits(arrays: Mapping[Any, np.ndarray]) -> dict[Any, tuple[tuple[int, ...], bytes]]:
    return {name: (array.shape, array.tobytes()) for name, array in arrays.items()}


def complaints(state_dict: StateDict) -> list[str]:
    """What the error says of each tensor."""
    with pytest.raises(ValueError, match="not a state dict of the authors' MEnet") as caught:
        from_state_dict(state_dict)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_the_checkpoint_is_ours_at_width_32(authors_shapes: dict[str, tuple[int, ...]]) -> None:
    """The one complaint about their shapes is of a tensor added: no name is missing, no shape differs."""
    tensors = {name: np.broadcast_to(np.float32(0), shape) for name, shape in authors_shapes.items()}
    assert complaints({**tensors, "added": np.zeros(1)}) == ["unknown: added"]


def test_ours_at_width_32_is_the_checkpoint(authors_shapes: dict[str, tuple[int, ...]]) -> None:
    """One byte a weight, for the sake of memory."""
    ours = {path: np.broadcast_to(np.int8(0), shape) for path, shape in shapes_of(32).items()}
    theirs = {name: tensor.shape for name, tensor in to_state_dict(unflatten_dict(ours)).items()}
    assert theirs == authors_shapes


def test_golden_tensors_come_back_to_the_bit(golden: StateDict) -> None:
    variables = from_state_dict(golden)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(variables))
    assert bits(to_state_dict(variables)) == bits(golden)


def test_variables_come_back_to_the_bit() -> None:
    """At width 2, where rows, columns, inputs and outputs of a kernel are mostly of different lengths."""
    variables = random_variables(2)
    variables["params"]["stem_conv"]["bias"] = np.array([-0.0, np.nan], np.float32)
    back = from_state_dict(to_state_dict(variables))
    assert bits(flatten_dict(back)) == bits(flatten_dict(variables))


def test_variables_may_be_jax_arrays() -> None:
    variables = random_variables(1)
    assert bits(to_state_dict(jax.tree.map(jnp.asarray, variables))) == bits(to_state_dict(variables))


def test_layouts() -> None:
    variables = random_variables(2)
    theirs = to_state_dict(variables)
    params = variables["params"]
    conv = params["encoder1_down"]["main1"]["conv"]["kernel"]
    assert conv.shape == (3, 3, 2, 4)
    assert theirs["scale1.0.m1.2.weight"][3, 1, 0, 2] == conv[0, 2, 1, 3]
    transposed = params["decoder4_up"]["main1"]["conv"]["kernel"]
    assert transposed.shape == (4, 4, 128, 32)
    assert theirs["stack6.0.m1.2.weight"][100, 7, 0, 1] == transposed[3, 2, 100, 7]
    assert (
        theirs["stack10.0.mm.2.weight"][5, 1, 0, 1] == params["decoder0_up"]["shortcut"]["conv"]["kernel"][1, 0, 5, 1]
    )
    assert theirs["scale5_u.2.bias"] == params["scale_bottleneck"]["conv"]["bias"]
    assert theirs["metric.0.1.running_var"][9] == variables["batch_stats"]["features_norm"]["var"][9]
    assert theirs["sal.1.weight"][1] == params["logits_norm"]["scale"][1]


def test_counters_are_accepted(golden: StateDict) -> None:
    counters = {"stack1.0.1.num_batches_tracked": np.array(7), "sal.1.num_batches_tracked": np.array(7)}
    assert bits(flatten_dict(from_state_dict({**golden, **counters}))) == bits(flatten_dict(from_state_dict(golden)))


def test_every_wrong_tensor_is_named(golden: StateDict) -> None:
    wrong = {**golden, "extra.weight": np.zeros(3), "sal.0.weight": golden["sal.0.weight"][:, :12]}
    wrong["scale3_m.0.bias"] = np.zeros((8, 1), np.float32)
    del wrong["stack7.1.m2.2.bias"]
    assert complaints(wrong) == [
        "missing: stack7.1.m2.2.bias",
        "unknown: extra.weight",
        "misshapen: scale3_m.0.bias is (8, 1), should be (8,) at width 1",
        "misshapen: sal.0.weight is (2, 12, 3, 3), should be (2, 13, 3, 3) at width 1",
    ]


@pytest.mark.parametrize("name", ["scale5_5.1.2.weight", "stack10.0.mm.0.running_mean"])
def test_a_missing_tensor_is_named(golden: StateDict, name: str) -> None:
    assert complaints({key: tensor for key, tensor in golden.items() if key != name}) == [f"missing: {name}"]


def test_a_transposed_kernel_in_the_other_layout_is_named(golden: StateDict) -> None:
    name = "stack6.0.m1.2.weight"
    swapped = golden[name].swapaxes(0, 1)
    assert complaints({**golden, name: swapped}) == [
        f"misshapen: {name} is (16, 64, 4, 4), should be (64, 16, 4, 4) at width 1"
    ]


def test_the_width_is_the_stems(golden: StateDict) -> None:
    """One tensor of another width is named; a stem of another width makes it all the others."""
    stem = "stack1.0.0.weight"
    twice = {**golden, "stack1.0.1.bias": np.zeros(2, np.float32)}
    assert complaints(twice) == ["misshapen: stack1.0.1.bias is (2,), should be (1,) at width 1"]
    wider = complaints({**golden, stem: np.zeros((2, 3, 3, 3), np.float32)})
    assert len(wider) > 300
    assert all(line.startswith("misshapen: ") and line.endswith(" at width 2") for line in wider)
    assert not any(stem in line for line in wider)


def test_an_unreadable_width_is_said_so(golden: StateDict) -> None:
    stem = "stack1.0.0.weight"
    assert complaints({**golden, stem: np.zeros(3)}) == [f"misshapen: {stem} is (3,), should be (width, 3, 3, 3)"]
    assert complaints({name: tensor for name, tensor in golden.items() if name != stem}) == [f"missing: {stem}"]


def test_other_variables_are_refused() -> None:
    """CE-plain has no name in the authors' file; neither has a variable of another program."""
    with pytest.raises(ValueError, match=r"multi-scale MENet: missing .*params/scale_encoder3/conv/kernel"):
        to_state_dict(random_variables(1, multi_scale=False))
    variables = random_variables(1)
    variables["params"]["other"] = np.zeros(1)
    with pytest.raises(ValueError, match=r"missing \[\], unknown \['params/other'\]"):
        to_state_dict(variables)
