"""A contact sheet of a site with the ground truth drawn: rows are cameras, columns are times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from orveil.sim.coco import PersonRecord
from orveil.sim.maths import Array
from orveil.sim.site import CameraFilm, open_site
from orveil.sim.site_options import SiteOptions, plan_cameras

COLOURS = ((80, 220, 80), (60, 180, 255), (255, 160, 60), (220, 90, 220), (90, 230, 230), (90, 90, 255),
           (255, 255, 90), (180, 255, 160), (200, 200, 200), (140, 140, 255))  # fmt: skip
SEEN, HIDDEN = (255, 160, 0), (0, 0, 255)


def draw_people(bgr: Array, people: Sequence[PersonRecord]) -> Array:
    """Draw boxes, heads and keypoints into a BGR picture (h, w, 3), which is changed and returned.

    Thick boxes are normal, thin ones `is_hard`; heads are yellow where the face is visible, else grey;
    visible keypoints are blue, hidden ones red. The number is the visible fraction.
    """
    for p in people:
        colour, (x0, y0, x1, y1) = COLOURS[p.track_id % len(COLOURS)], p.box
        cv2.rectangle(bgr, (x0, y0), (x1 - 1, y1 - 1), colour, 1 if p.is_hard else 2)
        label = f"{p.track_id}{'P' if p.role == 'patient' else ''} {p.visible_fraction:.2f}"
        cv2.putText(bgr, label, (x0 + 2, max(10, y0 - 3)), 0, 0.42, colour, 1, cv2.LINE_AA)
        if p.head is not None:
            a, b, c, d = p.head.box
            cv2.rectangle(
                bgr, (a, b), (c - 1, d - 1), (0, 255, 255) if p.head.face_visible else (160,) * 3, 1
            )
        for x, y, v in p.keypoints if p.keypoints is not None else ():
            if v > 0:
                cv2.circle(bgr, (int(x), int(y)), 1, SEEN if v == 2 else HIDDEN, -1)
    return bgr


def render_preview(options: SiteOptions, out: Path, columns: int = 4, scale: float = 0.5) -> Path:
    """Write `out`/preview.png and return its path."""
    site, renderer, truth = open_site(options)
    rows = []
    for plan in plan_cameras(options):
        film, row = CameraFilm(site, renderer, truth, plan, options.seed), []
        for k in range(columns):
            rgb, people = film.picture((k + 0.5) / columns * options.seconds + plan.offset)
            picture = draw_people(np.ascontiguousarray(rgb[..., ::-1]), people)
            row.append(cv2.resize(picture, (options.width, options.height)))
        rows.append(np.hstack(row))
    sheet = cv2.resize(np.vstack(rows), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "preview.png"
    cv2.imwrite(str(path), sheet)
    return path
