"""Encoders by name: what works is used, what does not is replaced, and why is said."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import videos
from av.codec.context import Flags

from orveil.pipeline import codecs
from orveil.pipeline.codecs import CODECS, choose_encoder, encoder_options
from orveil.pipeline.encode import Writer
from orveil.pipeline.media import frames, probe


def test_libx264_is_what_was_asked_for() -> None:
    assert choose_encoder("libx264", 128, 96, "yuv420p").name == "libx264"


@pytest.mark.parametrize("name", [name for name in CODECS if name != "libx264"])
def test_hardware_is_used_or_replaced_with_a_reason(tmp_path: Path, name: str) -> None:
    """Whatever this machine has: the encoder that is chosen writes a right video."""
    chosen = choose_encoder(name, 256, 192, "yuv420p")
    assert chosen.name in CODECS and chosen.name in str(chosen)
    if chosen.name == "libx264":
        assert "no hardware encoder" in chosen.why and (name == "auto" or name in chosen.why)
    with Writer(tmp_path / "o.mp4", 256, 192, Fraction(1, 10), codec=chosen.name) as writer:
        for pts, picture in enumerate(videos.scene(12, 256, 192)):
            writer.write(picture, pts)
    assert [videos.read_stamp(p) for _, _, p in frames(tmp_path / "o.mp4")] == list(range(12))


def test_an_encoder_this_build_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs.av, "codecs_available", {"libx264"})
    chosen = choose_encoder("h264_nvenc", 128, 96, "yuv420p")
    assert chosen.name == "libx264" and "h264_nvenc: not part of this FFmpeg build" in chosen.why


def test_a_layout_the_hardware_does_not_take() -> None:
    chosen = choose_encoder("h264_nvenc", 128, 96, "yuv422p10le")
    assert chosen.name == "libx264" and "yuv422p10le" in chosen.why


def test_auto_takes_the_first_that_encodes_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "_problem", lambda name, *_: "" if name == "h264_vaapi" else "no device")
    chosen = choose_encoder("auto", 128, 96, "yuv420p")
    assert chosen.name == "h264_vaapi" and "first hardware encoder" in chosen.why


def test_the_trial_really_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """libx264 under a hardware encoder's name passes the trial; with a layout it does not know it fails."""
    monkeypatch.setattr(codecs, "HARDWARE", ("libx264",))
    assert codecs._problem("libx264", 128, 96, "yuv420p") == ""
    assert "does not take" in codecs._problem("libx264", 128, 96, "rgba")
    assert codecs._problem("libx264", 0, 0, "yuv420p") != ""


@pytest.mark.parametrize("name", CODECS[:-1])
def test_options_are_text_and_follow_the_quality(name: str) -> None:
    fine, coarse = (encoder_options(name, crf, "veryfast", 2) for crf in (18, 34))
    assert all(isinstance(value, str) for value in fine.values()) and fine != coarse


def with_traces(path: Path, kind: str) -> None:
    """A video that says something about where it comes from."""
    options = {"video_track_timescale": "10", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options=options) as output:
        stream: Any = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.codec_context.time_base = 128, 96, Fraction(1, 10)
        stream.codec_context.flags |= Flags.bitexact
        if kind == "title":
            output.metadata["title"] = "Mr Example"
        elif kind == "created":
            output.metadata["creation_time"] = "2024-05-06T07:08:09Z"
        elif kind == "stream":
            stream.metadata["handler_name"] = "Camera 7 of Mr Example"
        elif kind == "chapters":
            place: Any = {"id": 1, "start": 0, "end": 5, "time_base": Fraction(1, 10)}
            output.set_chapters([{**place, "metadata": {"title": "incision"}}])
        for pts, picture in enumerate(videos.scene(10)):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format="yuv420p")
            frame.pts, frame.time_base = pts, Fraction(1, 10)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@pytest.mark.parametrize("kind", ["nothing", "title", "created", "stream", "chapters"])
def test_verification_finds_what_a_file_says_about_its_origin(tmp_path: Path, kind: str) -> None:
    from orveil.pipeline.encode import _traces

    with_traces(tmp_path / "a.mp4", kind)
    with av.open(str(tmp_path / "a.mp4")) as container:
        found = _traces(container)
    assert (found == "") == (kind == "nothing"), found


@pytest.mark.parametrize("kind", ["title", "created", "stream", "chapters"])
def test_nothing_of_it_reaches_a_blurred_copy(tmp_path: Path, kind: str) -> None:
    import bundles

    from orveil.stages.redact import BlurSettings, blur_video
    from orveil.stages.runtime import Bundle

    with_traces(tmp_path / "a.mp4", kind)
    bundle = Bundle.load(bundles.write_bundle(tmp_path / "b"))
    blur_video(tmp_path / "a.mp4", tmp_path / "o.mp4", bundle, BlurSettings())
    data = (tmp_path / "o.mp4").read_bytes()
    assert b"Example" not in data and b"incision" not in data and b"2024" not in data
    assert probe(tmp_path / "o.mp4").packets == 10
