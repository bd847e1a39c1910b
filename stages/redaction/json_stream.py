"""Stages, redaction: one large JSON object read piece by piece. Standard library only.

Python's `json` reads a document as a whole. Here the members of the top-level object come one after the
other, and of some named arrays the elements do too, so that memory is bounded by the largest piece and not
by the length of the recording. Duplicate keys, NaN and infinities are refused.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

__all__ = ["MAX_PIECE", "JsonError", "JsonStream"]

MAX_PIECE = 4 << 20
"""Characters that one member (or one element of a streamed array) may take."""
CHUNK = 1 << 16


class JsonError(ValueError):
    """The document is not JSON, or not of a form that is read here."""


def _no_constant(name: str) -> NoReturn:
    raise JsonError(f"{name} is no JSON number")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        twice = next(key for key, _ in pairs if sum(other == key for other, _ in pairs) > 1)
        raise JsonError(f"the key {twice!r} is there twice")
    return members


class JsonStream:
    """Reads one JSON object from a binary file, from its current position to its end.

    Args:
        file: opened for reading in binary mode.
        arrays: the members whose elements are handed out one by one.
    """

    def __init__(self, file: BinaryIO, *arrays: str) -> None:
        self._file, self._arrays = file, arrays
        self._text, self._at, self._ended = "", 0, False
        self._decoder = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Hex digest of the bytes read; of the whole file once `members` has ended."""
        return self._digest.hexdigest()

    def members(self) -> Iterator[tuple[str, Any]]:
        """(key, value) of each member; of a streamed array (key, element), once per element.

        Raises:
            JsonError: not JSON, not UTF-8, a duplicate key, a piece that is too large.
        """
        self._expect("{")
        seen: set[str] = set()
        if self._peek() != "}":
            while True:
                key = self._value()
                if not isinstance(key, str):
                    raise JsonError("a key is not a string")
                if key in seen:
                    raise JsonError(f"the key {key!r} is there twice")
                seen.add(key)
                self._expect(":")
                for value in self._elements() if key in self._arrays else [self._value()]:
                    yield key, value
                if self._peek() != ",":
                    break
                self._at += 1
        self._expect("}")
        if self._peek():
            raise JsonError("something follows the end of the object")

    def _elements(self) -> Iterator[Any]:
        self._expect("[")
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            if self._peek() != ",":
                break
            self._at += 1
        self._expect("]")

    def _more(self, count: int = CHUNK) -> bool:
        """Read on, forgetting what was used; False at the end of the file."""
        if self._ended:
            return False
        data = self._file.read(count)
        self._digest.update(data)
        self._ended = not data
        try:
            self._text = self._text[self._at :] + self._utf8.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise JsonError(f"the file is not UTF-8: {error.reason}") from error
        self._at = 0
        return not self._ended

    def _peek(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def _expect(self, character: str) -> None:
        found = self._peek()
        if found != character:
            raise JsonError(f"expected {character!r}, found {found!r}" if found else "the file is cut off")
        self._at += 1

    def _value(self) -> Any:
        if not self._peek():
            raise JsonError("the file is cut off")
        while True:
            problem = ""
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                # A number that ends where the text ends may go on in the next chunk.
                if end < len(self._text) or self._ended:
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                problem = error.msg
            except RecursionError as error:
                raise JsonError("nested too deep") from error
            except ValueError as error:  # JsonError, or a number with thousands of digits
                raise JsonError(str(error)) from error
            if len(self._text) - self._at > MAX_PIECE:
                raise JsonError(problem or "a part of the file is too large")
            if not self._more(max(CHUNK, len(self._text) - self._at)) and problem:
                raise JsonError(problem)
