"""Tests: tables on disk: what is written is read, equal rows give equal bytes, foreign files do not pass."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from table_strategies import KINDS, any_table, tables

from orveil.pipeline.columns import Table
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.tables import arrow_schema, read_table, read_tables, write_table
from orveil.pipeline.types import Detections, MediaIndex, Poses, Tracks


def one_box() -> Detections:
    return Detections(
        session=["s"], camera=["c"], index=[1], pts=[2], det_id=[3], xyxy=[[1, 2, 3, 4]], score=[0.5],
        label=[0],
    )  # fmt: skip


def assert_same(one: Table, two: Table) -> None:
    assert type(one) is type(two)
    for name, array in one.columns().items():
        other = two.columns()[name]
        np.testing.assert_array_equal(array, other)
        assert array.dtype.kind == other.dtype.kind and array.shape == other.shape
        assert not other.flags.writeable
    assert getattr(one, "meta", None) == getattr(two, "meta", None)


@settings(deadline=None)
@given(any_table())
def test_what_is_written_is_read_and_written_the_same_again(table: Table) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        first = write_table(table, Path(one))
        read = read_table(type(table), Path(one))
        assert_same(table, read)
        assert first.read_bytes() == write_table(read, Path(two)).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_empty_tables_are_written_and_read(kind: type[Table], tmp_path: Path) -> None:
    write_table(kind.empty(), tmp_path)
    assert_same(read_table(kind, tmp_path), kind.empty())


@settings(deadline=None)
@given(tables(Detections, min_rows=1), tables(Detections))
def test_shards_are_joined_in_order(one: Detections, two: Detections) -> None:
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        write_table(one, Path(a))
        write_table(two, Path(b))
        joined = read_tables(Detections, [Path(b), Path(a)])
    assert_same(joined, Detections.concat([two, one]))
    assert_same(read_tables(Detections, []), Detections.empty())


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_tells_version_units_and_box_convention(kind: type[Table], tmp_path: Path) -> None:
    path = write_table(kind.empty(), tmp_path)
    schema = pq.read_schema(path)
    assert schema.metadata[b"table"].decode() == kind.__name__
    assert schema.metadata[b"version"] == str(kind.VERSION).encode()
    assert b"x1 and y1 exclusive" in schema.metadata[b"boxes"]
    for name, column in kind.COLUMNS.items():
        field = schema.field(name)
        assert not field.nullable
        assert (field.metadata or {}).get(b"unit", b"").decode() == column.unit
        assert pa.types.is_fixed_size_list(field.type) == bool(column.shape)
    assert schema.names == list(kind.COLUMNS) == arrow_schema(kind).names


def test_other_readers_see_boxes_as_lists_of_four(tmp_path: Path) -> None:
    table = one_box()
    rows = pq.read_table(write_table(table, tmp_path)).to_pylist()
    assert rows[0]["xyxy"] == [1, 2, 3, 4] and rows[0]["session"] == "s"


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_table(Tracks.empty(), tmp_path)
    monkeypatch.setattr(Tracks, "VERSION", 2)
    with pytest.raises(OrveilError, match="Tracks version 1, expected Tracks version 2") as caught:
        read_table(Tracks, tmp_path)
    assert caught.value.where == str(path) and "run the pipeline again" in caught.value.remedy


def test_another_kind_is_refused(tmp_path: Path) -> None:
    write_table(Poses.empty(), tmp_path).rename(tmp_path / MediaIndex.FILE)
    with pytest.raises(OrveilError, match="holds table Poses version 1, expected MediaIndex"):
        read_table(MediaIndex, tmp_path)


def test_a_parquet_file_of_someone_else_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / Tracks.FILE)
    with pytest.raises(OrveilError, match="table unknown version unknown"):
        read_table(Tracks, tmp_path)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = write_table(Detections.empty(), tmp_path)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "text": b"no parquet"}[damage])
    with pytest.raises(OrveilError, match=r"cannot read the table detections\.parquet") as caught:
        read_table(Detections, tmp_path)
    assert caught.value.where == str(path) and caught.value.remedy


def test_rules_are_checked_on_reading_too(tmp_path: Path) -> None:
    table = one_box()
    path = write_table(table, tmp_path)
    stored = pq.read_table(path)
    column = stored.schema.get_field_index("score")
    field = stored.schema.field(column)
    pq.write_table(stored.set_column(column, field, pa.array([7.0], pa.float32())), path)
    with pytest.raises(OrveilError, match=r"score leaves \[0, 1\]"):
        read_table(Detections, tmp_path)
