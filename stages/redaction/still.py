"""Stages: places where a second look found a head, covered for as long as the picture there is the same.

Cameras of an operating room do not move: who lies or stands still looks the same minute after minute, whether
the detector happens to find them in a frame or not. A place is the box of a head and up to TEMPLATES small
patches of how it looked; it is covered around all frames that match one of them. Imports numpy and OpenCV.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import area, as_boxes, expand, intersection, iou
from orveil.stages.redaction.looks import Glance, Looks, SmallGrey
from orveil.stages.redaction.temporal import Covered, Origin

__all__ = ["SAME", "Places", "Still"]

PATCH = 12
"""Patches are compared in so many rows and columns."""
AROUND = 0.1
"""A patch reaches beyond its box by this share: the outline tells a head from what it lies on."""
SAME = 0.6
"""Correlation from which on two patches show the same."""
NOISE = 6.0
"""Grey levels: deviations that flat patches may have without meaning anything."""
JOIN = 0.5
"""Finds with this IoU are of one place."""
NEW = 0.9
"""A find that correlates less with the known patches brings a new one."""
FINDS, SURE = 2, 0.4
"""A place counts once it was found so often, or with such a score: doubtful finds are mostly single ones."""
TEMPLATES, MOST = 4, 128
"""Patches of a place, and places."""
CHECK_S = 0.1
"""Places are compared this often."""
HOLD_S, KEEP_SHARE, KEEP_S = 0.2, 0.5, 2.0
"""A place is covered for HOLD_S before and after it was the same; after some time for this share of it, at
most KEEP_S: somebody may stand in the way."""
FORGET_S = 60.0
"""A place that has not looked the same for so long is forgotten."""
INSIDE = 0.9
"""A place adds nothing where this share of it lies in or beside a box that is covered already."""

Grey = NDArray[np.uint8]
Rows = NDArray[np.float32]


@dataclass
class _Place:
    """Attributes: rect: x0, y0, x1, y1 of the patch in the small picture; cover: (4,) px of the frame;
    templates: (PATCH ** 2,) each, mean 0; since, seen: of the time for which it has been the same; matches:
    when it was, and until when that covers."""

    box: Rows
    cover: Rows
    rect: tuple[int, int, int, int]
    templates: list[Rows]
    since: float
    seen: float
    score: float
    finds: int = 1
    matches: deque[tuple[float, float]] = field(default_factory=deque)


class Places:
    """The places of one camera.

    Args:
        scale: px of the small grey pictures per px of the frame.
    """

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self._places: list[_Place] = []

    def add(self, glance: Glance) -> None:
        """Join what a look found to the places, or make new ones."""
        for head, cover, score in zip(glance.heads, glance.cover, glance.scores.tolist(), strict=True):
            known = as_boxes([place.box for place in self._places])
            overlap = iou(head[None], known)[0]
            if len(known) and overlap.max() > JOIN:
                self._join(self._places[int(overlap.argmax())], glance, head, cover, score)
            else:
                rect = self._rect(head, glance.grey)
                template = _patch(glance.grey, rect)
                self._places.append(_Place(head, cover, rect, [template], glance.time, glance.time, score))
        if len(self._places) > MOST:
            self._places = sorted(self._places, key=lambda place: place.seen)[-MOST:]

    def _join(self, place: _Place, glance: Glance, head: Rows, cover: Rows, score: float) -> None:
        place.finds, place.score = place.finds + 1, max(place.score, score)
        place.box, place.cover = _union(place.box, head), _union(place.cover, cover)
        patch = _patch(glance.grey, place.rect)
        if max(_alike(patch, known) for known in place.templates) < NEW:
            place.templates = [*place.templates, patch][-TEMPLATES:]
        place.seen = max(place.seen, glance.time)

    def _rect(self, head: Rows, grey: Grey) -> tuple[int, int, int, int]:
        grown = expand(head[None], AROUND)[0] * self.scale
        height, width = grey.shape
        low = [min(max(int(grown[axis]), 0), side - 2) for axis, side in ((0, width), (1, height))]
        high = [
            min(max(int(np.ceil(grown[axis + 2])), low[axis] + 2), side)
            for axis, side in ((0, width), (1, height))
        ]
        return low[0], low[1], high[0], high[1]

    def see(self, time: float, grey: Grey) -> None:
        """Compare the places with the picture of this time; times rise from call to call."""
        for place in self._places:
            patch = _patch(grey, place.rect)
            if any(_alike(patch, known) >= SAME for known in place.templates):
                last = place.matches[-1][0] if place.matches else None
                if last is None or time - last > KEEP_S:
                    place.since = time
                keep = min(max(KEEP_SHARE * (time - place.since), HOLD_S), KEEP_S)
                place.matches.append((time, time + keep))
                place.seen = max(place.seen, time)
        self._places = [place for place in self._places if time - place.seen <= FORGET_S]

    def at(self, time: float) -> Rows:
        """What is covered (N, 4) at a time; later calls ask for later times."""
        found = []
        for place in self._places:
            if place.finds < FINDS and place.score < SURE:
                continue
            while place.matches and place.matches[0][1] < time - HOLD_S:
                place.matches.popleft()
            if any(seen - HOLD_S <= time <= until for seen, until in place.matches):
                found.append(place.cover)
        return as_boxes(found)


def _patch(grey: Grey, rect: tuple[int, int, int, int]) -> Rows:
    part = grey[rect[1] : rect[3], rect[0] : rect[2]]
    small = cv2.resize(part, (PATCH, PATCH), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    return np.asarray(small - small.mean(), np.float32)


def _alike(a: Rows, b: Rows) -> float:
    """Correlation of two patches, less for flat ones."""
    spread = np.sqrt(float(a @ a) * float(b @ b)) / len(a)
    return float(a @ b) / len(a) / (float(spread) + NOISE)


def _union(a: Rows, b: Rows) -> Rows:
    return np.concatenate([np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])])


class Still:
    """Adds the places to what is covered.

    Args:
        looks: second looks; grey: makes small pictures.
        ahead_s: what is found so much later counts already; frames are known only after this and HOLD_S.
        label: what a place covers.
    """

    def __init__(self, looks: Looks, grey: SmallGrey, ahead_s: float, label: str) -> None:
        self.looks, self.ahead_s, self.label = looks, ahead_s, label
        self._small, self._places = grey, Places(grey.scale)
        self._greys: deque[tuple[float, Grey]] = deque()
        self._kept = self._newest = float("-inf")

    def push(self, time: float, frame: Any) -> None:
        """The next frame, upright; None where it is covered as a whole."""
        self._newest = time
        look = frame is not None and self.looks.due(time)
        if look or (frame is not None and time - self._kept >= CHECK_S):
            grey = self._small(frame)
            self._kept = time
            self._greys.append((time, grey))
            for glance in self.looks(time, frame, grey) if look else ():
                self._places.add(glance)
        self._see(time - self.ahead_s)

    def finish(self) -> None:
        """No frame comes any more: all are known."""
        self._see(float("inf"))
        self._newest = float("inf")

    def _see(self, until: float) -> None:
        while self._greys and self._greys[0][0] <= until:
            self._places.see(*self._greys.popleft())

    def knows(self, time: float) -> bool:
        """Whether `added` may be asked about this time."""
        return self._newest - self.ahead_s - HOLD_S > time

    def added(self, covered: Covered, time: float) -> Covered:
        """What is covered in the frame of this time, and the places that add to it; times rise."""
        places = self._places.at(time)
        if len(places) and len(covered.xyxy):
            shared = intersection(places, expand(covered.xyxy, AROUND)).max(axis=1)
            places = places[shared < INSIDE * area(places)]
        origins: Iterable[Origin] = (Origin(self.label, "still") for _ in places)
        return Covered(covered.frame, as_boxes(np.concatenate([covered.xyxy, places])),
                       (*covered.origins, *origins))  # fmt: skip
