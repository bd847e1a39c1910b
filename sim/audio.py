"""sim, sound: what an operating room sounds like, made from a seed, and its way into a video file.

Heart-monitor beeps, air conditioning, the breathing machine and bursts of babble: speech-like noise without
words. The track lies on the scene's clock, so cameras with a clock offset hear the same room.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from orveil.sim.maths import Array, smooth

RATE = 48_000
"""Samples per second."""
# Sound exists this long before and after the recording, for cameras whose clock is off.
MARGIN = 6.0


def or_sound(seed: int, seconds: float, start: float = 0.0) -> npt.NDArray[np.int16]:
    """Mono 16-bit sound of the room from `start` (scene clock, seconds) for `seconds`, at RATE.

    Raises:
        ValueError: the stretch reaches further than MARGIN outside the recording of `seconds`.

    """
    if seconds < 0 or abs(start) > MARGIN:
        raise ValueError(f"sound from {start} s for {seconds} s: start must lie within {MARGIN} s of zero")
    n = round((seconds + 2 * MARGIN) * RATE)
    parts = ((0.020, _air), (0.030, _breathing), (0.06, _babble), (0.22, _beeps))
    mix = sum((gain * make(_stream(seed, make), n) for gain, make in parts), np.zeros(n))
    first = round((start + MARGIN) * RATE)
    cut = mix[first : first + round(seconds * RATE)]
    return np.asarray(np.clip(np.round(cut * 32767), -32768, 32767), np.int16)


def beep_times(seed: int, seconds: float) -> Array:
    """Onsets (k,) in seconds on the scene clock of the heart-monitor beeps in `or_sound(seed, seconds)`."""
    return _onsets(_stream(seed, _beeps), seconds + 2 * MARGIN) - MARGIN


def _stream(seed: int, part: Callable[[np.random.Generator, int], Array]) -> np.random.Generator:
    """A generator for one part of the sound, so that one part can be had without the others."""
    return np.random.default_rng([seed, *part.__name__.encode()])


def _onsets(rng: np.random.Generator, seconds: float) -> Array:
    """Heart beats: a steady rate with a few per cent of variation from beat to beat."""
    interval = 60 / rng.uniform(58, 92)
    count = int(seconds / interval * 1.5) + 4
    gaps = interval * (1 + 0.03 * rng.standard_normal(count))
    times = rng.uniform(0, interval) + np.cumsum(np.maximum(gaps, 0.3 * interval))
    return np.asarray(times[times < seconds - 0.2])


def _beeps(rng: np.random.Generator, n: int) -> Array:
    onsets = _onsets(rng, n / RATE)
    pitch, length = rng.uniform(600, 950), 0.09
    t = np.arange(round(length * RATE)) / RATE
    envelope = smooth(0, 0.004, t) * (1 - smooth(length - 0.02, length, t))
    tone = envelope * (np.sin(2 * np.pi * pitch * t) + 0.25 * np.sin(4 * np.pi * pitch * t))
    out = np.zeros(n)
    for onset in onsets:
        i = round(onset * RATE)
        out[i : i + len(tone)] += tone[: n - i]
    return out


def _coloured(rng: np.random.Generator, n: int, low: float, high: float, slope: float) -> Array:
    """Noise of unit power between two frequencies (Hz), falling as frequency to the power -slope."""
    size = 1 << max(1, (n - 1).bit_length())
    spectrum = np.fft.rfft(rng.standard_normal(size).astype(np.float32))
    f = np.fft.rfftfreq(size, 1 / RATE)
    gain = np.where((f >= low) & (f <= high), np.maximum(f, low) ** -slope, 0.0)
    noise = np.fft.irfft(spectrum * gain, size)[:n]
    return np.asarray(noise / (noise.std() + 1e-12))


def _air(rng: np.random.Generator, n: int) -> Array:
    return _coloured(rng, n, 40, 6000, 0.9)


def _breathing(rng: np.random.Generator, n: int) -> Array:
    """The breathing machine: air in quickly, out slowly, ten to sixteen times a minute."""
    phase = (np.arange(n) / RATE * rng.uniform(10, 16) / 60 + rng.uniform()) % 1.0
    flow = smooth(0.0, 0.05, phase) * (1 - smooth(0.28, 0.36, phase))
    flow += 0.6 * smooth(0.40, 0.43, phase) * np.exp(-np.maximum(phase - 0.43, 0) * 7)
    return np.asarray(_coloured(rng, n, 200, 4000, 0.5) * flow)


def _babble(rng: np.random.Generator, n: int) -> Array:
    """Bursts of voices: formant bands of noise, opened and closed at the rate of syllables."""
    out = np.zeros(n)
    at = rng.uniform(0, 2) * RATE
    while at < n - RATE // 4:
        length = round(rng.uniform(0.8, 3.0) * RATE)
        piece = slice(round(at), min(n, round(at) + length))
        m = piece.stop - piece.start
        t = np.arange(m) / RATE
        syllables = np.maximum(0, np.sin(2 * np.pi * rng.uniform(3, 5) * t + rng.uniform(0, 6))) ** 0.7
        edge = smooth(0, 0.15, t) * (1 - smooth(t[-1] - 0.15, t[-1], t))
        voice = _coloured(rng, m, 150, 900, 0.6) + 0.4 * _coloured(rng, m, 1100, 2600, 0.8)
        out[piece] += rng.uniform(0.3, 1.0) * voice * syllables * edge
        at += length + rng.uniform(0.5, 5.0) * RATE
    return out


class AudioTrack:
    """An AAC stream written beside the video of a PyAV container.

    Make it before anything is muxed, call `write_until` after each video frame and `close` before the
    container is closed:

        track = AudioTrack(container, or_sound(seed, seconds))
        for frame in frames: ...mux the frame...; track.write_until(frame_time)
        track.close()
    """

    def __init__(self, container: Any, samples: npt.NDArray[np.int16], bit_rate: int = 48_000) -> None:
        self._container = container
        self._samples = np.ascontiguousarray(samples, np.int16)
        self._sent = 0
        self._stream = container.add_stream("aac", rate=RATE)
        self._stream.layout = "mono"
        self._stream.bit_rate = bit_rate

    def write_until(self, seconds: float) -> None:
        """Mux the sound up to `seconds` after the first sample; earlier times do nothing."""
        self._send(min(len(self._samples), round(seconds * RATE)))

    def close(self) -> None:
        """Mux the rest of the sound and empty the encoder."""
        self._send(len(self._samples))
        self._container.mux(self._stream.encode(None))

    def _send(self, end: int) -> None:
        import av

        # Whole AAC frames of 1024 samples; the last one may be shorter.
        while self._sent < end and (end - self._sent >= 1024 or end == len(self._samples)):
            block = self._samples[self._sent : min(self._sent + 1024, end)]
            frame = av.AudioFrame.from_ndarray(block[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, self._sent, Fraction(1, RATE)
            self._container.mux(self._stream.encode(frame))
            self._sent += len(block)
