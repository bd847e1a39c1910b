"""Tries to tell whose faces were masked: rank-1 identification among people who were not learned from.

    python scripts/attack_faces.py [--faces tests/data]

Half of the people of faces.jpg (scripts/render_faces.py) are known to the attacker with clear and masked
pictures, the other half are suspects: of each the attacker has one clear picture (view 0) and looks at masked
pictures of other views. The attacker knows the mask's settings and the exact place of every head. Attacks:

    nearest    masked face -> most similar clear face
    wiener     the same after Wiener deconvolution with the best of several Gaussian widths
    lucy       the same after Richardson-Lucy deconvolution, likewise
    ridge      the same after a linear restoration learned on the first half (ridge regression)
    parrot     masked face -> most similar face among the suspects' clear pictures, masked in the same way
               (McPherson, Shokri, Shmatikov: Defeating image obfuscation with deep learning, 2016)

Similarity is the correlation of brightness inside the face: mean and contrast do not count. Widths and
the weight of the regression are chosen on the first half. Chance is one in the number of suspects. For
information, `colour` compares the mean colour of masked faces with that of masked suspects: a mask that keeps
an average keeps skin and hair colour (a solid one does not).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import as_boxes
from orveil.pipeline.planes import planes_of
from orveil.stages.redaction.mask import cover_planes, regions_px

Floats = NDArray[np.float64]
Mask = Callable[[NDArray[np.uint8], Sequence[float]], NDArray[np.uint8]]
INNER = (0.18, 0.22, 0.82, 0.95)
"""The part of a head's box that is compared: face without background."""
GRID = 24
"""The compared part is brought to this many samples across."""
WIDTHS = (1.0, 2.0, 3.0, 5.0, 8.0)
WEIGHTS = (1e-2, 1e-1, 1.0, 10.0, 100.0)
ATTACKS = ("nearest", "wiener", "lucy", "ridge", "parrot")


@dataclass(frozen=True)
class Faces:
    """Crops (people, views, side, side, 3) BGR and the heads' boxes in them (people, views, 4) px."""

    crops: NDArray[np.uint8]
    heads: Floats

    @classmethod
    def load(cls, folder: Path) -> Faces:
        """Read what scripts/render_faces.py wrote."""
        about = json.loads((folder / "faces.json").read_text("utf-8"))
        sheet = cv2.imread(str(folder / "faces.jpg"))
        shape = about["people"], about["side"], about["views"], about["side"], 3
        return cls(sheet.reshape(shape).swapaxes(1, 2).copy(), np.array(about["heads"], np.float64))


def orveil_mask(style: str, shape: str = "ellipse", margin: float = 0.15, **more: int) -> Mask:
    """What `orveil blur` does to a picture with one head, without the encoder."""

    def masked(picture: NDArray[np.uint8], head: Sequence[float]) -> NDArray[np.uint8]:
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format="yuv444p")
        region = regions_px(as_boxes([head]), margin, frame.width, frame.height)
        cover_planes(planes_of(frame), region, style, shape, **more)
        return np.asarray(frame.to_ndarray(format="bgr24"))

    return masked


def weak_mask(sigma: float) -> Mask:
    """A Gaussian blur of the whole picture, of a width that does not grow with the face."""
    return lambda picture, head: np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma))


def _grey(crops: NDArray[np.uint8]) -> Floats:
    """(..., side, side, 3) BGR to brightness."""
    return np.asarray(crops.astype(np.float64) @ [0.114, 0.587, 0.299])


def _faces(grey: Floats, heads: Floats) -> Floats:
    """The compared part of (N, side, side), normalised to mean 0 and length 1 (N, GRID * GRID)."""
    rows = []
    for picture, (x0, y0, x1, y1) in zip(grey, heads, strict=True):
        left, right = x0 + INNER[0] * (x1 - x0), x0 + INNER[2] * (x1 - x0)
        top, bottom = y0 + INNER[1] * (y1 - y0), y0 + INNER[3] * (y1 - y0)
        across, down = GRID / (right - left), GRID / (bottom - top)
        affine = np.array([[across, 0, -left * across], [0, down, -top * down]])
        rows.append(cv2.warpAffine(picture, affine, (GRID, GRID), flags=cv2.INTER_LINEAR).ravel())
    return _normal(np.array(rows))


def _normal(rows: Floats) -> Floats:
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    flat = length < 1e-6 * (1 + np.abs(rows).sum(axis=1, keepdims=True))  # rounding only
    return np.asarray(np.where(flat, 0.0, centred / np.maximum(length, 1e-9)))


def _mean_colour(picture: NDArray[np.uint8], head: Floats) -> Floats:
    x0, y0, x1, y1 = head
    columns = slice(round(x0 + INNER[0] * (x1 - x0)), round(x0 + INNER[2] * (x1 - x0)))
    rows = slice(round(y0 + INNER[1] * (y1 - y0)), round(y0 + INNER[3] * (y1 - y0)))
    return np.asarray(picture[rows, columns].reshape(-1, 3).mean(axis=0))


def _wiener(grey: Floats, sigma: float, noise: float = 0.01) -> Floats:
    side = grey.shape[-1]
    response = np.exp(
        -2 * (np.pi * sigma) ** 2 * (np.fft.fftfreq(side)[:, None] ** 2 + np.fft.rfftfreq(side) ** 2)
    )
    return np.asarray(np.fft.irfft2(np.fft.rfft2(grey) * response / (response**2 + noise), s=grey.shape[-2:]))


def _lucy(grey: Floats, sigma: float, steps: int = 20) -> Floats:
    restored = []
    for picture in grey:
        estimate = seen = np.maximum(picture, 1.0)
        for _ in range(steps):
            ratio = seen / np.maximum(cv2.GaussianBlur(estimate, (0, 0), sigma), 1e-3)
            estimate = np.clip(estimate * cv2.GaussianBlur(ratio, (0, 0), sigma), 0, 1e4)
        restored.append(estimate)
    return np.array(restored)


def _hits(probes: Floats, gallery: Floats) -> int:
    """How many probes (P * V, D), V per person of the gallery (P, D), are most similar to their own."""
    return _firsts(probes @ gallery.T)


def _firsts(similar: Floats) -> int:
    """How many probes are most similar to their own person, from similarities (P * V, P).

    Ties are no identification: a mask that leaves nothing gives the same similarity to everybody.
    """
    own = np.repeat(np.arange(similar.shape[1]), len(similar) // similar.shape[1])
    best = similar.max(axis=1)
    alone = (similar == best[:, None]).sum(axis=1) == 1
    return int(((similar[np.arange(len(own)), own] == best) & alone).sum())


class Attacker:
    """Attacks one kind of mask.

    Args:
        faces: see `Faces`; mask: what was done to the pictures.
    """

    def __init__(self, faces: Faces, mask: Mask) -> None:
        people, views, side = faces.crops.shape[:3]
        self.half, self.views = people // 2, views
        masked = np.array([mask(c, h) for c, h in zip(faces.crops.reshape(-1, side, side, 3),
                                                       faces.heads.reshape(-1, 4), strict=True)])  # fmt: skip
        self.clear = _grey(faces.crops)
        self.masked = _grey(masked).reshape(self.clear.shape)
        self.colours = np.array([_mean_colour(c, h) for c, h in zip(masked, faces.heads.reshape(-1, 4),
                                                                    strict=True)])  # fmt: skip
        self.heads = faces.heads

    def _part(self, pictures: Floats, suspects: bool, views: slice) -> Floats:
        """Compared parts of known people or suspects, views of a person one after the other."""
        people = slice(self.half, 2 * self.half) if suspects else slice(0, self.half)
        side = pictures.shape[-1]
        return _faces(
            pictures[people, views].reshape(-1, side, side), self.heads[people, views].reshape(-1, 4)
        )

    def _compare(self, pictures: Floats, suspects: bool, gallery: Floats | None = None) -> int:
        clear = self.clear if gallery is None else gallery
        return _hits(self._part(pictures, suspects, slice(1, None)), self._part(clear, suspects, slice(0, 1)))

    def _deconvolved(self, way: Callable[[Floats, float], Floats]) -> int:
        side = self.masked.shape[-1]
        restored = {w: way(self.masked.reshape(-1, side, side), w).reshape(self.masked.shape) for w in WIDTHS}
        best = max(WIDTHS, key=lambda w: self._compare(restored[w], suspects=False))
        return self._compare(restored[best], suspects=True)

    def _ridge(self) -> int:
        everything = slice(0, None)
        seen, wanted = (self._part(p, False, everything) for p in (self.masked, self.clear))
        person = np.repeat(np.arange(self.half), self.views)
        held = person % 4 == 0

        def hits(weight: float, rows: NDArray[np.bool_], probes: Floats, gallery: Floats) -> int:
            gram = seen[rows] @ seen[rows].T
            scale = weight * max(float(np.trace(gram)) / len(gram), 1e-9)
            dual = np.linalg.solve(gram + scale * np.eye(len(gram)), wanted[rows])
            return _hits(_normal((probes @ seen[rows].T) @ dual), gallery)

        first = np.arange(len(seen)) % self.views == 0
        best = max(WEIGHTS, key=lambda w: hits(w, ~held, seen[held & ~first], wanted[held & first]))
        probes, gallery = (
            self._part(self.masked, True, slice(1, None)),
            self._part(self.clear, True, slice(0, 1)),
        )
        return hits(best, np.ones(len(seen), bool), probes, gallery)

    def hits(self, attack: str) -> int:
        """How many masked pictures of suspects are put to the right one."""
        if attack == "nearest":
            return self._compare(self.masked, suspects=True)
        if attack == "wiener":
            return self._deconvolved(_wiener)
        if attack == "lucy":
            return self._deconvolved(_lucy)
        if attack == "ridge":
            return self._ridge()
        return self._compare(self.masked, suspects=True, gallery=self.masked)

    def colour_hits(self) -> int:
        """How many are told by the mean colour of what covers the face."""
        colours = self.colours.reshape(-1, self.views, 3)[self.half : 2 * self.half]
        away = colours[:, 1:].reshape(-1, 1, 3) - colours[None, :, 0]
        return _firsts(-np.linalg.norm(away, axis=2))

    @property
    def probes(self) -> int:
        """Number of masked pictures of suspects."""
        return self.half * (self.views - 1)


def chance_bound(probes: int, suspects: int, error: float) -> int:
    """More hits than this happen by chance with a probability below `error` (binomial)."""
    p, tail = 1 / suspects, 1.0
    for hits in range(probes + 1):
        tail -= comb(probes, hits) * p**hits * (1 - p) ** (probes - hits)
        if tail < error:
            return hits
    return probes


def main() -> int:
    """Print hits by mask and attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--faces", type=Path, default=Path("tests/data"))
    faces = Faces.load(parser.parse_args().faces)
    masks = {
        "nothing": lambda picture, head: picture,
        "Gaussian, 1 px": weak_mask(1.0),
        "Gaussian, 3 px": weak_mask(3.0),
        **{f"orveil {style}": orveil_mask(style) for style in ("gaussian", "mosaic", "solid")},
        **{f"orveil {style} 6": orveil_mask(style, cells=6) for style in ("gaussian", "mosaic")},
    }
    suspects = len(faces.crops) // 2
    bound = chance_bound(suspects * (faces.crops.shape[1] - 1), suspects, 0.001)
    print(f"{suspects} suspects; by chance at most {bound} (p < .001)")
    print(f"{'':20}" + "".join(f"{attack:>10}" for attack in (*ATTACKS, "colour")))
    for name, mask in masks.items():
        attacker = Attacker(faces, mask)
        hits = [*map(attacker.hits, ATTACKS), attacker.colour_hits()]
        print(f"{name:20}" + "".join(f"{number:>6}/{attacker.probes}" for number in hits), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
