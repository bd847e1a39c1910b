"""Renders the pictures of a bundle's self-test, configs/selftest: two cameras of a simulated operating
room, as they hang and upright. Needs OpenGL (scripts/setup_sim); making and checking a bundle does not.

    .venv/bin/python scripts/render_selftest.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from orveil.sim.site import CameraFilm, open_site
from orveil.sim.site_options import SiteOptions, plan_cameras

SEED, SECONDS, QUALITY = 801, 20.0, 88
SIZES = {"landscape": (512, 288), "portrait": (288, 512)}
FOLDER = Path(__file__).resolve().parent.parent / "configs" / "selftest"


def main(folder: Path) -> None:
    """Write four pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (width, height) in SIZES.items():
        options = SiteOptions(seed=SEED, cameras=2, seconds=SECONDS, width=width, height=height)
        site, renderer, truth = open_site(options)
        for number, plan in enumerate(plan_cameras(options), 1):
            film = CameraFilm(site, renderer, truth, plan, options.seed)
            rgb, people = film.picture(number * SECONDS / 3)
            path = folder / f"{name}{number}.jpg"
            done, content = cv2.imencode(
                ".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
            )
            assert done, "JPEG encoding failed"
            path.write_bytes(content.tobytes())
            print(f"{path}: {width}x{height}, {len(people)} people, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
