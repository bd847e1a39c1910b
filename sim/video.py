"""Writes a camera's pictures as H.264 in mp4, with gaps in time where pictures are missing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from orveil.pipeline.errors import OrveilError
from orveil.sim.audio import AudioTrack
from orveil.sim.maths import Array


class VideoWriter:
    """One mp4 file; times are multiples of 1 / fps, so a missing picture leaves a gap in the pts."""

    def __init__(
        self, path: Path, size: tuple[int, int], fps: Fraction, crf: int, sound: npt.NDArray[np.int16] | None
    ) -> None:
        import av

        self._av, self.path, self.fps = av, path, fps
        self._container: Any = av.open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=fps)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        # One thread and no B frames: the same pictures give the same bytes.
        self._stream.codec_context.thread_count = 1
        self._stream.options = {"crf": str(crf), "preset": "slow", "bf": "0", "threads": "1"}
        self._track = None if sound is None else AudioTrack(self._container, sound)
        self.written = 0

    def write(self, rgb: Array, slot: int) -> None:
        """Add one RGB picture (h, w, 3) shown at slot / fps seconds."""
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.pts, frame.time_base = slot, 1 / self.fps
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        if self._track is not None:
            self._track.write_until(float(slot / self.fps))
        self.written += 1

    def close(self) -> None:
        """Finish the file."""
        for packet in self._stream.encode():
            self._container.mux(packet)
        if self._track is not None:
            self._track.close()
        self._container.close()


def read_pts(path: Path, expected: int) -> list[int]:
    """Presentation times of all decoded frames in the file's own time base.

    Raises:
        OrveilError: the file does not hold as many frames as were written.

    """
    import av

    with av.open(str(path)) as container:
        pts = [int(frame.pts or 0) for frame in container.decode(video=0)]
    if len(pts) != expected:
        raise OrveilError(
            f"{len(pts)} frames instead of {expected}", where=str(path), remedy="render the site again"
        )
    return pts
