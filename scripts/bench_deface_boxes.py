"""Runs inside deface's own environment: the boxes that deface finds in every frame, as JSON.

    .../deface-1.5.0/bin/python bench_deface_boxes.py OUT.json [--scale WxH] VIDEO ...

Uses deface's reader, detector and default threshold; scripts/bench_blur.py calls it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import imageio
from deface.centerface import CenterFace

THRESHOLD = 0.2
"""deface's default."""


def main() -> None:
    """Write {video name: [[x0, y0, x1, y1, score], ...] per frame}."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--scale")
    options = parser.parse_args()
    shape = tuple(int(side) for side in options.scale.split("x")) if options.scale else None
    detector = CenterFace(in_shape=shape)
    found = {}
    for video in options.videos:
        reader = imageio.get_reader(str(video))
        found[video.name] = [detector(frame, threshold=THRESHOLD)[0].tolist() for frame in reader.iter_data()]
        reader.close()
    options.out.write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main()
