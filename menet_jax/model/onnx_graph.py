"""The network and its maps as an ONNX graph: what `MENet` and `saliency` compute with running statistics, once more, in
ONNX's operators. Arrays within it are channels first, as ONNX's convolutions take them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from flax.traverse_util import flatten_dict
from onnx import TensorProto, helper, numpy_helper

from menet_jax.model.menet import DEPTH
from menet_jax.model.normalisation import EPSILON
from menet_jax.model.saliency import Region, border, border_background, border_band

OPSET = 18
"""Version of ONNX's operators: onnxruntime 1.14 and all newer ones have it."""

IR_VERSION = 8
"""Version of the file format: the one of that opset."""

LARGEST = 2**31 - 2**20
"""Bytes of weights: a file ends at 2 GiB."""


class Graph:
    """Nodes and weights of a graph that is being written; arrays are known by their names."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.variables = flatten_dict(dict(variables), sep="/")

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """A node; its output."""
        output = name or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, value: Any, dtype: Any = np.float32, name: str = "") -> str:
        """A constant; equal ones without a name are one."""
        array = np.asarray(value, dtype, order="C")
        name = name or f"{array.dtype}{array.shape}{array.tolist()}"
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def batch_norm(self, x: str, path: str) -> str:
        """`BatchNorm` with running statistics."""
        names = [f"params/{path}/scale", f"params/{path}/bias", f"batch_stats/{path}/mean", f"batch_stats/{path}/var"]
        weights = [self.constant(self.variables[name], name=name) for name in names]
        return self.add("BatchNormalization", x, *weights, epsilon=EPSILON)

    def conv(self, x: str, path: str, stride: int = 1) -> str:
        """A convolution with bias; 7×7 without padding, else with as much as keeps the size where the stride is 1."""
        kernel = np.asarray(self.variables[f"params/{path}/kernel"])
        size = kernel.shape[0]
        weights = self.constant(kernel.transpose(3, 2, 0, 1), name=f"params/{path}/kernel")
        bias = self.constant(self.variables[f"params/{path}/bias"], name=f"params/{path}/bias")
        padding = [0 if size == 7 else size // 2] * 4
        return self.add("Conv", x, weights, bias, strides=[stride] * 2, pads=padding)

    def pre(self, x: str, path: str, stride: int = 1) -> str:
        """`Pre` of a convolution."""
        return self.conv(self._activated(x, path), f"{path}/conv", stride)

    def pre_transposed(self, x: str, path: str, stride: int = 2) -> str:
        """`Pre` of a transposed convolution; ONNX, as PyTorch, flips what it slides over the output."""
        kernel = np.asarray(self.variables[f"params/{path}/conv/kernel"])
        weights = self.constant(kernel[::-1, ::-1].transpose(2, 3, 0, 1), name=f"params/{path}/conv/kernel")
        padding = [1 if kernel.shape[0] == 4 else 0] * 4
        return self.add("ConvTranspose", self._activated(x, path), weights, strides=[stride] * 2, pads=padding)

    def _activated(self, x: str, path: str) -> str:
        return self.add("Relu", self.batch_norm(x, f"{path}/norm"))

    def residual(self, h: str, path: str) -> str:
        """`ResidualBlock`."""
        return self.add("Add", h, self.pre(self.pre(h, f"{path}/main1"), f"{path}/main2"))

    def down(self, h: str, path: str) -> str:
        """`DownBlock`."""
        main = self.pre(self.pre(h, f"{path}/main1", 2), f"{path}/main2")
        return self.add("Add", self.pre(h, f"{path}/shortcut", 2), main)

    def up(self, h: str, path: str) -> str:
        """`UpBlock`."""
        main = self.pre(self.pre_transposed(h, f"{path}/main1"), f"{path}/main2")
        return self.add("Add", self.pre_transposed(h, f"{path}/shortcut"), main)

    def enlarge(self, x: str, factor: int) -> str:
        """`enlarge`."""
        if factor == 1:
            return x
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.add("Resize", x, "", self.constant([1, 1, factor, factor]), **how)


def onnx_model(variables: Mapping[str, Any], size: int, region: Region) -> onnx.ModelProto:
    """The graph: `images`, uint8 (b, size, size, 3) → `metric` and `probability`, float32 (b, size, size) in [0, 1],
    for any b. It computes in float32. The network has the scale maps or not; its metric map measures from `border`
    or `border_background`.

    Raises:
        ValueError: it is too large for a file of this kind, or the region is another one.
    """
    if region not in (border, border_background):
        raise ValueError(f"the metric map from {region!r} has no graph here, only that from the border")
    graph = Graph(variables)
    images = graph.add("Cast", graph.add("Transpose", "images", perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    features, logits = _outputs(graph, images)
    background, salient = (graph.add("Gather", logits, graph.constant(k, np.int64), axis=1) for k in (0, 1))
    probability = graph.add("Sigmoid", graph.add("Sub", salient, background), name="probability")
    band = graph.constant(np.asarray(border_band(size, size))[None])
    _metric_map(graph, features, band if region is border else _border_background(graph, probability, band))

    given = helper.make_tensor_value_info("images", TensorProto.UINT8, ["b", size, size, 3])
    maps = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", size, size]) for name in ("metric", "probability")
    ]
    weights = list(graph.constants.values())
    if sum(len(each.raw_data) for each in weights) > LARGEST:
        raise ValueError("the network has more than the 2 GB of weights that an ONNX file takes")
    whole = helper.make_graph(graph.nodes, "MEnet", [given], maps, weights)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(whole, opset_imports=opset, ir_version=IR_VERSION, producer_name="menet_jax")
    onnx.checker.check_model(model, full_check=True)
    return model


def _outputs(graph: Graph, images: str) -> tuple[str, str]:
    """`MENet`: features (b, 16, h, w) and logits (b, 2, h, w)."""
    h = graph.add("Relu", graph.batch_norm(graph.conv(images, "stem_conv"), "stem_norm"))
    encoder = [graph.residual(graph.residual(h, "encoder0_residual1"), "encoder0_residual2")]
    for k in range(1, DEPTH + 1):
        encoder.append(graph.residual(graph.down(encoder[-1], f"encoder{k}_down"), f"encoder{k}_residual"))
    h = graph.pre_transposed(graph.pre(encoder[-1], "bottleneck_down"), "bottleneck_up", stride=1)
    read = {"image": (images, 0)} | {f"encoder{k}": (level, k) for k, level in enumerate(encoder)}
    bottleneck = {"bottleneck": (h, DEPTH)}
    decoder = {}
    for k in reversed(range(DEPTH)):
        joined = graph.add("Concat", h, encoder[k + 1], axis=1)
        h = graph.residual(graph.up(joined, f"decoder{k}_up"), f"decoder{k}_residual")
        decoder[f"decoder{k}"] = h, k
    if "params/scale_image/conv/kernel" in graph.variables:
        read |= dict(reversed(decoder.items())) | bottleneck
        maps = [graph.enlarge(graph.pre(x, f"scale_{name}"), 2**level) for name, (x, level) in read.items()]
        h = graph.add("Concat", *maps, axis=1)
    features, logits = (graph.batch_norm(graph.conv(h, f"{n}_conv"), f"{n}_norm") for n in ("features", "logits"))
    return graph.add("Tanh", features), logits


def _border_background(graph: Graph, probability: str, band: str) -> str:
    """`border_background`, as ones and zeros, (b, h, w)."""
    below = graph.add("Less", probability, graph.constant(0.5))
    background = graph.add("Cast", below, to=TensorProto.FLOAT)
    within = graph.add("Mul", background, band)
    anywhere = graph.add("Where", _any(graph, background), background, band)
    return graph.add("Where", _any(graph, within), within, anywhere)


def _any(graph: Graph, mask: str) -> str:
    return graph.add("Greater", _over_pixels(graph, "ReduceMax", mask), graph.constant(0))


def _over_pixels(graph: Graph, operator: str, x: str) -> str:
    """A reduction over the last two axes, which stay, of length 1."""
    return graph.add(operator, x, graph.constant([-2, -1], np.int64), keepdims=1)


def _metric_map(graph: Graph, features: str, region: str) -> None:
    """`metric_map`, as the output `metric`."""
    zero, one, channels = graph.constant(0), graph.constant(1), graph.constant([1], np.int64)

    def divided(x: str, by: str) -> str:
        return graph.add("Div", x, graph.add("Where", graph.add("Greater", by, zero), by, one))

    scaled = divided(features, graph.add("ReduceMax", graph.add("Abs", features), channels))
    unit = divided(scaled, graph.add("ReduceL2", scaled, channels))
    mask = graph.add("Unsqueeze", region, channels)
    total = _over_pixels(graph, "ReduceSum", graph.add("Mul", unit, mask))
    expected = divided(total, _over_pixels(graph, "ReduceSum", mask))
    distance = graph.add("ReduceSumSquare", graph.add("Sub", unit, expected), channels, keepdims=0)
    low, high = (_over_pixels(graph, operator, distance) for operator in ("ReduceMin", "ReduceMax"))
    above = graph.add("Sub", distance, low)
    # Of a constant map all are zero, whatever divides them.
    spread = graph.add("Sub", high, low)
    share = graph.add("Div", above, graph.add("Where", graph.add("Greater", spread, zero), spread, one))
    graph.add("Clip", share, zero, one, name="metric")  # not every runtime's quotients are rounded correctly
