"""The network: size, the authors' own outputs and gradient, scale maps, precision, synchronisation."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from tracing import equations

from menet_jax.model.menet import MENet
from menet_jax.model.outputs import Outputs
from menet_jax.model.pytorch.names import from_state_dict

Variables = dict[str, Any]
Names = tuple[str, ...]

# The scale maps in the order of spec: what each reads, and how many times smaller than the image that is.
SCALES = [("image", 1)]
SCALES += [(f"encoder{k}", 2**k) for k in range(6)]
SCALES += [(f"decoder{k}", 2**k) for k in range(5)]
SCALES += [("bottleneck", 32)]

# Unoptimised code compiles in half the time, and runs fast enough at width 1.
compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def waves(height: int, width: int, batch: int = 1) -> jax.Array:
    """The images on which the authors' network was run."""
    i, j, c = np.arange(height)[:, None, None], np.arange(width)[:, None], np.arange(3)
    b = np.arange(batch)[:, None, None, None]
    first, second = np.sin(0.11 * i * (c + 1) + 0.07 * j + 1.3 * b), np.cos(0.05 * j * (c + 2) - 0.03 * i)
    return jnp.asarray((127.5 * (1 + first * second)).astype(np.float32))


@cache
def shapes(model: MENet, train: bool = False, height: int = 224, width: int = 224) -> tuple[Any, Any]:
    """Shapes of the variables and of the outputs (with the new statistics in training), computing nothing."""
    images = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    mutable = ["batch_stats"] if train else False
    return variables, jax.eval_shape(partial(model.apply, train=train, mutable=mutable), variables, images)


def count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def features(outputs: Outputs) -> jax.Array:
    assert outputs.features is not None
    return outputs.features


def evaluate(variables: Variables, images: jax.Array) -> Outputs:
    outputs = MENet(width=1).apply(variables, images)
    assert isinstance(outputs, Outputs)
    return outputs


def train(variables: Variables, images: jax.Array, axis_name: str | None = None) -> tuple[Outputs, Variables]:
    """Outputs from the statistics of this batch, and the new running ones."""
    model = MENet(width=1, axis_name=axis_name)
    outputs, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
    return outputs, dict(new)


Evaluate = Callable[[Variables, jax.Array], Outputs]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "data" / "menet_width1.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def variables(golden: dict[str, np.ndarray]) -> Variables:
    """The authors' weights at width 1."""
    tensors = {name[6:]: array for name, array in golden.items() if name.startswith("param/")}
    return dict(jax.device_put(from_state_dict(tensors)))


@pytest.fixture(scope="module")
def run() -> Evaluate:
    return compiled(evaluate)


@pytest.fixture(scope="module")
def outputs(variables: Variables, run: Evaluate) -> Outputs:
    return run(variables, waves(224, 224, 2))


def each_16th(x: jax.Array) -> jax.Array:
    return x[:, ::16, ::16]


# --- size


def test_parameters_at_the_papers_width() -> None:
    variables, outputs = shapes(MENet())
    assert count(variables["params"]) == 184_959_166
    assert count(variables["batch_stats"]) == 50_218
    assert set(variables) == {"params", "batch_stats"}
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert outputs.features.shape == (2, 224, 224, 16)
    assert outputs.logits.shape == (2, 224, 224, 2)
    assert outputs.scales.shape == (2, 224, 224, 13)


def test_parameters_of_ce_plain() -> None:
    """Less 13 scale maps, `11·c + 1` each on c channels (BatchNorm 2·c, 3x3 convolution 9·c + 1); and the two
    heads' 3x3 convolutions read 32 channels, 19 more than 13 maps.
    """
    variables, outputs = shapes(MENet(multi_scale=False))
    channels = [3, *(32 * 2**k for k in range(6)), *(32 * 2**k for k in range(5)), 32 * 32]
    expected = 184_959_166 - sum(11 * c + 1 for c in channels) + 19 * 9 * (16 + 2)
    assert count(variables["params"]) == expected
    assert count(variables["batch_stats"]) == 50_218 - 2 * sum(channels)
    assert outputs.scales is None
    assert outputs.features.shape == (2, 224, 224, 16)
    assert outputs.logits.shape == (2, 224, 224, 2)


def test_channels_of_each_stage() -> None:
    params = shapes(MENet(width=32))[0]["params"]
    for k in range(1, 6):
        assert params[f"encoder{k}_down"]["main1"]["conv"]["kernel"].shape == (3, 3, 16 * 2**k, 32 * 2**k)
        assert params[f"encoder{k}_down"]["shortcut"]["conv"]["kernel"].shape == (1, 1, 16 * 2**k, 32 * 2**k)
    assert params["bottleneck_down"]["conv"]["kernel"].shape == (7, 7, 1024, 1024)
    assert params["bottleneck_up"]["conv"]["kernel"].shape == (7, 7, 1024, 1024)
    for k in range(5):
        read = 64 * 2**k * 2  # the stage below, and the encoder of its size
        assert params[f"decoder{k}_up"]["main1"]["conv"]["kernel"].shape == (4, 4, read, 32 * 2**k)
        assert params[f"decoder{k}_up"]["shortcut"]["conv"]["kernel"].shape == (2, 2, read, 32 * 2**k)
    paths = set(flatten_dict(params))
    without = [path[:-1] for path in paths if path[-1] == "kernel" and (*path[:-1], "bias") not in paths]
    transposed: list[tuple[str, ...]] = [("bottleneck_up", "conv")]
    transposed += [(f"decoder{k}_up", part, "conv") for k in range(5) for part in ("main1", "shortcut")]
    assert sorted(without) == sorted(transposed)


@pytest.mark.parametrize(
    ("height", "width", "nearest"),
    [
        (223, 224, "224x224"),
        (224, 192, "224x224"),
        (32, 1000, "224x992"),
        (300, 400, "288x416"),
        (239, 240, "224x256"),
        (352, 353, "352x352"),
    ],
)
def test_a_bad_size_is_refused_with_the_rule_and_the_nearest_good_one(height: int, width: int, nearest: str) -> None:
    with pytest.raises(ValueError, match="at least 224 and divisible by 32") as caught:
        shapes(MENet(width=1), height=height, width=width)
    message = str(caught.value).replace("\N{MULTIPLICATION SIGN}", "x")
    assert f"got {height}x{width}" in message
    assert message.endswith(f"The nearest good size is {nearest}.")
    height, width = map(int, nearest.split("x"))
    shapes(MENet(width=1), height=height, width=width)


# --- the authors' own outputs


def test_golden_outputs(golden: dict[str, np.ndarray], outputs: Outputs) -> None:
    np.testing.assert_allclose(each_16th(features(outputs)), golden["eval_features_224"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(each_16th(outputs.logits), golden["eval_logits_224"], atol=1e-5, rtol=0)


def test_golden_outputs_at_352(golden: dict[str, np.ndarray], variables: Variables, run: Evaluate) -> None:
    outputs = run(variables, waves(352, 352))
    assert outputs.scales is not None
    assert outputs.scales.shape == (1, 352, 352, 13)
    np.testing.assert_allclose(each_16th(features(outputs)), golden["eval_features_352"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(each_16th(outputs.logits), golden["eval_logits_352"], atol=1e-5, rtol=0)


def test_the_same_weights_take_an_oblong_image(variables: Variables) -> None:
    outputs = jax.eval_shape(evaluate, variables, waves(256, 320))
    assert outputs.features.shape == (1, 256, 320, 16)
    assert outputs.logits.shape == (1, 256, 320, 2)
    assert outputs.scales.shape == (1, 256, 320, 13)


def test_golden_gradient(golden: dict[str, np.ndarray], variables: Variables) -> None:
    def salient_sum(images: jax.Array) -> jax.Array:
        return jnp.sum(jax.nn.softmax(evaluate(variables, images).logits)[..., 1])

    gradient = each_16th(compiled(jax.grad(salient_sum))(waves(224, 224)))
    expected = golden["grad_salient_sum_224"]
    np.testing.assert_allclose(gradient, expected, atol=1e-3 * np.abs(expected).max(), rtol=0)
    assert np.linalg.norm(gradient - expected) < 1e-3 * np.linalg.norm(expected)


@pytest.fixture(scope="module")
def trained(variables: Variables) -> tuple[Outputs, Variables]:
    """Four images in one batch, on one device; optimised as `pmap` is, since in so narrow a network that alone moves
    outputs by more (6e-3) than the number of devices does (3e-4).
    """
    return jax.jit(train)(variables, pair_twice())


def pair_twice() -> jax.Array:
    """The pair on which the authors' network was trained a step, twice over: the same batch statistics."""
    return jnp.tile(waves(224, 224, 2), (2, 1, 1, 1))


def test_golden_outputs_in_training(golden: dict[str, np.ndarray], trained: tuple[Outputs, Variables]) -> None:
    for output, name in ((features(trained[0]), "features"), (trained[0].logits, "logits")):
        for pair in (output[:2], output[2:]):
            np.testing.assert_allclose(each_16th(pair), golden[f"train_{name}_224"], atol=1e-2, rtol=0)


def test_training_moves_the_running_statistics_a_tenth_of_the_way(
    variables: Variables, trained: tuple[Outputs, Variables]
) -> None:
    images = np.asarray(pair_twice(), np.float64)
    batch = {"mean": images.mean((0, 1, 2)), "var": images.var((0, 1, 2))}
    old, new = variables["batch_stats"], trained[1]["batch_stats"]
    assert flatten_dict(new).keys() == flatten_dict(old).keys()
    for name in ("mean", "var"):
        before, after = (stats["scale_image"]["norm"][name] for stats in (old, new))
        np.testing.assert_allclose(after, 0.9 * before + 0.1 * batch[name], rtol=1e-4)
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), old, new)
    assert all(jax.tree.leaves(moved))


def test_statistics_are_synchronised_over_devices(variables: Variables, trained: tuple[Outputs, Variables]) -> None:
    """Four devices with an image each give what one gives with all four."""
    assert jax.device_count() == 4
    synchronised = jax.pmap(partial(train, axis_name="devices"), axis_name="devices", in_axes=(None, 0))
    outputs, new = synchronised(variables, pair_twice()[:, None])
    outputs, new = jax.tree.map(np.asarray, (outputs, new))
    for ours, whole in zip(jax.tree.leaves(outputs), jax.tree.leaves(trained[0]), strict=True):
        np.testing.assert_allclose(ours[:, 0], whole, atol=2e-3)
    for leaf, whole in zip(jax.tree.leaves(new), jax.tree.leaves(trained[1]), strict=True):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
        np.testing.assert_allclose(leaf[0], whole, rtol=1e-3, atol=1e-4)


# --- scale maps


def test_each_scale_map_has_its_place(variables: Variables, run: Evaluate) -> None:
    """Raising the bias of one scale map raises its channel by as much, and no other."""
    images = waves(224, 224, 2)
    before = run(variables, images).scales
    assert before is not None
    for channel, (name, _) in enumerate(SCALES):
        raised = jax.tree.map(lambda leaf: leaf, variables)
        raised["params"][f"scale_{name}"]["conv"]["bias"] += 1
        after = run(raised, images).scales
        assert after is not None
        expected = np.zeros(13)
        expected[channel] = 1
        np.testing.assert_allclose(after - before, np.broadcast_to(expected, before.shape), atol=1e-5)


def test_each_scale_map_is_repeated_over_its_blocks(variables: Variables, run: Evaluate) -> None:
    """Eq. 14: constant on blocks of its own size, and not on blocks twice that."""
    alive = jax.tree.map(lambda leaf: leaf, variables)
    for name, _ in SCALES:  # the ReLU before one of these maps is 0 everywhere with the authors' weights
        alive["params"][f"scale_{name}"]["norm"]["bias"] += 3
    scales = run(alive, waves(224, 224, 2)).scales
    assert scales is not None

    def spread(values: np.ndarray, size: int) -> float:
        side = 224 // size * size
        blocks = values[:side, :side].reshape(side // size, size, side // size, size)
        return float(np.ptp(blocks, axis=(1, 3)).max())

    for channel, (name, factor) in enumerate(SCALES):
        values = np.asarray(scales[0, ..., channel])
        assert spread(values, factor) == 0, name
        assert spread(values, 2 * factor) > 1e-3, name


def test_the_heads_read_the_scale_maps(variables: Variables, outputs: Outputs) -> None:
    """One pixel's logits from the 3x3 scale values around it, by hand."""
    params, stats = variables["params"], variables["batch_stats"]["logits_norm"]
    assert outputs.scales is not None
    window = np.asarray(outputs.scales[1, 99:102, 49:52], np.float64)
    logits = np.einsum("yxi,yxio->o", window, params["logits_conv"]["kernel"]) + params["logits_conv"]["bias"]
    normalised = (logits - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    expected = normalised * params["logits_norm"]["scale"] + params["logits_norm"]["bias"]
    np.testing.assert_allclose(outputs.logits[1, 100, 50], expected, atol=1e-5)


def test_ce_plain_reads_the_last_decoder_output(variables: Variables) -> None:
    """A kernel that copies what it reads shows it in the logits."""
    model = MENet(width=1, multi_scale=False)
    params = dict(variables["params"])
    middle = np.zeros((3, 3, 1, 2), np.float32)
    middle[1, 1] = 1
    params["logits_conv"] = {"kernel": jnp.asarray(middle), "bias": jnp.zeros(2)}
    params["features_conv"] = {"kernel": jnp.zeros((3, 3, 1, 16)), "bias": jnp.zeros(16)}
    plain = {name: leaf for name, leaf in params.items() if not name.startswith("scale_")}
    stats = {name: leaf for name, leaf in variables["batch_stats"].items() if not name.startswith("scale_")}
    identity = {"mean": jnp.zeros(2), "var": jnp.ones(2) - 1e-5}
    plain["logits_norm"] = {"scale": jnp.ones(2), "bias": jnp.zeros(2)}
    images = waves(224, 224)

    def decoder0(variables: Variables, images: jax.Array) -> tuple[Outputs, jax.Array]:
        outputs, kept = model.apply(
            variables,
            images,
            capture_intermediates=lambda module, _: module.name == "decoder0_residual",
            mutable=["intermediates"],
        )
        return outputs, kept["intermediates"]["decoder0_residual"]["__call__"][0]

    outputs, last = compiled(decoder0)({"params": plain, "batch_stats": {**stats, "logits_norm": identity}}, images)
    assert outputs.scales is None
    assert jnp.ptp(last) > 0.1
    np.testing.assert_allclose(outputs.logits, jnp.broadcast_to(last, (1, 224, 224, 2)), atol=1e-5)
    own = jax.tree.map(lambda leaf: leaf.shape, {"params": plain, "batch_stats": {**stats, "logits_norm": identity}})
    assert own == jax.tree.map(lambda leaf: leaf.shape, shapes(model)[0])


# --- precision


@pytest.fixture
def implicit_promotion() -> Iterator[None]:
    """Flax's BatchNorm leaves it to JAX to promote half precision to float32."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("implicit_promotion")
def test_bfloat16_is_what_convolutions_compute_in_and_nothing_else() -> None:
    """Parameters, outputs and new statistics are float32."""
    model, images = MENet(width=1, dtype=jnp.bfloat16), jnp.zeros((1, 224, 224, 3))
    variables = shapes(model)[0]
    trace = jax.make_jaxpr(partial(model.apply, train=True, mutable=["batch_stats"]), return_shape=True)
    jaxpr, results = trace(variables, images)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((variables, results)))
    products = [
        str(equation.outvars[0].aval)
        for equation in equations(jaxpr.jaxpr)
        if equation.primitive.name in ("conv2d", "conv2d_input_gradient", "dot_general")
    ]
    assert len(products) == sum(path[-1] == "kernel" for path in flatten_dict(variables["params"]))
    assert all(product.startswith("bfloat16") for product in products)


@pytest.mark.usefixtures("implicit_promotion")
def test_bfloat16_outputs_are_close(variables: Variables, outputs: Outputs) -> None:
    half = compiled(MENet(width=1, dtype=jnp.bfloat16).apply)(variables, waves(224, 224, 2))
    for ours, exact in zip(jax.tree.leaves(half), jax.tree.leaves(outputs), strict=True):
        difference = float(jnp.max(jnp.abs(ours - exact)))
        assert ours.dtype == jnp.float32
        assert 0 < difference < 0.03 * float(jnp.max(jnp.abs(exact)))


# --- speed


def test_gradient_indexes_nothing() -> None:
    """What XLA is slow at: gathers and scatters."""
    model, images = MENet(width=1), jnp.zeros((1, 224, 224, 3))
    variables = shapes(model)[0]

    def total(params: Any, rest: Any, images: jax.Array) -> jax.Array:
        variables = {"params": params, **rest}
        outputs, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return jnp.sum(outputs.features) + jnp.sum(outputs.logits)

    rest = {"batch_stats": variables["batch_stats"]}
    backward = [*equations(jax.make_jaxpr(jax.grad(total))(variables["params"], rest, images).jaxpr)]
    assert {"conv2d_input_gradient", "conv2d_kernel_gradient"} <= {e.primitive.name for e in backward}
    assert not {e.primitive.name for e in backward if "gather" in e.primitive.name or "scatter" in e.primitive.name}
