"""The sound of the room: the same from the same seed, and in step with the video it is muxed with."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from orveil.sim.audio import MARGIN, RATE, AudioTrack, beep_times, or_sound


def loudness(sound: np.ndarray, times: np.ndarray, length: float = 0.06) -> np.ndarray:
    """Power of the beep's band (550 to 1000 Hz) in a window after each time."""
    out = []
    for t in times:
        i = round(t * RATE)
        window = sound[i : i + round(length * RATE)].astype(float)
        spectrum = np.abs(np.fft.rfft(window * np.hanning(len(window)))) ** 2
        f = np.fft.rfftfreq(len(window), 1 / RATE)
        out.append(spectrum[(f > 550) & (f < 1000)].sum())
    return np.array(out)


def inside(times: np.ndarray, seconds: float) -> np.ndarray:
    return times[(times > 0.1) & (times < seconds - 0.2)]


def test_same_seed_same_sound() -> None:
    a, b, c = or_sound(5, 2.0), or_sound(5, 2.0), or_sound(6, 2.0)
    assert a.dtype == np.int16 and a.shape == (2 * RATE,)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_it_is_neither_silent_nor_clipped() -> None:
    for seed in range(4):
        sound = or_sound(seed, 6.0).astype(int)
        assert sound.std() > 300
        assert np.abs(sound).max() < 32000
        blocks = sound[: 6 * RATE].reshape(-1, RATE // 2).std(1)
        assert blocks.min() > 50, "the ventilation never stops"


def test_start_shifts_the_same_room() -> None:
    base = or_sound(9, 4.0)
    late = or_sound(9, 4.0, start=1.5)
    early = or_sound(9, 4.0, start=-0.25)
    assert np.array_equal(late[: 2 * RATE], base[round(1.5 * RATE) : round(3.5 * RATE)])
    assert np.array_equal(early[round(0.25 * RATE) :], base[: round(3.75 * RATE)])


def test_empty_and_impossible_stretches() -> None:
    assert or_sound(1, 0.0).shape == (0,)
    with pytest.raises(ValueError, match="within"):
        or_sound(1, 2.0, start=MARGIN + 1)
    with pytest.raises(ValueError, match="within"):
        or_sound(1, -1.0)


def test_beeps_sound_where_they_are_said_to() -> None:
    for seed in (1, 2, 3):
        sound = or_sound(seed, 8.0)
        onsets = inside(beep_times(seed, 8.0), 8.0)
        assert 6 <= len(onsets) <= 13
        between = (onsets[:-1] + onsets[1:]) / 2
        assert np.median(loudness(sound, onsets)) > 20 * np.median(loudness(sound, between))


def mux(path: Path, sound: np.ndarray, seconds: float, fps: int = 10) -> None:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.options = {"bf": "0", "preset": "ultrafast"}
        track = AudioTrack(container, sound)
        for k in range(round(seconds * fps)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * k % 255, np.uint8), format="bgr24")
            frame.pts, frame.time_base = k, Fraction(1, fps)
            container.mux(video.encode(frame))
            track.write_until((k + 1) / fps)
        container.mux(video.encode(None))
        track.close()


def test_muxed_sound_is_in_step_and_complete(tmp_path: Path) -> None:
    seconds = 4.0
    sound = or_sound(3, seconds)
    mux(tmp_path / "a.mp4", sound, seconds)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.rate, stream.layout.name) == ("aac", RATE, "mono")
        frames = list(container.decode(audio=0))
    heard = np.concatenate([f.to_ndarray()[0] for f in frames])
    start = float(frames[0].pts * frames[0].time_base)
    assert abs(start) < 1e-3
    assert abs(len(heard) / RATE - seconds) < 0.05
    n = min(len(heard), len(sound))
    spectra = np.fft.rfft(heard[:n], 2 * n) * np.conj(np.fft.rfft(sound[:n].astype(float), 2 * n))
    lag = int(np.fft.irfft(spectra).argmax())
    lag = lag if lag < n else lag - 2 * n
    assert abs(lag) <= 0.002 * RATE, f"sound is {lag / RATE * 1000:.1f} ms off"


def test_video_is_untouched_by_the_sound(tmp_path: Path) -> None:
    mux(tmp_path / "b.mp4", or_sound(3, 1.0), 1.0)
    with av.open(str(tmp_path / "b.mp4")) as container:
        times = [float(f.pts * f.time_base) for f in container.decode(video=0)]
    assert np.allclose(times, np.arange(10) / 10)


def test_same_sound_same_file(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        mux(tmp_path / name, or_sound(3, 1.0), 1.0)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_short_and_odd_lengths(tmp_path: Path) -> None:
    for samples in (0, 1, 1023, 1025):
        mux(tmp_path / "s.mp4", or_sound(3, 1.0)[:samples], 0.2)
        with av.open(str(tmp_path / "s.mp4")) as container:
            assert len(list(container.decode(video=0))) == 2
