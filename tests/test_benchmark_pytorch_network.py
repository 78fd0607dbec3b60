"""The network beside the same one in PyTorch, where PyTorch is installed, which `.[test]` does not bring."""

import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from menet_jax.model.losses import hard_negatives
from menet_jax.model.menet import MENet
from menet_jax.model.pytorch.names import to_state_dict
from menet_jax.training.step import Batch

torch: Any = pytest.importorskip("torch")
agree = importlib.import_module("menet_jax.benchmark.pytorch_agreement")
in_pytorch = importlib.import_module("menet_jax.benchmark.pytorch_network")

Arrays = dict[str, np.ndarray]

WIDTH = 2


def variables(rng: np.random.Generator, batch: Batch) -> dict[str, Any]:
    """Every tensor drawn, with kernels of the size at which signals neither grow nor fade; statistics of the batch."""
    net = MENet(WIDTH)
    empty = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct(np.shape(batch.images), np.float32))

    def draw(path: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
        if path[-1] == "kernel":
            return rng.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[:-1], dtype=np.float32))
        low = 0.5 if path[-1] in ("scale", "var") else -0.5
        return rng.uniform(low, low + 1, shape).astype(np.float32)

    drawn = {path: draw(path, leaf.shape) for path, leaf in flatten_dict(empty).items()}
    found: dict[str, Any] = agree.settled(net, unflatten_dict(drawn), batch)
    return found


@pytest.fixture(scope="module")
def sides() -> tuple[Arrays, Arrays]:
    """Ours and PyTorch's, in float64, of one batch: few salient pixels, most, and none."""
    rng = np.random.default_rng(0)
    labels = np.zeros((3, 224, 224), bool)
    labels[0, 60:150, 40:120] = True
    labels[1, 10:, 30:] = True
    batch = Batch(rng.integers(0, 256, (3, 224, 224, 3), np.uint8), labels)
    found: tuple[Arrays, Arrays] = agree.both(
        WIDTH, variables(rng, batch), batch, "float64", xla_backend_optimization_level=0
    )
    return found


def test_both_networks_are_the_same(sides: tuple[Arrays, Arrays]) -> None:
    """Outputs and maps, from running and from the batch's statistics; losses; every parameter's gradient by name."""
    own, other = sides
    assert own.keys() == other.keys()
    norm = np.sqrt(sum(np.sum(value**2) for name, value in own.items() if name.startswith("gradient")))
    for name, value in own.items():
        assert value.shape == other[name].shape and value.dtype == other[name].dtype == np.float64
        scale = norm if name.startswith("gradient") else np.max(np.abs(value))
        assert scale > 1e-2, name
        np.testing.assert_allclose(other[name], value, rtol=1e-6, atol=1e-9 * scale, err_msg=name)
    assert {name.removeprefix("gradient ") for name in own if name.startswith("gradient")} == {
        name for name, _ in in_pytorch.TorchMENet(WIDTH).named_parameters()
    }


def test_the_differences_that_are_told(sides: tuple[Arrays, Arrays]) -> None:
    own, _ = sides
    assert set(agree.differences(own, own).values()) == {0.0}
    name = "gradient sal.0.weight"
    norm = np.sqrt(sum(np.sum(value**2) for key, value in own.items() if key.startswith("gradient")))
    moved = own | {name: own[name] + 1e-3 * norm / np.sqrt(own[name].size), "loss total": own["loss total"] * 1.5}
    told = {key: value for key, value in agree.differences(own, moved).items() if value}
    assert told == pytest.approx(
        {
            "loss total": 0.5,
            "gradient, 277 parameters": 1e-3,  # 421 tensors less the statistics of 72 norms
            "gradient, worst of these": 1e-3,
        }
    )


def test_our_export_is_all_that_the_network_in_pytorch_has() -> None:
    """Strictly: no tensor is missing or unknown but PyTorch's counters, which `load_state_dict` adds by itself."""
    rng = np.random.default_rng(1)
    drawn = variables(rng, Batch(rng.integers(0, 256, (2, 224, 224, 3), np.uint8), np.zeros((2, 224, 224), bool)))
    exported = {name: torch.tensor(value) for name, value in to_state_dict(drawn).items()}
    network = in_pytorch.TorchMENet(WIDTH)
    network.load_state_dict(exported)
    loaded = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert loaded.keys() == exported.keys()
    assert all(torch.equal(loaded[name], exported[name]) for name in exported)


def test_mining_of_ties_takes_the_first() -> None:
    """Two of four background pixels that are all alike, beside two salient ones: those that come first."""
    features = torch.zeros(1, 2, 1, 6)
    features[0, 0] = torch.tensor([1.0, 1, 0, 0, 0, 0])
    features[0, 1] = torch.tensor([0.0, 0, 1, 1, 1, 1])
    labels = torch.tensor([[[True, True, False, False, False, False]]])
    features.requires_grad_()
    loss = in_pytorch.metric_loss(features, labels)
    assert loss.item() == pytest.approx(-2.0)  # of each: 0 − ‖(1, 0) − (0, 1)‖²
    loss.backward()
    # f̂ of a unit vector passes what is across it: ∂ℓ = 2 (c_other − c_same), a quarter of it a pixel.
    assert features.grad[0, :, 0].T.tolist() == [[0, 0.5]] * 2 + [[0.5, 0]] * 2 + [[0, 0]] * 2


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_mining_of_a_whole_batch_keeps_what_ours_keeps(share: float) -> None:
    """As on a GPU; of losses among which many tie, and of images with one class alone."""
    rng = np.random.default_rng(int(10 * share))
    losses = rng.integers(-4, 5, (3, 8, 9)).astype(np.float32)
    labels = rng.random((3, 8, 9)) < share
    kept = in_pytorch.mined_together(torch.from_numpy(losses).flatten(1), torch.from_numpy(labels).flatten(1))
    np.testing.assert_array_equal(
        kept.numpy().reshape(losses.shape), jax.vmap(hard_negatives)(jnp.asarray(losses), jnp.asarray(labels))
    )
