"""Coverage of faces: share of pixels, and the longest time that a visible face stays exposed."""

from __future__ import annotations

import numpy as np
import pytest

from orveil.pipeline.types import FACE, HEAD, PERSON
from orveil.sim.rle import encode_mask
from orveil.stages.exposure import FaceCover, cover_faces, summarise_cover
from orveil.stages.truth import Truth, TruthBoxes, TruthFrames

SIZE = (40, 60)


def face_mask(x: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[10:20, x : x + 10] = True
    return mask


def truth_of(frames: int, faces: list[tuple[int, int, int, bool]]) -> Truth:
    """Faces (frame, track, x, visible) in one camera at 10 frames per second."""
    index = np.arange(frames)
    name = np.array(["main"] * frames), np.array(["cam"] * frames)
    size = np.tile([SIZE[1], SIZE[0]], (frames, 1))
    n = len(faces)
    boxes = TruthBoxes(
        frame=np.array([f for f, _, _, _ in faces], dtype=np.int64),
        xyxy=np.array([[x, 10, x + 10, 20] for _, _, x, _ in faces], dtype=np.float32).reshape(-1, 4),
        track_id=np.array([t for _, t, _, _ in faces], dtype=np.int64),
        is_hard=np.zeros(n, dtype=bool),
        ignore=np.zeros(n, dtype=bool),
        face_visible=np.array([v for _, _, _, v in faces], dtype=bool),
        masks=tuple(encode_mask(face_mask(x)) for _, _, x, _ in faces),
    )
    return Truth(
        TruthFrames(*name, index, index / 10, index, size), {FACE: boxes}, frozenset({PERSON, HEAD, FACE}), 0
    )


def test_coverage_is_the_share_of_pixels_of_all_visible_faces():
    truth = truth_of(2, [(0, 1, 5, True), (0, 2, 30, True), (1, 1, 5, False)])
    drawn = face_mask(5) | (face_mask(30) & (np.arange(SIZE[1]) < 35))
    covers = cover_faces(truth, lambda session, camera, frame: drawn)
    assert [(c.track_id, c.covered, c.pixels) for c in covers] == [(1, 100, 100), (2, 50, 100)]
    result = summarise_cover(covers, 0.9)
    assert result["coverage"] == pytest.approx(0.75)
    assert (result["faces"], result["exposed_faces"]) == (2, 1)


def test_frames_that_were_not_put_out_do_not_count():
    truth = truth_of(2, [(0, 1, 5, True), (1, 1, 5, True)])
    covers = cover_faces(truth, lambda session, camera, frame: None if frame else face_mask(5))
    assert [c.index for c in covers] == [0]


@pytest.mark.parametrize("shape", [(40, 60), (30, 50), (80, 90)])
def test_a_mask_of_another_size_is_cut_or_padded_with_nothing(shape):
    truth = truth_of(1, [(0, 1, 45, True)])
    covers = cover_faces(truth, lambda *_: np.ones(shape, dtype=bool))
    assert covers[0].covered == (50 if shape == (30, 50) else 100)


def cover(track, index, share, camera="cam"):
    return FaceCover("main", camera, track, index, index / 10, round(share * 100), 100)


def test_longest_exposure_is_a_run_of_one_person_in_one_camera():
    covers = [
        *(cover(1, i, 0.2) for i in (3, 4)),
        cover(1, 5, 0.95),
        *(cover(1, i, 0.89) for i in (6, 7, 8)),
        # Two people that are exposed one after the other, and one with a frame in which it is not visible.
        *(cover(2, i, 0.0) for i in (9, 10)),
        *(cover(3, i, 0.0) for i in (1, 2, 4, 5)),
        *(cover(1, i, 0.0, "other") for i in (9, 10)),
    ]
    longest = summarise_cover(covers, 0.9)["longest_exposure"]
    assert (longest["frames"], longest["camera"], longest["first_frame"]) == (3, "cam", 6)
    assert longest["seconds"] == pytest.approx(0.3)


def test_nothing_to_see_and_nothing_exposed():
    assert summarise_cover([], 0.9) == {
        "faces": 0,
        "coverage": None,
        "exposed_faces": None,
        "longest_exposure": None,
    }
    result = summarise_cover([cover(1, 0, 1.0)], 0.9)
    assert result["longest_exposure"] == {"frames": 0, "seconds": 0.0}
    assert result["coverage"] == 1.0
