"""Export: a detector's graph in 8-bit integers for ONNX Runtime on CPU (static QDQ), calibrated on pictures.

What is quantised was chosen by measuring every operator of ONNX Runtime 1.31 on a CPU with VNNI:

- Dense convolutions are three times as fast in integers. Those that sum over fewer than `THIN` channels are
  slower than in float, the first ones and all depthwise ones: they stay in float, as does the normalisation.
- The last convolutions give distances and scores. They cost next to nothing and stay exact.
- A SiLU by two table look-ups (QLinearSigmoid, QLinearMul) takes longer than its float kernel between two
  conversions: it becomes one `com.microsoft.QuickGelu`.
- Activations are unsigned with a zero point, weights signed with a scale for each channel: the pair for which
  x86 has instructions. ONNX Runtime does not join signed activations into integer operators there.

Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference, 2018.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["THIN", "quantise"]

THIN = 16
ACTIVATIONS = ("QuickGelu", "Relu")
PASSES = ("MaxPool", "Resize")
"""Operators whose output has the scale of their input."""
JOINS = ("Concat", "Add", "Mul", "GlobalAveragePool", *PASSES)
Range = tuple[float, float]


def quantise(model: bytes, batches: Sequence[NDArray[np.uint8]], threads: int = 1) -> bytes:
    """The same detector with integer convolutions.

    Args:
        model: ONNX bytes of `orveil.stages.onnx_graph.export_onnx`.
        batches: calibration pictures as the model takes them, uint8 (B, H, W, 3); the range of each tensor is
            its smallest and largest value on them.
        threads: of ONNX Runtime while it calibrates.

    Returns:
        ONNX bytes; the same model and pictures always give the same bytes.

    Raises:
        ValueError: there is no picture to calibrate by, or nothing that can be quantised.
    """
    if not batches:
        raise ValueError("no picture to calibrate by")
    proto = onnx.load_from_string(model)
    _name_directly(proto)
    _join_silu(proto)
    graph = _Graph(proto.graph)
    chosen = graph.chosen()
    if not chosen:
        raise ValueError("no convolution of the model can be quantised")
    tensors = graph.tensors(chosen)
    ranges = _ranges(proto, [name for name in tensors if tensors[name] == name], batches, threads)
    _Writer(graph, chosen, {name: ranges[tensors[name]] for name in tensors}).write(proto.graph)
    return bytes(proto.SerializeToString(deterministic=True))


def _name_directly(proto: Any) -> None:
    """Take Identity nodes out: the exporter shares equal weights through them."""
    other = {node.output[0]: node.input[0] for node in proto.graph.node if node.op_type == "Identity"}
    kept = [node for node in proto.graph.node if node.output[0] not in other]
    for node in kept:
        for place, name in enumerate(node.input):
            while name in other:
                name = node.input[place] = other[name]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)


def _join_silu(proto: Any) -> None:
    """Write x * sigmoid(x) as one operator."""
    sigmoid = {node.output[0]: node for node in proto.graph.node if node.op_type == "Sigmoid"}
    uses: dict[str, int] = {}
    for node in proto.graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    kept, gone = [], set()
    for node in proto.graph.node:
        gate = next((name for name in node.input if name in sigmoid and uses[name] == 1), "")
        other = [name for name in node.input if name != gate]
        if node.op_type == "Mul" and gate and list(sigmoid[gate].input) == other:
            gone.add(gate)
            node = helper.make_node(
                "QuickGelu", other, node.output, node.name, domain="com.microsoft", alpha=1.0
            )
        kept.append(node)
    if gone:
        del proto.graph.node[:]
        proto.graph.node.extend(node for node in kept if node.output[0] not in gone)
        proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))


class _Graph:
    """A graph's nodes in order, by the tensor that each makes and those that each takes."""

    def __init__(self, graph: Any) -> None:
        self.nodes = list(graph.node)
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.takers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                self.takers.setdefault(name, []).append(node)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def chosen(self) -> dict[str, Any]:
        """The nodes to quantise, by their output: in the graph's order."""
        before_a_conv = self._ancestors(node for node in self.nodes if node.op_type == "Conv")
        chosen: dict[str, Any] = {}
        for node in self.nodes:
            name = node.output[0]
            if name not in before_a_conv or not node.input:
                continue
            source = chosen.get(node.input[0])
            if node.op_type == "Conv":
                fits = self._worth(node)
            elif node.op_type in ACTIVATIONS:
                fits = source is not None and source.op_type == "Conv"
            else:
                fits = node.op_type in JOINS and any(taken in chosen for taken in node.input)
            if fits:
                chosen[name] = node
        return chosen

    def _ancestors(self, nodes: Iterable[Any]) -> set[str]:
        """Tensors that one of the nodes depends on."""
        found: set[str] = set()
        waiting = [name for node in nodes for name in node.input]
        while waiting:
            name = waiting.pop()
            if name in self.maker and name not in found:
                found.add(name)
                waiting += self.maker[name].input
        return found

    def _worth(self, conv: Any) -> bool:
        """Wide enough for integer kernels, and over pixels: not behind a global average."""
        weight = self.constants.get(conv.input[1])
        maker = self.maker.get(conv.input[0])
        pooled = maker is not None and maker.op_type == "GlobalAveragePool"
        if weight is None or len(conv.input) < 3 or conv.input[2] not in self.constants or pooled:
            return False
        return int(weight.shape[1]) >= THIN

    def tensors(self, chosen: dict[str, Any]) -> dict[str, str]:
        """Tensors that become integers, each with the tensor whose range it has."""
        found: dict[str, str] = {}
        for name, node in chosen.items():
            pictures = node.input[:1] if node.op_type in ("Conv", *ACTIVATIONS, *PASSES) else node.input
            for taken in pictures:
                if taken in self.maker and self.maker[taken].op_type != "Constant":
                    found.setdefault(taken, taken)
            found[name] = found[node.input[0]] if node.op_type in PASSES else name
            if node.op_type == "Concat":
                # With the scale of the whole, its parts are copied; with their own, they are computed.
                for taken in node.input:
                    if found.get(taken) == taken and self.maker[taken].op_type not in PASSES:
                        found[taken] = name
        for node in chosen.values():
            # ReLU is the lower end of its convolution's range, and no operator of its own.
            if node.op_type == "Relu" and len(self.takers[node.input[0]]) == 1:
                found.pop(node.input[0])
            taken = any(taker.output[0] in chosen for taker in self.takers[node.output[0]])
            if node.op_type == "QuickGelu" and not taken:
                found.pop(node.output[0])
        for name in found:
            while found[found[name]] != found[name]:
                found[name] = found[found[name]]
        return found


def _ranges(
    proto: Any, names: list[str], batches: Sequence[NDArray[np.uint8]], threads: int
) -> dict[str, Range]:
    """Smallest and largest value of each tensor over all pictures; 0 always lies between them."""
    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    del probe.graph.output[:]
    for name in names:
        for suffix, kind in (("#min", "ReduceMin"), ("#max", "ReduceMax")):
            probe.graph.node.append(helper.make_node(kind, [name], [name + suffix], keepdims=0))
            probe.graph.output.append(helper.make_tensor_value_info(name + suffix, TensorProto.FLOAT, []))
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = ort.InferenceSession(probe.SerializeToString(), options, ["CPUExecutionProvider"])
    seen = np.array([session.run(None, {"images": batch}) for batch in batches], np.float64)
    low, high = seen[:, 0::2].min(axis=0), seen[:, 1::2].max(axis=0)
    return {
        name: (min(0.0, float(a)), max(0.0, float(b))) for name, a, b in zip(names, low, high, strict=True)
    }


class _Writer:
    """Writes the chosen nodes between QuantizeLinear and DequantizeLinear."""

    def __init__(self, graph: _Graph, chosen: dict[str, Any], ranges: dict[str, Range]) -> None:
        self.graph, self.chosen = graph, chosen
        self.scales = {name: max((high - low) / 255, 1e-8) for name, (low, high) in ranges.items()}
        self.zeros = {
            name: int(np.clip(np.rint(-low / self.scales[name]), 0, 255)) for name, (low, _) in ranges.items()
        }
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def write(self, graph: Any) -> None:
        """Replace the graph's nodes."""
        for node in self.graph.nodes:
            integer = node.output[0] in self.chosen
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for place, name in enumerate(node.input):
                if name in self.scales and (integer or name in self.chosen):
                    copy.input[place] = name + "#float"
            if integer and node.op_type == "Conv":
                copy.input[1], copy.input[2] = self._weights(node)
            self.nodes.append(copy)
            for name in node.output:
                if name in self.scales:
                    self._round_trip(name)
        del graph.node[:]
        graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        floats = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(floats)
        graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in self.constants.items())

    def _round_trip(self, name: str) -> None:
        scale, zero = name + "#scale", name + "#zero"
        self.constants[scale] = np.array(self.scales[name], np.float32)
        self.constants[zero] = np.array(self.zeros[name], np.uint8)
        self.nodes.append(helper.make_node("QuantizeLinear", [name, scale, zero], [name + "#int"]))
        self.nodes.append(
            helper.make_node("DequantizeLinear", [name + "#int", scale, zero], [name + "#float"])
        )

    def _weights(self, conv: Any) -> tuple[str, str]:
        """Names of the dequantised weight and bias; a bias has the scale of its products."""
        weight, bias = (self.graph.constants[name].astype(np.float64) for name in conv.input[1:3])
        step = self.scales[conv.input[0]]
        scale = np.abs(weight).reshape(len(weight), -1).max(axis=1) / 127
        # A bias has to fit into 32 bits, however small its channel's weights are.
        scale = np.maximum(scale, np.maximum(np.abs(bias) / step / 2**30, 1e-12)).astype(np.float32)
        rounded = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
        products = (scale * np.float32(step)).astype(np.float32)
        stem = conv.output[0]
        return (
            self._constant(stem + "#weight", np.clip(rounded, -127, 127).astype(np.int8), scale),
            self._constant(stem + "#bias", np.rint(bias / products).astype(np.int32), products),
        )

    def _constant(self, name: str, value: NDArray[Any], scale: NDArray[np.float32]) -> str:
        names = [f"{name}-{part}" for part in ("int", "scale", "zero")]
        self.constants.update(zip(names, (value, scale, np.zeros(len(value), value.dtype)), strict=True))
        self.nodes.append(helper.make_node("DequantizeLinear", names, [name], axis=0))
        return name
