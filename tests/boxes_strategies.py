"""Hypothesis strategies: headers, frames and whole files of boxes, all of them valid."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from orveil.stages.redaction.boxes_file import BoxesFile, BoxesWriter
from orveil.stages.redaction.boxes_schema import Frame, Header
from orveil.stages.redaction.temporal import LABELS, SOURCES, Origin

WIDTH, HEIGHT = 320, 240
scores = st.one_of(st.just(math.nan), st.integers(0, 100000).map(lambda n: n / 100000))


def header(frames: int, width: int = WIDTH, height: int = HEIGHT, sha256: str = "a" * 64) -> Header:
    return Header(sha256, frames, width, height, Fraction(1, 90000), {"tool": "test"})


@st.composite
def boxes(draw: st.DrawFn) -> list[float]:
    x0, y0 = draw(st.floats(-30, WIDTH - 1, width=32)), draw(st.floats(-30, HEIGHT - 1, width=32))
    wide, high = draw(st.floats(0.5, 200, width=32)), draw(st.floats(0.5, 200, width=32))
    x1, y1 = max(x0 + wide, 0.25), max(y0 + high, 0.25)
    return np.float32([x0, y0, x1, y1]).tolist()


@st.composite
def frames(draw: st.DrawFn, max_frames: int = 12, sources: tuple[str, ...] = SOURCES) -> list[Frame]:
    count = draw(st.integers(1, max_frames))
    pts, made = draw(st.integers(-500, 500)), []
    label_of = [draw(st.sampled_from(LABELS)) for _ in range(4)]
    for index in range(count):
        tracks = draw(st.lists(st.integers(-1, 3), max_size=5, unique_by=lambda t: t if t >= 0 else object()))
        origins = tuple(
            Origin(
                label_of[t] if t >= 0 else draw(st.sampled_from(LABELS)),
                draw(st.sampled_from(sources)), t, draw(scores),
            )
            for t in tracks
        )  # fmt: skip
        xyxy = np.array([draw(boxes()) for _ in tracks], np.float32).reshape(-1, 4)
        whole = draw(st.sampled_from(["", "", "", "damaged"]))
        made.append(Frame(index, pts, xyxy, origins, whole))
        pts += draw(st.integers(1, 5000))
    return made


def write(path: Path, content: list[Frame], **keys: object) -> BoxesFile:
    with BoxesWriter(path, header(0, **keys)) as writer:  # type: ignore[arg-type]
        for frame in content:
            writer.write(frame)
    return BoxesFile(path)


def same(a: Frame, b: Frame) -> bool:
    """Equal frames; NaN scores are equal to each other."""
    origins = [
        (one[:3] == other[:3] and (one.score == other.score or one.score != one.score != other.score))
        for one, other in zip(a.origins, b.origins, strict=True)
    ]
    keys = (a.index, a.pts, a.whole) == (b.index, b.pts, b.whole)
    return keys and all(origins) and np.array_equal(a.xyxy, b.xyxy)
