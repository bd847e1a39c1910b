"""Tests: what a table accepts, and how rows are taken out and joined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_strategies import KINDS, any_table

from orveil.pipeline.columns import Table
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.types import Detections, MediaIndex, PseudoLabels, Tracks


def detections(**changes: Any) -> Detections:
    columns: dict[str, Any] = {
        "session": ["s", "s", "t"], "camera": ["a", "b", "a"], "index": [0, 1, 2], "pts": [0, 10, 20],
        "det_id": [0, 1, 2], "xyxy": [[0, 0, 5, 5], [1, 2, 1, 2], [-3, -4, 50.5, 60]],
        "score": [0, 0.5, 1], "label": [0, 1, 2],
    }  # fmt: skip
    return Detections(**{**columns, **changes})


def test_columns_get_their_types_and_are_read_only() -> None:
    table = detections()
    assert (table.xyxy.dtype, table.xyxy.shape) == (np.float32, (3, 4))
    assert (table.index.dtype, table.score.dtype, table.session.dtype.kind) == (np.int64, np.float32, "U")
    with pytest.raises(ValueError, match="read-only"):
        table.score[0] = 1
    with pytest.raises(AttributeError):
        table.score = np.zeros(3)  # type: ignore[misc]


def test_a_table_keeps_a_copy() -> None:
    scores = np.array([0.1, 0.2, 0.3], np.float32)
    table = detections(score=scores)
    scores[0] = 0.9
    assert table.score[0] == np.float32(0.1)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"xyxy": [[5, 0, 0, 5]] * 3}, "x1 < x0"),
        ({"xyxy": [[0, 5, 5, 0]] * 3}, "y1 < y0"),
        ({"xyxy": [[0, 0, np.nan, 5]] * 3}, "not finite"),
        ({"xyxy": [[0, 0, np.inf, 5]] * 3}, "not finite"),
        ({"score": [0, 0.5, 1.01]}, r"leaves \[0, 1\]"),
        ({"score": [0, np.nan, 1]}, r"leaves \[0, 1\]"),
        ({"xyxy": [[0, 0, 5]] * 3}, "column xyxy has shape"),
        ({"score": [0.5, 0.5]}, "column score has shape"),
        ({"index": [[0], [1], [2]]}, "column index has shape"),
    ],
)
def test_bad_columns_are_refused_by_name(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(OrveilError, match=what) as caught:
        detections(**changes)
    assert caught.value.where == "table Detections"


def test_rules_of_other_tables() -> None:
    frame = {"session": ["s"], "camera": ["a"], "index": [0], "pts": [0]}
    box = {"xyxy": [[0, 0, 1, 1]], "score": [0.5]}
    for det_id, interpolated in ((-1, False), (3, True)):
        with pytest.raises(OrveilError, match="exactly where a box is interpolated"):
            Tracks(**frame, **box, track_id=[0], det_id=[det_id], interpolated=[interpolated])
    with pytest.raises(OrveilError, match="neither positive nor ignore"):
        PseudoLabels(
            **frame, **box, label_id=[0], track_id=[-1], person_id=[-1], label=[0], weight=[1], state=[2],
            source=["detected"], round=[0],
        )  # fmt: skip
    with pytest.raises(OrveilError, match="time_s holds a value that is not finite"):
        MediaIndex(**frame, time_s=[np.nan])


@pytest.mark.parametrize("kind", KINDS)
def test_empty_tables_work_everywhere(kind: type[Table]) -> None:
    empty = kind.empty()
    assert len(empty) == 0
    for name, column in kind.COLUMNS.items():
        assert getattr(empty, name).shape == (0, *column.shape)
    assert len(kind.concat([])) == len(kind.concat([empty, empty])) == 0
    assert len(empty.select([])) == len(empty.select(slice(None))) == 0
    assert len(empty.view("s", "c")) == 0 and empty.view_keys() == []


def test_view_takes_one_camera_of_one_session() -> None:
    table = detections(meta={"model": "m"})
    assert table.view_keys() == [("s", "a"), ("s", "b"), ("t", "a")]
    assert table.view("s", "a").det_id.tolist() == [0] and table.view("t", "a").det_id.tolist() == [2]
    assert len(table.view("t", "b")) == 0 and table.view("s", "a").meta == {"model": "m"}


@settings(deadline=None)
@given(any_table(), st.data())
def test_selecting_and_joining_keep_rows_and_metadata(table: Table, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(table)))
    mask = np.arange(len(table)) < cut
    for parts in (
        (table.select(mask), table.select(~mask)),
        (table.select(slice(cut)), table.select(slice(cut, None))),
    ):
        joined = type(table).concat(parts)
        for name, array in table.columns().items():
            np.testing.assert_array_equal(joined.columns()[name], array)
        assert getattr(joined, "meta", None) == getattr(table, "meta", None)
