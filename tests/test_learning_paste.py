"""Learning: people are cut out along what moves, and put in front of others with boxes that follow."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.stages import paste as pasting
from orveil.stages.cutouts import FEWEST_PICTURES, Cutout, cut_out, motion_masks
from orveil.stages.datasets import LabelledPictures, Pictures
from orveil.stages.mm_data import Augment, DetectionSample, detection_view
from orveil.stages.paste import Crowd, paste
from orveil.stages.targets import ALL_CLASSES, FrameTargets

WIDTH, HEIGHT = 240, 160
PERSON, HEAD = 0, 1
BODY = (24, 64)


def room() -> np.ndarray:
    """A textured wall, dark, so that nobody has its colours."""
    rng = np.random.default_rng(1)
    tiles = rng.integers(30, 90, (HEIGHT // 8, WIDTH // 8, 3))
    return np.repeat(np.repeat(tiles, 8, 0), 8, 1).astype(np.uint8)


def figure(seed: int = 2, size: tuple[int, int] = BODY) -> np.ndarray:
    """Bright clothes with a pattern."""
    w, h = size
    return np.random.default_rng(seed).integers(150, 250, (h, w, 3)).astype(np.uint8)


def sample(
    *persons: tuple[int, int], heads: bool = True, ignore: tuple[tuple[int, ...], ...] = ()
) -> DetectionSample:
    """A picture of people with the upper left corner at each place; `ignore` boxes end with their class."""
    image = room()
    boxes, labels, weights = [], [], []
    for number, (x, y) in enumerate(persons):
        w, h = BODY
        image[max(y, 0) : y + h, max(x, 0) : x + w] = figure(number + 2)[max(-y, 0) :, max(-x, 0) :][
            : HEIGHT - y, : WIDTH - x
        ]
        boxes.append((x, y, x + w, y + h))
        labels.append(PERSON)
        weights.append(0.8)
        if heads:
            boxes.append((x + 6, y, x + 18, y + 12))
            labels.append(HEAD)
            weights.append(0.5)
    return DetectionSample(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(weights, np.float32),
        np.array([box[:4] for box in ignore], np.float32).reshape(-1, 4),
        np.array([box[4] for box in ignore], np.int64),
    )


def moved(*persons: tuple[int, int]) -> np.ndarray:
    """The mask (H, W) of the figures of `sample`."""
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    for x, y in persons:
        mask[max(y, 0) : y + BODY[1], max(x, 0) : x + BODY[0]] = True
    return mask


def walk() -> list[DetectionSample]:
    """One person walks through the room, and is never at one place twice."""
    return [sample((6 + 28 * step, 60)) for step in range(8)]


def cutout(head: bool = True, size: tuple[int, int] = BODY) -> Cutout:
    w, h = size
    box = np.array([w / 4, 0, 3 * w / 4, w / 2], np.float32) if head else None
    return Cutout(figure(9, size), np.ones((h, w), np.bool_), 124.0, 0.7, box, 0.4)


TALL = cutout(size=(24, 80))


def placed(
    before: DetectionSample,
    corners: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
    bank: tuple[Cutout, ...] = (),
    mask: np.ndarray | None = None,
    head: int | None = HEAD,
) -> DetectionSample:
    """Paste unvaried cutouts, in the order of the bank, with the upper left corners at `corners`."""
    bank = bank or (cutout(),) * len(corners)
    places = iter(corners)
    chosen = iter(bank)
    monkeypatch.setattr(pasting, "MOST", 1 if len(corners) == 1 else len(corners))
    monkeypatch.setattr(pasting, "_varied", lambda *_: next(chosen))
    monkeypatch.setattr(pasting, "_corner", lambda *_: next(places))
    persons = [tuple(int(v) for v in box[:2]) for box in before.xyxy[before.labels == PERSON]]
    seed = next(
        s for s in range(99) if np.random.default_rng(s).integers(1, len(corners) + 1) == len(corners)
    )
    rng = np.random.default_rng(seed)
    return paste(before, moved(*persons) if mask is None else mask, bank, PERSON, head, rng)


def rows(view: DetectionSample, label: int) -> list[list[float]]:
    return view.xyxy[view.labels == label].tolist()


def hidden(view: DetectionSample) -> list[tuple[list[float], int]]:
    return list(zip(view.ignore.tolist(), view.ignore_labels.tolist(), strict=True))


def test_motion_is_where_the_person_is() -> None:
    samples = walk()
    for step, mask in enumerate(motion_masks([one.image for one in samples])):
        truth = moved((6 + 28 * step, 60))
        assert (mask & truth).sum() > 0.99 * truth.sum()
        # Pictures are blurred before they are compared, which widens what is found by about a pixel.
        assert (mask & ~cv2.dilate(truth.astype(np.uint8), np.ones((5, 5))).astype(bool)).sum() == 0


def test_a_lamp_is_no_motion() -> None:
    pictures = [one.image for one in walk()]
    pictures[3] = (pictures[3].astype(int) + 40).clip(max=255).astype(np.uint8)
    truth = moved((6 + 28 * 3, 60))
    mask = motion_masks(pictures)[3]
    assert (mask & truth).sum() > 0.9 * truth.sum()
    assert (mask & ~truth).sum() < 0.02 * truth.size


def test_few_pictures_show_no_motion() -> None:
    masks = motion_masks([one.image for one in walk()[: FEWEST_PICTURES - 1]])
    assert len(masks) == FEWEST_PICTURES - 1
    assert not np.stack(masks).any()
    assert motion_masks([]) == []


def test_who_stands_apart_is_cut_out_with_head_and_outline() -> None:
    before = sample((40, 50), (150, 70))
    inner = moved((40, 50), (150, 70))
    inner[50:60, 40:46] = False  # beside the head
    inner[80:90, 50:54] = False  # a pocket in the colour of the wall
    cut = cut_out(before, inner, PERSON, HEAD)
    assert [one.feet for one in cut] == [114.0, 134.0]
    first = cut[0]
    np.testing.assert_array_equal(first.image, before.image[50:114, 40:64])
    assert not first.mask[:10, :6].any()
    assert first.mask[30:40, 10:14].all(), "holes belong to the person"
    assert first.head is not None
    np.testing.assert_array_equal(first.head, [6, 0, 18, 12])
    assert (first.weight, first.head_weight) == (pytest.approx(0.8), pytest.approx(0.5))


def test_who_is_among_others_is_not_cut_out() -> None:
    pair = sample((40, 50), (54, 50))
    assert cut_out(pair, moved((40, 50), (54, 50)), PERSON, HEAD) == []
    box = (42, 52, 66, 112)
    doubtful, head = (sample((40, 50), ignore=((*box, label),)) for label in (ALL_CLASSES, HEAD))
    assert cut_out(doubtful, moved((40, 50)), PERSON, HEAD) == []
    assert len(cut_out(head, moved((40, 50)), PERSON, HEAD)) == 1


def test_half_a_body_and_no_motion_are_not_cut_out() -> None:
    before = sample((40, 50))
    half = moved((40, 50))
    half[:82] = False
    assert cut_out(before, half, PERSON, HEAD) == []
    assert cut_out(before, np.zeros_like(half), PERSON, HEAD) == []
    small = replace(before, xyxy=before.xyxy[:1] * 0.3, labels=before.labels[:1])
    assert cut_out(small, np.ones_like(half), PERSON, HEAD) == []


def test_two_heads_in_one_box_are_no_cutout_and_none_is_unknown() -> None:
    before = sample((40, 50))
    two = replace(before, labels=np.array([PERSON, HEAD, HEAD]), weights=np.ones(3, np.float32))
    two = replace(two, xyxy=np.concatenate([before.xyxy, before.xyxy[1:] + 3]))
    assert cut_out(two, moved((40, 50)), PERSON, HEAD) == []
    for one in (
        cut_out(sample((40, 50), heads=False), moved((40, 50)), PERSON, HEAD)[0],
        cut_out(before, moved((40, 50)), PERSON, None)[0],
    ):
        assert one.head is None


def test_a_person_beyond_the_border_is_cut_at_it() -> None:
    cut = cut_out(sample((225, 120)), moved((225, 120)), PERSON, HEAD)
    assert [one.mask.shape for one in cut] == [(40, 15)]
    assert cut[0].feet == HEIGHT


def test_who_has_nothing_in_the_picture_is_not_put_there(monkeypatch: pytest.MonkeyPatch) -> None:
    one = cutout()
    one.mask[:, :20] = False  # of the box, only this side reaches into the picture
    before = sample((40, 50))
    view = placed(before, [(WIDTH - 15, 45)], monkeypatch, bank=(one,))
    assert rows(view, PERSON) == rows(before, PERSON) and (view.image == before.image).all()


def test_who_is_half_covered_reaches_as_far_as_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    view = placed(sample((40, 50)), [(54, 45)], monkeypatch, bank=(TALL,))
    assert rows(view, PERSON) == [[40, 50, 54, 114], [54, 45, 78, 125]]
    np.testing.assert_allclose(view.weights[view.labels == PERSON], [0.8, 0.7])
    np.testing.assert_array_equal(view.image[60, 60:70], TALL.image[15, 6:16])


def test_feet_below_the_newcomer_still_reach_as_far(monkeypatch: pytest.MonkeyPatch) -> None:
    view = placed(sample((40, 50)), [(54, 35)], monkeypatch)
    assert rows(view, PERSON)[0] == [40, 50, 64, 114]


def test_a_side_that_is_not_covered_stays_where_it_was_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sample((40, 50))
    wide = replace(before, xyxy=before.xyxy + np.array([[-5, -4, 0, 3], [0, 0, 0, 0]], np.float32))
    view = placed(wide, [(54, 45)], monkeypatch, bank=(TALL,), mask=moved((40, 50)))
    assert rows(view, PERSON)[0] == [35, 46, 54, 117]


def test_who_is_covered_is_gone_and_who_is_mostly_covered_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = placed(sample((40, 50)), [(40, 50)], monkeypatch)
    assert rows(gone, PERSON) == [[40, 50, 64, 114]]
    assert rows(gone, HEAD) == [[46, 50, 58, 62]]
    assert hidden(gone) == []
    mostly = placed(sample((40, 50)), [(44, 50)], monkeypatch)
    assert rows(mostly, PERSON) == [[44, 50, 68, 114]]
    assert hidden(mostly) == [([40, 50, 64, 114], PERSON)]


def test_a_touch_changes_no_box(monkeypatch: pytest.MonkeyPatch) -> None:
    view = placed(sample((40, 50)), [(63, 110)], monkeypatch)
    assert rows(view, PERSON)[0] == [40, 50, 64, 114]


@pytest.mark.parametrize(("corner", "ignored"), [((54, 45), True), ((40, 50), False)])
def test_nobody_knows_what_is_left_of_who_keeps_still(
    corner: tuple[int, int], ignored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = placed(sample((40, 50)), [corner], monkeypatch, mask=moved())
    assert rows(view, PERSON) == [[*corner, corner[0] + 24, corner[1] + 64]]
    assert (([40, 50, 64, 114], PERSON) in hidden(view)) is ignored


@pytest.mark.parametrize(
    ("left", "known"), [(56, "label"), (52, "ignored"), (48, "gone")], ids=["a sixth", "half", "five sixths"]
)
def test_a_head_follows_what_covers_it(left: int, known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    view = placed(sample((40, 50)), [(left, 45)], monkeypatch, bank=(cutout(head=False),))
    box = [46, 50, 58, 62]
    assert (box in rows(view, HEAD)) is (known == "label")
    assert ((box, HEAD) in hidden(view)) is (known == "ignored")


def test_the_heads_of_newcomers(monkeypatch: pytest.MonkeyPatch) -> None:
    known = placed(sample(), [(100, 40)], monkeypatch)
    assert rows(known, HEAD) == [[106, 40, 118, 52]]
    np.testing.assert_allclose(known.weights, [0.7, 0.4])
    unknown = placed(sample(), [(100, 40)], monkeypatch, bank=(cutout(head=False),))
    assert hidden(unknown) == [([100, 40, 124, 104], HEAD)]
    assert placed(sample(heads=False), [(100, 40)], monkeypatch, head=None).labels.tolist() == [PERSON]
    above = placed(sample(), [(100, -40)], monkeypatch)
    assert rows(above, PERSON) == [[100, 0, 124, 24]]
    assert rows(above, HEAD) == []
    covered = placed(sample(), [(100, 40), (108, 40)], monkeypatch)
    assert rows(covered, PERSON) == [[100, 40, 108, 104], [108, 40, 132, 104]]
    assert rows(covered, HEAD) == [[114, 40, 126, 52]]


def test_a_newcomer_behind_another_is_ignored_or_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    mostly = placed(sample(), [(100, 40), (104, 40)], monkeypatch)
    assert rows(mostly, PERSON) == [[104, 40, 128, 104]]
    assert hidden(mostly) == [([100, 40, 104, 104], ALL_CLASSES)]
    gone = placed(sample(), [(100, 40), (100, 40)], monkeypatch)
    assert rows(gone, PERSON) == [[100, 40, 124, 104]]
    assert hidden(gone) == []
    outside = placed(sample(), [(WIDTH - 5, 40)], monkeypatch)
    assert len(outside.labels) == 0
    np.testing.assert_array_equal(outside.image, room())


def test_without_cutouts_nothing_changes() -> None:
    before = sample((40, 50))
    assert paste(before, moved((40, 50)), [], PERSON, HEAD, np.random.default_rng(0)) is before
    few = walk()[: FEWEST_PICTURES - 1]
    assert Crowd(few, ["cam"] * len(few), PERSON, HEAD).join(2, np.random.default_rng(0)) is few[2]


def test_cameras_keep_their_people() -> None:
    samples = walk()
    empty = [sample() for _ in range(FEWEST_PICTURES)]
    cameras = ["walked through"] * len(samples) + ["empty"] * len(empty)
    crowd = Crowd([*samples, *empty], cameras, PERSON, HEAD)
    assert crowd.join(len(samples), np.random.default_rng(0)) is empty[0]
    assert len(crowd.join(0, np.random.default_rng(0)).labels) > 2


@given(st.integers(0, 2**31), st.integers(0, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_labels_stay_in_the_picture_and_repeat(seed: int, step: int, heads: bool) -> None:
    corners = ((10 + 30 * step, 60), (20 + 30 * step, 90), (230, 20), (120, -20))
    before = sample(*corners, heads=heads, ignore=((0, 0, 30, 30, ALL_CLASSES),))
    untouched = before.image.copy()
    bank = [cutout(), cutout(head=False, size=(60, 140)), cutout(size=(9, 20))]
    views = [paste(before, moved(*corners), bank, PERSON, HEAD, np.random.default_rng(seed)) for _ in "ab"]
    np.testing.assert_array_equal(before.image, untouched)
    for one, other in zip(vars(views[0]).values(), vars(views[1]).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    view = views[0]
    assert len(view.xyxy) == len(view.labels) == len(view.weights)
    assert len(view.ignore) == len(view.ignore_labels)
    assert view.image.dtype == np.uint8
    given = {tuple(box) for box in np.concatenate([before.xyxy, before.ignore]).tolist()}
    for box in np.concatenate([view.xyxy, view.ignore]):
        assert np.isfinite(box).all()
        assert (box[:2] < box[2:]).all()
        if tuple(box.tolist()) not in given:
            # A label that reaches beyond the border was given so; where it is not covered it stays.
            low, high = np.minimum(before.xyxy[:, :2].min(0), 0), np.array([WIDTH, HEIGHT])
            assert (box[:2] >= low).all()
            assert (box[2:] <= np.maximum(before.xyxy[:, 2:].max(0), high)).all()
    assert (view.weights > 0).all()
    assert view.ignore.tolist()[0] == [0, 0, 30, 30]


def pictures_of_a_walk(crowds: bool) -> LabelledPictures:
    samples = walk()
    targets = [
        FrameTargets(
            "main", "cam", index, one.xyxy, one.labels, one.weights, one.ignore, one.ignore_labels,
            np.zeros(len(one.ignore), np.float32),
        )
        for index, one in enumerate(samples)
    ]  # fmt: skip
    pictures = Pictures([one.image for one in samples], [(1.0, 1.0)] * len(samples))
    order = np.repeat(np.arange(len(samples)), 2)
    return LabelledPictures(pictures, targets, {PERSON: 0, HEAD: 1}, order, crowds)


def test_a_view_is_a_function_of_its_numbers_and_shows_more_people() -> None:
    sources = pictures_of_a_walk(True), pictures_of_a_walk(True)
    augment = Augment(paste=1.0)
    crowded, again = (
        detection_view(source, 5, np.random.default_rng(3), augment, (256, 160), 240) for source in sources
    )
    for one, other in zip(vars(crowded).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(crowded.labels) > len(sources[0][5].labels)


def test_nobody_joins_unasked() -> None:
    source = pictures_of_a_walk(True)
    for seed in range(5):
        for augment in (Augment(), Augment(mosaic=1.0)):
            with_people, without = (
                detection_view(one, 5, np.random.default_rng(seed), augment, (256, 160), 240)
                for one in (source, Plain(source))
            )
            np.testing.assert_array_equal(with_people.image, without.image)
    unable = pictures_of_a_walk(False)
    assert unable.crowded(5, np.random.default_rng(0)) is unable[5]


class Plain:
    """A source that cannot put people into its pictures."""

    def __init__(self, source: LabelledPictures) -> None:
        self.source, self.sizes = source, source.sizes

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> DetectionSample:
        return self.source[index]


def test_every_picture_of_a_mosaic_can_get_people() -> None:
    source = pictures_of_a_walk(True)
    augment = Augment(scale=(1.0, 1.0), shift=0.0, flip=0.0, colour=0.0, blur=0.0, mosaic=1.0)

    def people(one: Augment) -> int:
        views = (detection_view(source, 5, np.random.default_rng(s), one, (480, 320), 240) for s in range(20))
        return sum(len(view.labels) for view in views)

    assert people(replace(augment, paste=1.0)) > 1.5 * people(augment)
