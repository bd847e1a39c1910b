"""What a real camera adds: colour, vignette, blur, noise and compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from orveil.sim.maths import Array
from orveil.sim.textures import Rng

_MARGIN = 128


@dataclass(frozen=True)
class Look:
    """Properties of one sensor: tone curve, white balance (3,), blur in pixels, noise in grey levels."""

    gamma: float
    gain: tuple[float, float, float]
    blur: float
    noise: float
    vignette: float
    jpeg: int
    crf: int = 22
    grey: bool = False


def room_camera_look(rng: Rng) -> Look:
    """A fixed room camera of fair quality."""
    gain = rng.uniform(0.93, 1.07, 3) * rng.uniform(0.98, 1.16)
    return Look(
        gamma=float(rng.uniform(0.80, 1.25)),
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        blur=float(rng.uniform(0.35, 0.85)),
        noise=float(rng.uniform(1.5, 4.5)),
        vignette=float(rng.uniform(0.10, 0.38)),
        jpeg=int(rng.integers(55, 88)),
        crf=int(rng.integers(19, 26)),
    )


def any_camera_look(rng: Rng) -> Look:
    """Anything from a good camera to a poor one, for training data."""
    gain = rng.uniform(0.85, 1.15, 3)
    return Look(
        gamma=float(rng.uniform(0.7, 1.3)),
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        blur=float(rng.choice([0.0, rng.uniform(0.2, 0.7), rng.uniform(0.2, 1.4)])),
        noise=float(rng.choice([rng.uniform(0.5, 3), rng.uniform(0.5, 9)])),
        vignette=float(rng.uniform(0.0, 0.4)),
        jpeg=int(rng.integers(50, 96)),
        grey=bool(rng.random() < 0.06),
    )


def auto_exposed(rgb: Array, target: float) -> Array:
    """RGB uint8 brought to a mean grey level near `target`, as a camera's automatic exposure does."""
    gain = float(np.clip(target / max(float(rgb.mean()), 1.0), 0.6, 3.0))
    curve = np.clip(np.arange(256) * gain, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(rgb, curve))


class Sensor:
    """Applies a look to pictures of one size; the noise moves from picture to picture."""

    def __init__(self, look: Look, width: int, height: int, rng: Rng) -> None:
        self.look, self.rng = look, rng
        x = np.arange(256) / 255.0
        curve = [np.clip((x**look.gamma) * g, 0, 1) * 255 for g in look.gain]
        self.lut = np.round(np.stack(curve, 1)).astype(np.uint8)[None]
        yy, xx = np.mgrid[:height, :width].astype(np.float32)
        r2 = ((xx - width / 2) / (width / 2)) ** 2 + ((yy - height / 2) / (height / 2)) ** 2
        self.vignette = (1 - look.vignette * r2 / 2)[..., None].astype(np.float32)
        n = rng.standard_normal((height + _MARGIN, width + _MARGIN, 3)).astype(np.float32)
        n = n * 0.55 + n.mean(2, keepdims=True) * 0.8
        self.noise = np.asarray(cv2.GaussianBlur(n, (0, 0), 0.5)) * 1.4 * look.noise

    def expose(self, rgb: Array) -> Array:
        """RGB (h, w, 3) uint8 as rendered to RGB uint8 as the sensor sees it."""
        h, w = rgb.shape[:2]
        img = cv2.GaussianBlur(rgb, (0, 0), self.look.blur) if self.look.blur > 0.05 else rgb
        img = cv2.LUT(img, self.lut)
        oy, ox = self.rng.integers(0, _MARGIN, 2)
        f = img.astype(np.float32) * self.vignette + self.noise[oy : oy + h, ox : ox + w]
        if self.look.grey:
            f = np.repeat(f.mean(2, keepdims=True), 3, 2)
        return np.asarray(np.clip(f, 0, 255).astype(np.uint8))

    def jpeg(self, rgb: Array) -> bytes:
        """JPEG bytes of an exposed picture at this camera's quality."""
        quality = [cv2.IMWRITE_JPEG_QUALITY, self.look.jpeg]
        return bytes(cv2.imencode(".jpg", rgb[..., ::-1], quality)[1].tobytes())

    def compressed(self, rgb: Array) -> Array:
        """An exposed picture after JPEG compression, RGB uint8."""
        data = np.frombuffer(self.jpeg(rgb), np.uint8)
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
