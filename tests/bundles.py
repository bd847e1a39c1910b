"""Fixture factory: genuine ONNX detectors that obey the bundle's contract and find saturated colours.

Label person is the box around all pure green pixels, label head around all pure red and around all pure blue
ones: at most three boxes a picture, found by the graph itself.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HIGH, LOW = 150.0, 110.0


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, kind: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype=kind), name))
        return name

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name


def _colour_boxes(g: _Graph, pixels: str, channel: int) -> tuple[str, str]:
    """Boxes (B, 4) around the pixels of one pure colour, and whether there are any (B,)."""
    planes = [g.op("Gather", pixels, g.constant(c, np.int64), axis=3) for c in range(3)]
    pure = g.op("Greater", planes[channel], g.constant(HIGH, np.float32))
    for other in {0, 1, 2} - {channel}:
        pure = g.op("And", pure, g.op("Less", planes[other], g.constant(LOW, np.float32)))
    field = g.op("Cast", pure, to=TensorProto.FLOAT)
    sides = {}
    for name, axis in (("x", 1), ("y", 2)):
        line = g.op("ReduceMax", field, g.constant([axis], np.int64), keepdims=0)
        first = g.op("ArgMax", line, axis=1, keepdims=1)
        last = g.op("ArgMax", line, axis=1, keepdims=1, select_last_index=1)
        sides[name] = first, g.op("Add", last, g.constant(1, np.int64))
    corners = (sides["x"][0], sides["y"][0], sides["x"][1], sides["y"][1])
    box = g.op("Cast", g.op("Concat", *corners, axis=1), to=TensorProto.FLOAT)
    number = g.op("ReduceSum", field, g.constant([1, 2], np.int64), keepdims=0)
    return box, g.op("Greater", number, g.constant(8.0, np.float32))


def colour_model(score: float = 0.9, poison: bool = False) -> onnx.ModelProto:
    """A detector; a poisoned one gives NaN scores for pictures whose top left pixel is white."""
    g = _Graph()
    pixels = g.op("Cast", "images", to=TensorProto.FLOAT)
    boxes, present, labels, indices = [], [], [], []
    for channel, label in ((1, 0), (2, 1), (0, 1)):
        box, there = _colour_boxes(g, pixels, channel)
        boxes.append(box)
        present.append(there)
        ones = g.op("Cast", g.op("Not", g.op("Xor", there, there)), to=TensorProto.INT64)
        labels.append(g.op("Mul", ones, g.constant(label, np.int64)))
        counted = g.op("CumSum", ones, g.constant(0, np.int64))
        indices.append(g.op("Sub", counted, g.constant(1, np.int64)))
    keep = g.op("Concat", *present, axis=0)
    g.op("Compress", g.op("Concat", *boxes, axis=0), keep, output="boxes", axis=0)
    g.op("Compress", g.op("Concat", *labels, axis=0), keep, output="labels", axis=0)
    g.op("Compress", g.op("Concat", *indices, axis=0), keep, output="batch_index", axis=0)
    level = g.constant(score, np.float32)
    if poison:
        corner = g.op("Slice", pixels, g.constant([0, 0], np.int64), g.constant([1, 1], np.int64),
                      g.constant([1, 2], np.int64))  # fmt: skip
        white = g.op("Greater", g.op("ReduceMin", corner, keepdims=0), g.constant(235.0, np.float32))
        level = g.op("Where", white, g.constant(np.nan, np.float32), level)
    zeros = g.op("Mul", g.op("Cast", "labels", to=TensorProto.FLOAT), g.constant(0.0, np.float32))
    g.op("Add", zeros, level, output="scores")
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", "H", "W", 3])
    outputs = [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", 4]),
               helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N"]),
               helper.make_tensor_value_info("labels", TensorProto.INT64, ["N"]),
               helper.make_tensor_value_info("batch_index", TensorProto.INT64, ["N"])]  # fmt: skip
    graph = helper.make_graph(g.nodes, "colours", [images], outputs, g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def write_bundle(
    folder: Path, model: onnx.ModelProto | None = None, long_side: int = 192, **keys: Any
) -> Path:
    """A bundle folder around a model; `keys` replace or (None) remove entries of bundle.json."""
    folder.mkdir(parents=True, exist_ok=True)
    data = (model or colour_model()).SerializeToString()
    (folder / "detector.onnx").write_bytes(data)
    content = {
        "schema": 1, "files": {"detector.onnx": hashlib.sha256(data).hexdigest()}, "long_side": long_side,
        "labels": ["person", "head"], "thresholds": {"person": 0.5, "head": 0.5}, **keys,
    }  # fmt: skip
    kept = {key: value for key, value in content.items() if value is not None}
    (folder / "bundle.json").write_text(json.dumps(kept))
    return folder
