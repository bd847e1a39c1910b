"""sim, masks as text: COCO's compressed run-length encoding, without the compiled library.

Runs are counted down the columns (column-major), starting with zeros; from the fourth run on the difference
to the run two before is stored; each number becomes characters of five bits and a continuation bit, plus 48.
This is the format of COCO's `maskApi` (Lin et al., 2014), so pycocotools reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """(height, width) bool -> {"size": [height, width], "counts": text}.

    Raises:
        ValueError: the mask is not two-dimensional.

    """
    if mask.ndim != 2:
        raise ValueError(f"a mask has two dimensions, not {mask.ndim}")
    height, width = mask.shape
    return {"size": [height, width], "counts": _to_text(_runs(mask))}


def _runs(mask: NDArray[np.bool_]) -> list[int]:
    flat = np.asarray(mask, bool).ravel(order="F")
    changes = np.nonzero(np.diff(flat))[0] + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    runs: list[int] = np.diff(edges).tolist()
    if flat.size and flat[0]:
        runs.insert(0, 0)
    return runs


def _to_text(runs: list[int]) -> str:
    out: list[str] = []
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            out.append(chr((bits | 0x20 if more else bits) + 48))
    return "".join(out)


def decode_mask(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The (height, width) bool mask of a compressed `rle`.

    Raises:
        ValueError: the runs do not fill the stated size.

    """
    height, width = rle["size"]
    runs = _from_text(str(rle["counts"]))
    if sum(runs) != height * width:
        raise ValueError(f"runs cover {sum(runs)} of {height * width} pixels")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape((height, width), order="F")


def _from_text(text: str) -> list[int]:
    runs: list[int] = []
    value = shift = 0
    for char in text:
        bits = ord(char) - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return runs
