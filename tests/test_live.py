"""Live redaction: what is shown is masked, and what is missing, damaged or late is covered."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import bundles
import numpy as np
import pytest
import videos

from orveil.pipeline.errors import OrveilError
from orveil.stages.redaction.live import Live, LiveReport, live_parts
from orveil.stages.redaction.live_sink import open_sink
from orveil.stages.redaction.live_source import LiveSource
from orveil.stages.redaction.log import BlurSettings
from orveil.stages.redaction.mask import cover_planes
from orveil.stages.runtime import Bundle, OnnxDetector

RATE = 20


def scene(count: int) -> list[videos.Picture]:
    pictures = videos.scene(count, 192, 112)
    for number, picture in enumerate(pictures):
        picture[40:70, 20 + number : 50 + number] = (20, 20, 255)
    return pictures


def red(picture: np.ndarray) -> bool:
    """Whether the head can be seen."""
    blue, green, head = (picture[..., c].astype(int) for c in range(3))
    return bool(((head > 180) & (green < 90) & (blue < 90)).sum() > 20)


def dark(picture: np.ndarray) -> bool:
    return bool(picture.max() < 12)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(bundles.write_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos.write_video(tmp_path_factory.mktemp("clip") / "in.mp4", scene(40), fps=RATE, gop=10)


class Screen:
    """A sink that keeps what it is shown."""

    def __init__(self, stop_after: int = 10**6) -> None:
        self.pictures: list[np.ndarray] = []
        self.stop_after, self.whole = stop_after, False

    def show(self, frame: Any, tick: int) -> bool:
        self.pictures.append(frame.to_ndarray(format="bgr24"))
        return len(self.pictures) < self.stop_after

    def close(self, whole: bool) -> None:
        self.whole = whole


class Stuttering(LiveSource):
    """A source that gives nothing for a while in the middle."""

    def __init__(self, path: Path, at: int, seconds: float) -> None:
        super().__init__(str(path))
        self.at, self.seconds = at, seconds

    def __iter__(self) -> Iterator[Any]:
        for number, shot in enumerate(super().__iter__()):
            if number == self.at:
                time.sleep(self.seconds)
            yield shot


def play(source: LiveSource, bundle: Bundle, screen: Any, **options: Any) -> tuple[LiveReport, Any]:
    settings = BlurSettings(style="solid", hold_s=0.15)
    make_judge, painter, log = live_parts(source.look, bundle, settings, 2)
    return Live(source, screen, make_judge, painter, rate=RATE, **options).run(), log


def test_every_picture_shown_is_masked_or_covered(clip: Path, bundle: Bundle) -> None:
    screen = Screen()
    report, log = play(LiveSource(str(clip)), bundle, screen)
    assert screen.whole and not log.faults and report.error == ""
    assert not any(red(picture) for picture in screen.pictures)
    assert dark(screen.pictures[0]), "before anything is decided a covered picture is shown"
    assert 0 < report.counts["shown"] <= 40 and sum(not dark(p) for p in screen.pictures) > 5
    assert report.counts["shown"] + report.counts["dropped"] == 40, "each picture is shown or dropped"
    middle, high = report.latency_ms()
    assert 150 <= middle <= high


def test_the_check_sees_heads_that_are_not_masked(
    clip: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orveil.stages.redaction.paint.cover_planes", lambda *_, **__: None)
    screen = Screen()
    play(LiveSource(str(clip)), bundle, screen)
    assert any(red(picture) for picture in screen.pictures)


def test_a_stalled_source_shows_a_covered_picture_and_goes_on(clip: Path, bundle: Bundle) -> None:
    screen = Screen()
    report, _ = play(Stuttering(clip, 20, 1.5), bundle, screen, stall_s=0.3)
    lit = [not dark(picture) for picture in screen.pictures]
    first, last = lit.index(True), len(lit) - 1 - lit[::-1].index(True)
    stalled = lit[first:last].count(False)
    assert stalled >= 5 and report.counts["covered"] >= stalled, "covered between two lit stretches"
    assert not any(red(picture) for picture in screen.pictures)


def test_a_slow_search_drops_pictures_and_exposes_none(
    clip: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = OnnxDetector.infer

    def slow(self: OnnxDetector, *arguments: Any) -> Any:
        time.sleep(0.15)
        return infer(self, *arguments)

    monkeypatch.setattr(OnnxDetector, "infer", slow)
    screen = Screen()
    report, _ = play(LiveSource(str(clip)), bundle, screen, stall_s=5.0)
    assert report.counts["dropped"] >= 10 and report.counts["repeated"] > 0
    assert not any(red(picture) for picture in screen.pictures)


@pytest.mark.parametrize("where", ["OnnxDetector.infer", "judge", "painter"])
def test_a_failing_part_covers_until_it_works_again(
    clip: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    calls = [0]

    def failing(right: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            calls[0] += 1
            if 5 <= calls[0] < 9:
                raise RuntimeError("broken")
            return right(*arguments, **named)

        return call

    if where == "OnnxDetector.infer":
        monkeypatch.setattr(OnnxDetector, "infer", failing(OnnxDetector.infer))
    elif where == "judge":
        monkeypatch.setattr("orveil.stages.redaction.judge.Detecting.push", _eager(failing))
    else:
        monkeypatch.setattr("orveil.stages.redaction.paint.cover_planes", failing(cover_planes))
    screen = Screen()
    report, _ = play(LiveSource(str(clip)), bundle, screen, stall_s=9.0)
    assert calls[0] > 9 and report.counts["covered"] >= 2 and report.counts["shown"] > 0 and not report.error
    assert not any(red(picture) for picture in screen.pictures)


def _eager(failing: Callable[..., Any]) -> Callable[..., Any]:
    from orveil.stages.redaction.judge import Detecting

    push = Detecting.push
    return failing(lambda self, item: iter(list(push(self, item))))


def test_damaged_pictures_are_covered_until_the_next_key_picture(tmp_path: Path, bundle: Bundle) -> None:
    source = videos.write_video(tmp_path / "in.mp4", scene(40), fps=RATE, gop=10, options={"bf": "0"})
    videos.damage(source, 12)
    screen = Screen()
    report, log = play(LiveSource(str(source)), bundle, screen)
    assert {fault["reason"] for fault in log.faults} == {"damaged"} and report.counts["covered"] > 0
    assert not any(red(picture) for picture in screen.pictures)


def test_the_viewer_can_stop(clip: Path, bundle: Bundle) -> None:
    screen = Screen(stop_after=7)
    play(LiveSource(str(clip)), bundle, screen)
    assert len(screen.pictures) == 7 and screen.whole


def test_to_a_file_by_command(orveil: Any, clip: Path, bundle: Bundle, tmp_path: Path) -> None:
    target = tmp_path / "out.ts"
    status, said, err = orveil(
        "live", "--source", clip, "--sink", target, "--bundle", bundle.directory, "--style", "solid",
        "--log", tmp_path / "log.json",
    )  # fmt: skip
    assert status == 0 and "latency" in said and "latency" in err and "shown" in said
    with av.open(str(target)) as container:
        shown = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    log = json.loads((tmp_path / "log.json").read_text())
    assert len(shown) == sum(
        log["frames"][name] for name in ("shown", "covered", "repeated") if name in log["frames"]
    )
    assert not any(red(picture) for picture in shown) and any(not dark(picture) for picture in shown)
    assert log["latency_ms"]["p50"] > 0 and sorted(p.name for p in tmp_path.iterdir()) == [
        "log.json",
        "out.ts",
    ]


def test_to_a_network_as_mpeg_ts(clip: Path, bundle: Bundle, tmp_path: Path) -> None:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(3.0)
    received = bytearray()

    def receive() -> None:
        with receiver:
            while True:
                try:
                    received.extend(receiver.recv(65536))
                except TimeoutError:
                    return

    thread = threading.Thread(target=receive)
    thread.start()
    source = LiveSource(str(clip))
    sink = open_sink(f"udp://127.0.0.1:{receiver.getsockname()[1]}?pkt_size=1316", source.look, RATE)
    play(source, bundle, sink)
    thread.join()
    (tmp_path / "got.ts").write_bytes(received)
    with av.open(str(tmp_path / "got.ts")) as container:
        shown = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(shown) > 10 and not any(red(picture) for picture in shown)


def test_a_network_source_that_falls_silent_is_covered(bundle: Bundle, clip: Path) -> None:
    """A stream comes for two seconds; what is shown after that is covered, and the run goes on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = f"udp://127.0.0.1:{free.getsockname()[1]}"
    silent = threading.Event()

    def send() -> None:
        sink = open_sink(f"{address}?pkt_size=1316", LiveSource(str(clip)).look, RATE)
        tick = 0
        while not silent.is_set():
            for frame, _ in LiveSource(str(clip)):
                if silent.is_set():
                    break
                sink.show(frame.reformat(format="yuv420p"), tick)
                tick += 1
        sink.close(True)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        source = LiveSource(address, timeout_s=2.0)
        screen = Screen()
        settings = BlurSettings(style="solid", hold_s=0.15)
        make_judge, painter, _ = live_parts(source.look, bundle, settings, 2)
        stop = threading.Timer(2.5, silent.set)
        stop.start()
        report = Live(source, screen, make_judge, painter, rate=RATE, stall_s=0.4, late_s=1.0).run(
            seconds=5.0
        )
    finally:
        silent.set()
        sender.join()
    assert len(screen.pictures) == 5 * RATE and report.counts["shown"] > 0
    assert not any(red(picture) for picture in screen.pictures)
    assert all(dark(picture) for picture in screen.pictures[-10:]) and report.counts["covered"] >= 10


@pytest.mark.parametrize(
    ("source", "sink", "message"),
    [("camera:97", "x.ts", "cannot be opened"), ("none.mp4", "x.ts", "cannot be opened"),
     ("clip", "x.exe", "no sink"), ("clip", "/nowhere/x.ts", "No such file"),
     ("clip", "virtual", "pyvirtualcam"), ("clip", "window", "cannot open windows")],
)  # fmt: skip
def test_sources_and_sinks_that_cannot_be_had(
    clip: Path, tmp_path: Path, source: str, sink: str, message: str
) -> None:
    with pytest.raises(OrveilError, match=message) as caught:
        opened = LiveSource(str(clip) if source == "clip" else source)
        open_sink(sink if sink[0] == "/" or "." not in sink else str(tmp_path / sink), opened.look, RATE)
    assert caught.value.remedy and list(tmp_path.iterdir()) == []


def test_pictures_of_another_size_are_covered(tmp_path: Path, bundle: Bundle) -> None:
    one = videos.write_video(tmp_path / "1.ts", scene(10), fps=RATE, gop=5)
    two = videos.write_video(tmp_path / "2.ts", videos.scene(10, 128, 96), fps=RATE, gop=5)
    both = tmp_path / "in.ts"
    both.write_bytes(one.read_bytes() + two.read_bytes())
    screen = Screen()
    _, log = play(LiveSource(str(both)), bundle, screen)
    assert "another picture size" in {fault["reason"] for fault in log.faults}
    assert {picture.shape for picture in screen.pictures} == {(112, 192, 3)}
