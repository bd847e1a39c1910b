"""Report: small charts as inline SVG. Colours come from the page's style sheet (classes c0 .. c5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "Sketch", "bars", "histogram", "lines", "sketch"]

WIDTH = 480
TEXT = 'font-size="11" class="t"'


def _svg(height: float, body: Sequence[str], label: str, width: float = WIDTH, *, fluid: bool = False) -> str:
    """At most as wide as its units, so that letters keep their size, unless `fluid`."""
    limit = "" if fluid else f' style="max-width:{width:g}px"'
    head = f'<svg viewBox="0 0 {width:g} {height:g}"{limit} role="img" aria-label="{escape(label)}">'
    return head + "".join(body) + "</svg>"


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart: its name, its parts in drawing order, and the text at its end."""

    name: str
    parts: Sequence[float]
    text: str


def bars(rows: Sequence[Bar], names: Sequence[str], label: str, width: float = WIDTH) -> str:
    """Horizontal stacked bars, one per row; `names` are those of the parts (for tooltips)."""
    left, right, step = 120, 120, 22
    longest = max((sum(row.parts) for row in rows), default=0) or 1.0
    scale = (width - left - right) / longest
    body = []
    for i, row in enumerate(rows):
        y = i * step + 4
        body.append(f'<text x="{left - 8}" y="{y + 11}" text-anchor="end" {TEXT}>{escape(row.name)}</text>')
        x = float(left)
        for number, (part, name) in enumerate(zip(row.parts, names, strict=True)):
            length = part * scale
            if length > 0:
                body.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{max(length, 0.6):.1f}" height="14" rx="1.5" '
                    f'class="c{number}"><title>{escape(name)}: {part:g}</title></rect>'
                )
            x += length
        body.append(f'<text x="{x + 6:.1f}" y="{y + 11}" {TEXT}>{escape(row.text)}</text>')
    return _svg(len(rows) * step + 8, body, label, width)


def histogram(counts: Sequence[float], low: float, high: float, label: str) -> str:
    """Upright bars of equal width over [low, high]."""
    width, height, base = 300, 110, 90
    top = max(counts, default=0) or 1.0
    step = (width - 20) / max(len(counts), 1)
    body = [f'<line x1="10" y1="{base}" x2="{width - 10}" y2="{base}" class="axis"/>']
    for i, count in enumerate(counts):
        tall = (base - 12) * count / top
        body.append(
            f'<rect x="{10 + i * step + 1:.1f}" y="{base - tall:.1f}" width="{step - 2:.1f}" '
            f'height="{tall:.1f}" class="c0"><title>{count:g}</title></rect>'
        )
    for value, x, anchor in ((low, 10, "start"), (high, width - 10, "end")):
        body.append(f'<text x="{x}" y="{base + 15}" text-anchor="{anchor}" {TEXT}>{value:g}</text>')
    body.append(f'<text x="{width / 2}" y="{base + 15}" text-anchor="middle" {TEXT}>{escape(label)}</text>')
    return _svg(height, body, label, width)


def lines(series: Mapping[str, Sequence[Sequence[float]]], label: str) -> str:
    """Lines through (x, y) over axes that start at 0; points that are not finite are left out."""
    width, height, left, base = 320, 162, 38, 140
    clean = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        for name, points in series.items()
    }
    points = [point for line in clean.values() for point in line]
    right = max((x for x, _ in points), default=1.0) or 1.0
    top = _round_up(max((y for _, y in points), default=1.0))
    body = []
    for share in (0.0, 0.5, 1.0):
        y = base - share * (base - 12)
        body.append(f'<line x1="{left}" y1="{y:.1f}" x2="{width - 8}" y2="{y:.1f}" class="grid"/>')
        body.append(f'<text x="{left - 5}" y="{y + 4:.1f}" text-anchor="end" {TEXT}>{top * share:.3g}</text>')
    for number, (name, line) in enumerate(clean.items()):
        path = " ".join(
            f"{left + x / right * (width - 8 - left):.1f},{base - y / top * (base - 12):.1f}" for x, y in line
        )
        body.append(
            f'<polyline points="{path}" class="l{number % 6}"><title>{escape(name)}</title></polyline>'
        )
    body.append(f'<text x="{width - 8}" y="{base + 16}" text-anchor="end" {TEXT}>{right:g} iterations</text>')
    return _svg(height, body, label, width)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= value)


@dataclass(frozen=True)
class Sketch:
    """Boxes of one frame: (x0, y0, x1, y1, class number, text) in pixels of a width x height picture."""

    width: int
    height: int
    boxes: Sequence[tuple[float, float, float, float, int, str]]
    picture: str = ""


def sketch(frame: Sketch, label: str) -> str:
    """Boxes on an empty canvas, or over `picture` (a data URI)."""
    body = [f'<rect width="{frame.width}" height="{frame.height}" class="canvas"/>']
    if frame.picture:
        uri = escape(frame.picture, quote=True)
        body.append(f'<image href="{uri}" width="{frame.width}" height="{frame.height}"/>')
    line = max(frame.width / 250, 1.0)
    for x0, y0, x1, y1, number, text in frame.boxes:
        body.append(
            f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" '
            f'stroke-width="{line:.2f}" class="b{number}"><title>{escape(text)}</title></rect>'
        )
    return _svg(frame.height, body, label, frame.width, fluid=True)
