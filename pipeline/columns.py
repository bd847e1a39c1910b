"""Engine: what all typed tables have in common: columns with type, shape and unit, checks, selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.errors import OrveilError

__all__ = ["Column", "Table"]


@dataclass(frozen=True)
class Column:
    """Storage type (`bool`, `int64`, `float32`, `float64`, `str`), trailing shape, unit and meaning."""

    dtype: str
    shape: tuple[int, ...] = ()
    unit: str = ""
    about: str = ""

    def array(self, values: Any) -> NDArray[Any]:
        """Values as a read-only, contiguous array of this column's type and shape (N, *shape)."""
        kind = np.str_ if self.dtype == "str" else np.dtype(self.dtype)
        array = np.array(values, dtype=kind)
        if array.size == 0:
            array = array.reshape((0, *self.shape))
        array.setflags(write=False)
        return array


@dataclass(frozen=True, eq=False)
class Table:
    """Base of all tables: N rows, columns as declared in `COLUMNS`, and string metadata."""

    COLUMNS: ClassVar[Mapping[str, Column]] = {}
    VERSION: ClassVar[int] = 1
    FILE: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, column in self.COLUMNS.items():
            object.__setattr__(self, name, column.array(getattr(self, name)))
        rows = len(self)
        for name, column in self.COLUMNS.items():
            shape = getattr(self, name).shape
            if shape != (rows, *column.shape):
                raise self._bad(f"column {name} has shape {shape}, expected {(rows, *column.shape)}")
        self._check()

    def _check(self) -> None:
        """Rules of this table beyond types and shapes."""

    def _bad(self, what: str) -> OrveilError:
        return OrveilError(what, where=f"table {type(self).__name__}", remedy="a stage made a bad table")

    def __len__(self) -> int:
        return len(getattr(self, next(iter(self.COLUMNS))))

    @classmethod
    def empty(cls, **meta: str) -> Self:
        """A table without rows."""
        return cls(**{name: [] for name in cls.COLUMNS}, **cls._meta_argument(meta))

    @classmethod
    def _meta_argument(cls, meta: Mapping[str, str]) -> dict[str, Any]:
        return {"meta": dict(meta)} if any(f.name == "meta" for f in fields(cls)) else {}

    def columns(self) -> dict[str, NDArray[Any]]:
        """Column name -> array (N, ...)."""
        return {name: getattr(self, name) for name in self.COLUMNS}

    def select(self, rows: Any) -> Self:
        """The rows chosen by a boolean mask (N,), an index array or a slice."""
        chosen: dict[str, Any] = {name: array[rows] for name, array in self.columns().items()}
        return type(self)(**chosen, **self._meta_argument(getattr(self, "meta", {})))

    @classmethod
    def concat(cls, tables: Sequence[Self]) -> Self:
        """All rows, in the order given; metadata of the first table."""
        if not tables:
            return cls.empty()
        joined = {name: np.concatenate([getattr(table, name) for table in tables]) for name in cls.COLUMNS}
        return cls(**joined, **cls._meta_argument(getattr(tables[0], "meta", {})))

    def view(self, session: str, camera: str) -> Self:
        """The rows of one camera of one session (tables with a frame key or a camera column)."""
        return self.select((self.session == session) & (self.camera == camera))  # type: ignore[attr-defined]

    def view_keys(self) -> list[tuple[str, str]]:
        """The (session, camera) pairs present, sorted."""
        return sorted(set(zip(self.session.tolist(), self.camera.tolist(), strict=True)))  # type: ignore[attr-defined]
