"""Stages: decided frames -> covered frames -> encoder."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from orveil.pipeline.planes import bits_of, blank, planes_of
from orveil.stages.redaction.log import BlurSettings, Observer, RedactionLog
from orveil.stages.redaction.look import Look
from orveil.stages.redaction.mask import cover_planes, fill_planes, regions_px
from orveil.stages.redaction.pipes import Item

__all__ = ["Painter"]


class Painter:
    """Covers what was decided, in place, and notes it in the log.

    Args:
        settings, look, limits: see `BlurSettings`, `Look` and `search.limits_of`.
        exact: boxes are covered as they are, without a margin.
    """

    def __init__(
        self, settings: BlurSettings, look: Look, limits: NDArray[Any], log: RedactionLog, observer: Observer,
        exact: bool = False,
    ) -> None:  # fmt: skip
        self.settings, self.look, self.limits, self.log, self.observer = settings, look, limits, log, observer
        self.bits = bits_of(look.pixel_format)
        self.outer = 0.0 if exact else settings.margin
        self.inner = self.outer * (1.0 - settings.feather)

    def __call__(self, item: Item) -> Any:
        """The covered frame; a fault, or a frame nobody decided about, is covered as a whole."""
        if item.frame is None or item.fault or item.covered is None:
            return self._all(item)
        settings = self.settings
        where = (*self.look.size, self.limits)
        regions = regions_px(item.covered.xyxy, self.outer, *where)
        soft = None
        if self.inner < self.outer:
            hard = regions_px(item.covered.xyxy, self.inner, *where)
            if len(hard) == len(
                regions
            ):  # else a box reaches a limit with its margin only: cover all of that
                regions, soft = hard, regions
        cover_planes(
            planes_of(item.frame), regions, settings.style, settings.shape, self.bits,
            cells=settings.cells, soft=soft, limits=self.limits,
        )  # fmt: skip
        self.log.cover(item.covered, len(regions))
        self.observer.decided(item.index, item.pts, item.covered, "")
        self.observer.covered(item.index, regions)
        return item.frame

    def _all(self, item: Item) -> Any:
        frame = item.frame or blank(*self.look.size, self.look.pixel_format)
        fill_planes(planes_of(frame), self.bits)
        self.log.fault(item.index, item.fault or "not judged")
        self.observer.decided(item.index, item.pts, None, item.fault or "not judged")
        self.observer.covered(item.index, None)
        return frame
