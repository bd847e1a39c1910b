"""Tests: hypothesis strategies that draw valid tables of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from orveil.pipeline import types
from orveil.pipeline.columns import Column, Table

KINDS: tuple[type[Table], ...] = (
    types.MediaFiles, types.MediaIndex, types.Detections, types.Tracks, types.Associations,
    types.PseudoLabels, types.FrameLabels, types.Poses,
)  # fmt: skip
UNIT = {"score", "probability", "weight", "head_score", "face_score"}
BOXES = {"xyxy", "head_xyxy", "face_xyxy"}
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


def _values(name: str, column: Column, rows: int) -> st.SearchStrategy[Any]:
    shape = (rows, *column.shape)
    if column.dtype == "str":
        return st.lists(TEXT, min_size=rows, max_size=rows)
    if column.dtype == "bool":
        return hnp.arrays(np.bool_, shape)
    if name == "state":
        return hnp.arrays(np.int64, shape, elements=st.sampled_from([types.POSITIVE, types.IGNORE]))
    if column.dtype == "int64":
        return hnp.arrays(np.int64, shape, elements=st.integers(0, 2**62))
    width = 32 if column.dtype == "float32" else 64
    low, high = (0, 1) if name in UNIT else (-(2.0**20), 2.0**20)
    return hnp.arrays(column.dtype, shape, elements=st.floats(low, high, width=width))


@st.composite
def tables(draw: st.DrawFn, kind: type[Table], min_rows: int = 0) -> Table:
    """A valid table of `kind` with up to six rows."""
    rows = draw(st.integers(min_rows, 6))
    columns = {name: draw(_values(name, column, rows)) for name, column in kind.COLUMNS.items()}
    for name in BOXES & columns.keys():
        boxes = columns[name]
        columns[name] = np.concatenate(
            [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1
        )
    if "interpolated" in columns:
        columns["det_id"] = np.where(columns["interpolated"], -1, columns["det_id"])
    meta = draw(st.dictionaries(TEXT, TEXT, max_size=3))
    return kind(**columns, **kind._meta_argument(meta))


@st.composite
def any_table(draw: st.DrawFn) -> Table:
    """A valid table of any kind."""
    return draw(tables(draw(st.sampled_from(KINDS))))
