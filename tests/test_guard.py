"""The guard: a worse detector is rolled back, a better one goes on, and nothing of it needs ground truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orveil.pipeline.settings import FinetuneParams, GuardParams
from orveil.pipeline.stage import Context, InputRef, Shard
from orveil.pipeline.tables import write_table
from orveil.pipeline.types import IGNORE, PERSON, POSITIVE, Detections, FrameLabels, PseudoLabels
from orveil.stages.finetune import Finetune
from orveil.stages.guard import Guard, agreement, judge

FRAMES, CAMERAS = 40, ("cam1", "cam2")
PEOPLE = ((10, 20, 50, 120), (90, 30, 130, 140), (200, 10, 240, 90))
Rows = list[tuple[str, int, tuple[int, int, int, int], float]]


def detections(rows: Rows) -> Detections:
    cameras, frames, boxes, scores = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Detections(
        session=["main"] * len(rows), camera=cameras, index=frames, pts=frames, det_id=range(len(rows)),
        xyxy=boxes, score=scores, label=[PERSON] * len(rows),
    )  # fmt: skip


def labels(rows: Rows) -> PseudoLabels:
    table = detections(rows)
    state = np.where(table.score >= 0.5, POSITIVE, IGNORE)
    return PseudoLabels(
        session=table.session, camera=table.camera, index=table.index, pts=table.pts, label_id=table.det_id,
        track_id=table.det_id, person_id=table.det_id, xyxy=table.xyxy, label=table.label, score=table.score,
        weight=np.where(state == POSITIVE, table.score, 0), state=state, source=["detected"] * len(rows),
        round=[1] * len(rows),
    )  # fmt: skip


def site(people: int = 3, score: float = 0.9, cameras: tuple[str, ...] = CAMERAS) -> Rows:
    return [(c, f, box, score) for c in cameras for f in range(FRAMES) for box in PEOPLE[:people]]


CLUTTER: Rows = [(c, f, (300 + f, 50, 340 + f, 100), 0.95) for c in CAMERAS for f in range(FRAMES)]
TRUTHFUL = labels(site())


def test_finding_what_tracks_say_is_better_than_finding_less() -> None:
    some, everybody = detections(site(1)), detections(site(3))
    verdict = judge([some, everybody], [TRUTHFUL, TRUTHFUL], set(), GuardParams())
    assert verdict["kept"] == "after"
    assert verdict["gain"] > 0.3
    assert judge([everybody, some], [TRUTHFUL, TRUTHFUL], set(), GuardParams())["kept"] == "before"


def test_shouting_at_everything_is_rolled_back() -> None:
    before, after = detections(site(3)), detections(site(3) + CLUTTER)
    verdict = judge([before, after], [TRUTHFUL, TRUTHFUL], set(), GuardParams())
    assert verdict["kept"] == "before"
    assert "fell" in verdict["reason"]


def test_a_mannequin_that_labels_call_doubtful_is_no_gain() -> None:
    mannequin: Rows = [("cam1", f, (300, 50, 340, 160), 0.2) for f in range(FRAMES)]
    reference = labels(site() + mannequin)
    found: Rows = [(*row[:3], 0.99) for row in mannequin]
    verdict = judge([detections(site()), detections(site() + found)], [reference] * 2, set(), GuardParams())
    assert verdict["kept"] == "before"


def test_one_blind_camera_is_not_made_up_for_by_others() -> None:
    before = detections(site(2, cameras=("cam1",)) + site(3, cameras=("cam2",)))
    after = detections(site(3, cameras=("cam1",)) + site(2, cameras=("cam2",)))
    verdict = judge([before, after], [TRUTHFUL, TRUTHFUL], set(), GuardParams(may_lose=0.5))
    assert verdict["kept"] == "before"
    assert "main/cam2" in verdict["reason"]


def test_each_detector_is_judged_by_both_references() -> None:
    """Labels made from one detector's own candidates cannot decide alone in its favour."""
    some, everybody = detections(site(1)), detections(site(3))
    self_satisfied = labels(site(1))
    verdict = judge([some, everybody], [self_satisfied, TRUTHFUL], set(), GuardParams())
    assert agreement(some, self_satisfied, set()) == pytest.approx(0.9, abs=0.01)
    assert verdict["kept"] == "after"


def test_frames_of_the_training_do_not_count() -> None:
    trained = {("main", c, f) for c in CAMERAS for f in range(FRAMES // 2)}
    learned_by_heart = detections([row for row in site() if row[1] < FRAMES // 2])
    assert agreement(learned_by_heart, TRUTHFUL, trained) == 0.0
    assert agreement(learned_by_heart, TRUTHFUL, trained | {("main", "cam1", 99)}) == 0.0
    everything = {("main", c, f) for c in CAMERAS for f in range(FRAMES)}
    assert agreement(detections(site()), TRUTHFUL, everything) is None


def test_nobody_anywhere_keeps_the_round() -> None:
    verdict = judge([detections([])] * 2, [labels([])] * 2, set(), GuardParams())
    assert verdict == {"kept": "after", "reason": "", "gain": 0.0, "cameras": {}}


@given(
    st.lists(st.tuples(st.integers(0, FRAMES - 1), st.integers(0, 2), st.floats(0.05, 1)), max_size=60),
    st.floats(0.1, 1),
)
def test_agreement_is_a_share_and_more_right_boxes_never_lower_it(
    rows: list[tuple[int, int, float]], probability: float
) -> None:
    reference = labels(site(3, probability))
    found = {(frame, person): score for frame, person, score in rows}
    made: Rows = [("cam1", frame, PEOPLE[person], score) for (frame, person), score in found.items()]
    value = agreement(detections(made), reference, set())
    more = agreement(detections(made + site(3, 0.01, ("cam2",))), reference, set())
    assert value is not None and more is not None
    assert 0.0 <= value <= more + 1e-9 <= 1.0 + 2e-9


def weights_dir(path: Path, content: bytes) -> InputRef:
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(content)
    (path / "config.py").write_text("kind = 'detector'\n")
    info = {"kind": "detector", "classes": ["person"], "long_side": 512, "sha256": content.hex() * 8,
            "freeze_bn": False, "source": "test", "training": {"iterations": 3}}  # fmt: skip
    (path / "weights.json").write_text(json.dumps(info))
    return InputRef(path.name, path.name, ((Shard(), path),))


def tables(path: Path, *made: Any) -> InputRef:
    path.mkdir(parents=True)
    for table in made:
        write_table(table, path)
    return InputRef(path.name, path.name, ((Shard("main"), path),))


def run_guard(tmp_path: Path, before: Rows, after: Rows) -> tuple[Path, dict[str, InputRef]]:
    nobody = FrameLabels.empty()
    inputs = {
        "before": weights_dir(tmp_path / "w0", b"old!"),
        "after": weights_dir(tmp_path / "w1", b"new!"),
        "candidates_before": tables(tmp_path / "c0", detections(before)),
        "candidates_after": tables(tmp_path / "c1", detections(after)),
        "labels_before": tables(tmp_path / "l0", TRUTHFUL, nobody),
        "labels_after": tables(tmp_path / "l1", TRUTHFUL, nobody),
    }
    out = tmp_path / "out"
    out.mkdir()
    context = Context(seed=0, scratch=tmp_path, progress=lambda *_: None)
    Guard().run(GuardParams(), inputs, Shard(), out, context)
    return out, inputs


def test_an_accepted_round_is_passed_on_byte_for_byte(tmp_path: Path) -> None:
    out, inputs = run_guard(tmp_path, site(1), site(3))
    for name in ("model.safetensors", "config.py", "weights.json"):
        assert (out / name).read_bytes() == (inputs["after"].path / name).read_bytes()
    assert json.loads((out / "guard.json").read_text())["kept"] == "after"


def test_a_rolled_back_round_stops_the_rounds_after_it(tmp_path: Path) -> None:
    out, _ = run_guard(tmp_path, site(3), site(1))
    assert (out / "model.safetensors").read_bytes() == b"old!"
    training = json.loads((out / "weights.json").read_text())["training"]
    assert training["stopped"]
    assert "rolled back" in training["skipped"]
    following = tmp_path / "next"
    following.mkdir()
    context = Context(seed=0, scratch=tmp_path, progress=lambda *_: None)
    Finetune().run(
        FinetuneParams(), {"weights": InputRef("guard_1", "", ((Shard(), out),))}, Shard(), following, context
    )
    assert (following / "model.safetensors").read_bytes() == b"old!"
