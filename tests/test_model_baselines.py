"""U-Net and NLDF against plain ones, written with JAX's own operations; how they train and are differentiated; what
commands make of a network without a metric space.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_cases import outcome
from flax.traverse_util import flatten_dict, path_aware_map
from inexact_device import inexact
from jax import lax
from PIL import Image

from menet_jax import authors, evaluate, export, load_predictor, predict
from menet_jax.evaluation.export_command import to_stablehlo
from menet_jax.model.initialisation import initial_variables
from menet_jax.model.menet import MENet
from menet_jax.model.nldf import NLDF
from menet_jax.model.pooling import local_mean, max_pool
from menet_jax.model.unet import UNet
from menet_jax.robustness.jacobian import image_function
from menet_jax.robustness.jacobian.bounds import bounding_map
from menet_jax.robustness.jacobian.image_function import network_map
from menet_jax.training.command import advice
from menet_jax.training.config import Config, LossConfig, ModelConfig, OptimizerConfig
from menet_jax.training.network import network
from menet_jax.training.optimizer import make_optimizer
from menet_jax.training.presets import PRESETS
from menet_jax.training.run import write_run
from menet_jax.training.step import Batch, TrainState, train_step

CE = LossConfig(metric=0.0)
BASELINES = {"unet": UNet(width=1), "nldf": NLDF(width=1)}
Weights = dict[str, jax.Array]

compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def noisy_variables(net: nn.Module) -> dict[str, Any]:
    """Initial variables, with statistics, scales and biases that are not the neutral ones."""
    rng = np.random.default_rng(0)

    def noisy(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        return leaf if path[-1] == "kernel" else leaf + rng.uniform(0, 0.3, leaf.shape).astype(np.float32)

    return dict(path_aware_map(noisy, initial_variables(net, 0)))


def images(batch: int, side: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).uniform(0, 255, (batch, side, side, 3)), jnp.float32)


class Plain:
    """Layers by JAX's own operations, with the weights of a network by name."""

    def __init__(self, variables: dict[str, Any]) -> None:
        self.w: Weights = flatten_dict(variables, sep="/")

    def conv(self, x: jax.Array, name: str, padding: str = "SAME") -> jax.Array:
        kernel = self.w[f"params/{name}/kernel"]
        y = lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + self.w[f"params/{name}/bias"][None, None, None]

    def transposed(self, x: jax.Array, name: str) -> jax.Array:
        return lax.conv_transpose(x, self.w[f"params/{name}/kernel"], (2, 2), "SAME")

    def relu_norm(self, x: jax.Array, name: str) -> jax.Array:
        mean, var = (self.w[f"batch_stats/{name}/{each}"][None, None, None] for each in ("mean", "var"))
        scale, bias = (self.w[f"params/{name}/{each}"][None, None, None] for each in ("scale", "bias"))
        return nn.relu((x - mean) / jnp.sqrt(var + 1e-5) * scale + bias)

    def block(self, x: jax.Array, name: str, padding: str = "SAME") -> jax.Array:
        return self.relu_norm(self.conv(x, f"{name}_conv", padding), f"{name}_norm")


def plain_unet(variables: dict[str, Any], x: jax.Array) -> jax.Array:
    """The logits, as drawn in Figure 1 of the U-Net paper."""
    layers = Plain(variables)

    def twice(x: jax.Array, name: str) -> jax.Array:
        for n in "12":
            x = layers.relu_norm(layers.conv(x, f"{name}_conv{n}"), f"{name}_norm{n}")
        return x

    down = [twice(x, "encoder0")]
    for k in range(1, 5):
        down.append(twice(nn.max_pool(down[-1], (2, 2), (2, 2)), f"encoder{k}"))
    h = down.pop()
    for k in (3, 2, 1, 0):
        h = twice(jnp.concatenate([down.pop(), layers.transposed(h, f"decoder{k}_up")], -1), f"decoder{k}")
    return layers.conv(h, "logits_conv")


def plain_nldf(variables: dict[str, Any], x: jax.Array) -> jax.Array:
    """The logits, as drawn in Figure 2 of the NLDF paper."""
    layers = Plain(variables)
    pools = []
    for block, count in enumerate((2, 2, 3, 3, 3), 1):
        for n in range(1, count + 1):
            x = layers.block(x, f"vgg{block}_{n}")
        x = nn.max_pool(x, (2, 2), (2, 2))
        pools.append(x)
    score = layers.conv(layers.conv(layers.block(x, "global1", "VALID"), "global2_conv", "VALID"), "global_score_conv")
    assert score.shape[1:] == (1, 1, 2)

    def with_contrast(k: int) -> list[jax.Array]:
        feature = layers.block(pools[k - 1], f"feature{k}")
        edge = jnp.pad(feature, ((0, 0), (1, 1), (1, 1), (0, 0)), "symmetric")
        return [feature, feature - nn.pool(edge, 0.0, lax.add, (3, 3), (1, 1), "VALID") / 9]

    up = jnp.zeros((len(x), 7, 7, 0))
    for k in (5, 4, 3, 2):
        joined = jnp.concatenate([*with_contrast(k), up], -1)
        up = layers.relu_norm(layers.transposed(joined, f"up{k}_transposed"), f"up{k}_norm")
    local = layers.conv(layers.conv(jnp.concatenate([*with_contrast(1), up], -1), "local_conv"), "local_score_conv")
    return jax.image.resize(local + score, (len(x), 2 * local.shape[1], 2 * local.shape[2], 2), "bilinear")


@pytest.mark.parametrize(
    ("net", "plain", "side"), [(UNet(width=2), plain_unet, 48), (NLDF(width=1), plain_nldf, 224)], ids=["unet", "nldf"]
)
def test_baselines_are_what_their_papers_draw(net: nn.Module, plain: Callable[..., jax.Array], side: int) -> None:
    variables = noisy_variables(net)
    found: Any = compiled(net.apply)(variables, images(1, side))
    wanted = compiled(plain)(variables, images(1, side))
    assert found.features is None and found.scales is None
    assert found.logits.shape == (1, side, side, 2)
    np.testing.assert_allclose(found.logits, wanted, atol=1e-4 * float(jnp.abs(wanted).max()), rtol=0)


def _convs(*layers: tuple[int, int, int]) -> int:
    """Parameters of convolutions (size, in, out) with bias."""
    return sum(size**2 * inputs * outputs + outputs for size, inputs, outputs in layers)


def test_as_many_parameters_as_their_papers_have() -> None:
    c = [64, 128, 256, 512, 1024]
    unet = _convs(
        (3, 3, 64), (3, 64, 64), (1, 64, 2), *((3, a, b) for a, b in pairwise(c)), *((3, b, b) for b in c[1:])
    )
    unet += _convs(*((3, 2 * a, a) for a in c[:4]), *((3, a, a) for a in c[:4])) + sum(4 * 2 * a * a for a in c[:4])
    normalised = 2 * 2 * (sum(c) + sum(c[:4]))
    vgg = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    assert _convs(*((3, a, b) for a, b in pairwise(vgg))) == 14_714_688  # VGG-16's convolutions, as published
    pooled = (64, 128, 256, 512, 512)
    nldf = 14_714_688 + _convs(*((3, a, 128) for a in pooled), (5, 512, 128), (3, 128, 128), (1, 128, 2))
    nldf += _convs((1, 768, 640), (1, 640, 2)) + 16 * 128**2 * (2 * 1 + 3 * 2 + 4 * 3 + 5 * 4)
    nldf += 2 * (sum(vgg[1:]) + 6 * 128 + 128 * (1 + 2 + 3 + 4))
    for net, wanted in ((UNet(), unet + normalised), (NLDF(), nldf)):
        shapes = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32))
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == wanted
        assert f"{wanted:,}" in " ".join((type(net).__doc__ or "").split())


def test_pooling_and_its_gradient() -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 8, 3)), jnp.float32)
    np.testing.assert_array_equal(max_pool(x), nn.max_pool(x, (2, 2), (2, 2)))
    weights = jnp.arange(2 * 3 * 4 * 3.0).reshape(2, 3, 4, 3)
    ours, theirs = (
        jax.jit(jax.grad(lambda x, f=f: jnp.sum(weights * f(x))))(x)
        for f in (max_pool, lambda x: nn.max_pool(x, (2, 2), (2, 2)))
    )
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(jax.jit(jax.grad(lambda x: jnp.sum(max_pool(x))))(jnp.zeros((1, 2, 2, 1))), 0.25)
    np.testing.assert_allclose(local_mean(jnp.full((1, 4, 5, 1), 7.0)), 7.0, rtol=1e-6)
    np.testing.assert_allclose(local_mean(x)[:, 2, 3], x[:, 1:4, 2:5].mean((1, 2)), rtol=1e-5)


@pytest.mark.parametrize("again", [1, -1])
def test_pooling_passes_its_gradient_on_where_a_compiler_rounds_twice(again: int) -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 8, 3)), jnp.float32)
    gradient = jax.grad(lambda x: jnp.sum(max_pool(x)))
    np.testing.assert_array_equal(inexact(gradient, x, again=again), gradient(x))
    second = jax.jvp(gradient, (x,), (x,))[1]
    assert not second.any()


@pytest.mark.parametrize(("net", "side", "good"), [(UNet(), 200, "208×208"), (NLDF(), 192, "224×224")])
def test_sizes_that_do_not_fit_are_refused(net: nn.Module, side: int, good: str) -> None:
    with pytest.raises(ValueError, match=f"nearest good size is {good}"):
        jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32))


def test_a_baseline_learns_two_images_by_heart() -> None:
    net, optimizer = UNet(width=2), make_optimizer(OptimizerConfig(drops=()))
    variables = initial_variables(net, 0)
    labels = np.zeros((2, 32, 32), bool)
    labels[0, 8:20, 4:18] = labels[1, 14:30, 10:26] = True
    batch = Batch((200 * labels[..., None] + np.full((2, 32, 32, 3), 20)).astype(np.uint8), labels)
    params, opt_state = variables["params"], optimizer.init(variables["params"])
    rng = np.asarray(jax.random.key_data(jax.random.key(0)))
    state = TrainState(np.zeros((), np.int32), params, variables["batch_stats"], opt_state, rng)
    step = compiled(partial(train_step, net, optimizer, CE))
    losses = []
    for _ in range(25):
        state, metrics = step(state, batch)
        losses.append(float(metrics.loss))
    assert metrics.metric_loss == 0
    assert losses[-1] < 0.1 < 0.5 < losses[0]


def test_a_baseline_is_differentiated_like_any_network() -> None:
    net = UNet(width=2)
    f = network_map(net, noisy_variables(net), image_function.logit_margin)
    rng, x = np.random.default_rng(2), images(1, 32)[0]
    v, u = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in (x.shape, x.shape[:2]))
    value, pushed = compiled(lambda x, v: jax.jvp(f, (x,), (v,)))(x, v)
    [pulled] = compiled(lambda x, u: jax.vjp(f, x)[1](u))(x, u)
    np.testing.assert_allclose(jnp.sum(pushed * u), jnp.sum(pulled * v), rtol=1e-4)
    near = compiled(lambda x: f(x))(x + 2e-3 * v)
    assert np.linalg.norm((near - value) / 2e-3 - pushed) < 0.01 * np.linalg.norm(pushed)
    for output in (image_function.features, image_function.metric):
        with pytest.raises(ValueError, match="no metric space"):
            jax.eval_shape(f.replace(output=output), x)
    with pytest.raises(TypeError, match="UNet cannot be bounded"):
        bounding_map(f)


def test_configurations_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"--model\.kind unet: has no metric space .* --loss.metric 0"):
        Config(run=Path(), steps=1, model=ModelConfig(kind="unet"))
    with pytest.raises(ValueError, match=r"--model\.kind nldf: has no 13 scale maps"):
        ModelConfig(kind="nldf", multi_scale=False)


@pytest.mark.parametrize("kind", BASELINES)
def test_presets_differ_from_ce_only_by_the_network_alone(kind: str) -> None:
    config, ce_only = PRESETS[kind].config, PRESETS["ce-only"].config
    assert dataclasses.replace(config, run=ce_only.run, model=ce_only.model) == ce_only
    assert network(config) == {"unet": UNet(), "nldf": NLDF()}[kind]
    assert network(ce_only) == MENet()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baselines") / "unet"
    config = Config(run=folder, steps=1, model=ModelConfig(width=1, kind="unet"), loss=CE)
    write_run(config, initial_variables(network(config), 0))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    mask = np.zeros((30, 40), np.uint8)
    mask[10:20, 10:30] = 255
    for kind, picture in (
        ("images", np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)),
        ("masks", mask),
    ):
        (folder / kind).mkdir()
        Image.fromarray(picture).save(folder / kind / "one.png")
    return folder


def test_training_says_how_to_predict_with_it() -> None:
    config = Config(run=Path("mine"), steps=1)
    assert advice(config).endswith("--run mine --source IMAGES --dest MAPS")
    assert advice(PRESETS["unet"].config).endswith(" --probability")


def test_its_only_map_is_predicted_where_it_is_asked_for(run: Path, data: Path, tmp_path: Path) -> None:
    flags = ("--run", run, "--source", data / "images", "--dest", tmp_path)
    refused = outcome(predict.main, *flags)
    assert refused.code == 2 and f"{run}: a network of kind unet has no metric map" in refused.err
    assert not any(tmp_path.iterdir())
    assert outcome(predict.main, *flags, "--probability").code == 0
    predictor = load_predictor(run)
    picture = Image.open(data / "images" / "one.png")
    maps = predictor.maps(picture)
    assert maps.metric is None and list(maps.named()) == ["probability"]
    with Image.open(tmp_path / "one.png") as written:
        np.testing.assert_allclose(np.asarray(written), 255 * np.asarray(maps.probability), atol=0.51)
    with pytest.raises(ValueError, match="has no metric map"):
        predictor(picture)


def test_a_table_has_one_row_of_it(run: Path, data: Path, tmp_path: Path) -> None:
    done = outcome(evaluate.main, "--run", f"u={run}", "--data", data, "--split", "all", "--cache", tmp_path)
    assert done.code == 0, done.err
    [row] = [line for line in done.out.splitlines() if " u " in f" {line} " and "probability" in line]
    assert "metric" not in row
    assert "did not train" not in done.out


@pytest.mark.parametrize("kind", BASELINES)
def test_its_program_takes_any_number_of_images(kind: str) -> None:
    paper = PRESETS[kind].config
    config = dataclasses.replace(paper, model=dataclasses.replace(paper.model, width=1))
    program = jax.export.deserialize(to_stablehlo(config, initial_variables(BASELINES[kind], 0)))
    [shape] = program.out_avals
    assert str(shape.shape) == "(b, 224, 224)" and shape.dtype == np.float32


def test_there_is_no_onnx_graph_of_it(run: Path, tmp_path: Path) -> None:
    refused = outcome(export.main, run, "--dest", tmp_path / "unet.onnx", "--format", "onnx")
    assert refused.code == 2 and "--format onnx: is of MENet alone, and this network is of kind unet" in refused.err


def test_the_authors_have_no_such_network(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert authors.main(["export", str(run), "--dest", str(tmp_path / "weights.pt")]) == 2
    assert "no scale maps" in capsys.readouterr().err
