"""Export: a detector as one ONNX graph, from uint8 pictures to boxes, suppression included.

PyTorch exports pictures -> boxes and scores of every cell; ONNX's own NonMaxSuppression is put behind it.
The contract of inputs and outputs stands in `orveil.stages.runtime`.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

__all__ = ["OPSET", "CellGraph", "Suppression", "export_onnx", "suppressed"]

OPSET = 17
EXAMPLE = (2, 96, 160)


class CellGraph(nn.Module):
    """Pictures to the boxes and scores of every cell.

    Args:
        model: a detector with its weights.
        config: of kind "detector": normalisation, classes and their channels.
    """

    mean: Tensor
    std: Tensor
    channels: Tensor

    def __init__(self, model: nn.Module, config: Any) -> None:
        super().__init__()
        self.model = model
        about = config.model["data_preprocessor"]
        self.swap = bool(about.get("bgr_to_rgb", False))
        channels = list(config.get("channels", range(len(config.classes))))
        self.register_buffer("mean", torch.tensor(about["mean"]).view(1, 3, 1, 1).float())
        self.register_buffer("std", torch.tensor(about["std"]).view(1, 3, 1, 1).float())
        self.register_buffer("channels", torch.tensor(channels, dtype=torch.int64))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network.

        Args:
            images: (B, H, W, 3) uint8 BGR, H and W multiples of 32.

        Returns:
            boxes (B, P, 4) xyxy px, cut at the picture's border, and scores (B, C, P) of the classes, 0
            where a box is empty.
        """
        from orveil.stages.mm import dense_predictions  # OpenMMLab loads slowly

        pictures = images.permute(0, 3, 1, 2).float()
        if self.swap:
            pictures = pictures.flip(1)
        scores, boxes = dense_predictions(self.model, (pictures - self.mean) / self.std)
        # As a tensor, so that the border is a part of the graph and not that of the example.
        shape = torch._shape_as_tensor(images)
        limit = torch.stack([shape[2], shape[1], shape[2], shape[1]]).to(boxes.dtype)
        boxes = torch.minimum(boxes.clamp(min=0), limit)
        solid = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
        chosen = torch.index_select(scores, 2, self.channels) * solid[..., None].to(scores.dtype)
        return boxes, chosen.transpose(1, 2)


class Suppression:
    """Settings of the suppression in the graph.

    Args:
        score_floor: boxes of lower or equal score never leave the graph.
        nms_iou: of two boxes of one class that overlap more, the weaker goes.
        max_per_class: boxes kept for each class of a picture.
    """

    def __init__(self, score_floor: float, nms_iou: float, max_per_class: int) -> None:
        self.score_floor, self.nms_iou, self.max_per_class = score_floor, nms_iou, max_per_class


def export_onnx(graph: CellGraph, suppression: Suppression, about: dict[str, str]) -> bytes:
    """The model file.

    Args:
        graph: with trained weights, in eval mode on the CPU.
        suppression: what stands behind it.
        about: key and value texts stored in the model.

    Returns:
        ONNX bytes; the same weights and settings always give the same bytes.
    """
    graph = graph.eval()
    buffer = io.BytesIO()
    example = torch.zeros((*EXAMPLE, 3), dtype=torch.uint8)
    dynamic = {0: "batch", 1: "height", 2: "width"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns of every shape that it records
        torch.onnx.export(
            graph,
            (example,),
            buffer,  # type: ignore[arg-type]  # the exporter of this opset takes one; the newer does not
            input_names=["images"],
            output_names=["cell_boxes", "cell_scores"],
            dynamic_axes={"images": dynamic, "cell_boxes": {0: "batch"}, "cell_scores": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    _suppress(model.graph, suppression)
    _tidy(model, about)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _suppress(graph: Any, suppression: Suppression) -> None:
    """Put NonMaxSuppression behind the cells, and gather what it selects."""
    constants = {
        "nms_most": ([suppression.max_per_class], "int64"),
        "nms_iou": ([suppression.nms_iou], "float32"),
        "nms_floor": ([suppression.score_floor], "float32"),
        "column_batch": (0, "int64"),
        "column_class": (1, "int64"),
        "columns_batch_cell": ([0, 2], "int64"),
    }
    for name, (value, dtype) in constants.items():
        tensor = torch.tensor(value, dtype=getattr(torch, dtype)).numpy()
        graph.initializer.append(numpy_helper.from_array(tensor, name))
    chosen = ["cell_boxes", "cell_scores", "nms_most", "nms_iou", "nms_floor"]
    graph.node.extend(
        [
            helper.make_node("NonMaxSuppression", chosen, ["selected"], name="suppress"),
            helper.make_node("Gather", ["selected", "columns_batch_cell"], ["cell"], axis=1),
            helper.make_node("GatherND", ["cell_boxes", "cell"], ["boxes"]),
            helper.make_node("GatherND", ["cell_scores", "selected"], ["scores"]),
            helper.make_node("Gather", ["selected", "column_class"], ["labels"], axis=1),
            helper.make_node("Gather", ["selected", "column_batch"], ["batch_index"], axis=1),
        ]
    )
    del graph.output[:]
    outputs: tuple[tuple[str, int, list[str | int | None]], ...] = (
        ("boxes", TensorProto.FLOAT, ["found", 4]),
        ("scores", TensorProto.FLOAT, ["found"]),
        ("labels", TensorProto.INT64, ["found"]),
        ("batch_index", TensorProto.INT64, ["found"]),
    )
    for name, kind, shape in outputs:
        graph.output.append(helper.make_tensor_value_info(name, kind, shape))


def _tidy(model: Any, about: dict[str, str]) -> None:
    """Leave out what depends on the machine that exports, and say what the model is."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del model.graph.value_info[:]
    model.graph.name = "orveil-detector"
    model.graph.doc_string = model.doc_string = ""
    del model.metadata_props[:]
    for key in sorted(about):
        model.metadata_props.add(key=key, value=about[key])


@torch.no_grad()
def suppressed(
    graph: CellGraph, images: Tensor, suppression: Suppression
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """What the exported model should give, by PyTorch.

    Args:
        graph: as exported; images: (B, H, W, 3) uint8.
        suppression: as exported.

    Returns:
        For each picture boxes (N, 4), scores (N,), labels (N,), ordered by label and falling score.
    """
    boxes, scores = graph(images)
    results = []
    for box, score in zip(boxes, scores, strict=True):
        parts = [_one_class(box, row, label, suppression) for label, row in enumerate(score)]
        results.append(tuple(torch.cat(column) for column in zip(*parts, strict=True)))
    return results  # type: ignore[return-value]


def _one_class(boxes: Tensor, scores: Tensor, label: int, how: Suppression) -> Sequence[Tensor]:
    from orveil.stages.mm_compat import greedy_nms  # OpenMMLab loads slowly

    rows = (scores > how.score_floor).nonzero()[:, 0]
    keep = rows[greedy_nms(boxes[rows], scores[rows], how.nms_iou)[: how.max_per_class]]
    return boxes[keep], scores[keep], torch.full((len(keep),), label, dtype=torch.int64)
