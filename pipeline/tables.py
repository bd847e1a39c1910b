"""Engine: typed tables on disk, as Parquet with units, box convention and version in the Arrow schema."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from orveil.pipeline.columns import Column, Table
from orveil.pipeline.errors import OrveilError

__all__ = ["arrow_schema", "read_table", "read_tables", "write_table"]

T = TypeVar("T", bound=Table)
BOXES = "xyxy, float32, pixels of the decoded picture, x1 and y1 exclusive"


def arrow_schema(kind: type[Table]) -> pa.Schema:
    """The Arrow schema of a table kind; trailing shapes are fixed-size lists of their product."""
    columns = [
        pa.field(name, _arrow_type(column), nullable=False, metadata=_about(column))
        for name, column in kind.COLUMNS.items()
    ]
    return pa.schema(columns, metadata={"table": kind.__name__, "version": str(kind.VERSION), "boxes": BOXES})


def write_table(table: Table, directory: Path) -> Path:
    """Write `table` as `directory/<FILE>`; the same rows always give the same bytes."""
    kind = type(table)
    schema = arrow_schema(kind)
    meta = {**(schema.metadata or {}), b"meta": json.dumps(_meta(table), sort_keys=True).encode()}
    arrays = [_to_arrow(array, kind.COLUMNS[name]) for name, array in table.columns().items()]
    path = directory / kind.FILE
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema.with_metadata(meta)), path, compression="zstd")
    return path


def read_table(kind: type[T], directory: Path) -> T:
    """Read one table; a table of another kind or version is a clear error."""
    path = directory / kind.FILE
    try:
        stored = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise OrveilError(
            f"cannot read the table {kind.FILE}: {error}",
            where=str(path),
            remedy="delete that artifact's folder and run the same command again",
        ) from error
    meta = stored.schema.metadata or {}
    found = meta.get(b"table", b"").decode(), meta.get(b"version", b"").decode()
    if found != (kind.__name__, str(kind.VERSION)):
        raise OrveilError(
            f"the file holds table {found[0] or 'unknown'} version {found[1] or 'unknown'}, "
            f"expected {kind.__name__} version {kind.VERSION}",
            where=str(path),
            remedy="it was written by another version of orveil: run the pipeline again",
        )
    values = {name: _from_arrow(stored.column(name), column) for name, column in kind.COLUMNS.items()}
    return kind(**values, **kind._meta_argument(json.loads(meta.get(b"meta", b"{}"))))


def read_tables(kind: type[T], directories: Iterable[Path]) -> T:
    """Read and join the tables of several shards, in the order given."""
    return kind.concat([read_table(kind, directory) for directory in directories])


def _meta(table: Table) -> dict[str, str]:
    return dict(getattr(table, "meta", {}))


def _about(column: Column) -> dict[str, str]:
    shape = "x".join(map(str, column.shape))
    return {k: v for k, v in (("unit", column.unit), ("shape", shape), ("about", column.about)) if v}


def _arrow_type(column: Column) -> pa.DataType:
    scalar = {
        "str": pa.string(),
        "bool": pa.bool_(),
        "int64": pa.int64(),
        "float32": pa.float32(),
        "float64": pa.float64(),
    }[column.dtype]
    return pa.list_(scalar, int(np.prod(column.shape))) if column.shape else scalar


def _to_arrow(array: NDArray[Any], column: Column) -> pa.Array:
    if not column.shape:
        return pa.array(array.tolist() if column.dtype == "str" else array, type=_arrow_type(column))
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), int(np.prod(column.shape)))


def _from_arrow(stored: pa.ChunkedArray, column: Column) -> NDArray[Any]:
    joined = stored.combine_chunks()
    if isinstance(joined, pa.ChunkedArray):
        joined = pa.concat_arrays(joined.chunks) if joined.num_chunks else pa.array([], stored.type)
    if not column.shape:
        return np.asarray(joined.to_pylist() if column.dtype == "str" else joined.to_numpy(False))
    return joined.flatten().to_numpy(False).reshape((-1, *column.shape))  # type: ignore[no-any-return]
