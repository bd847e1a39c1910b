"""Stage: the tracks of all cameras grouped into persons; learned from synchronisation alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.kinds import AssociationsKind, MediaKind, TracksKind
from orveil.pipeline.media import upright_size
from orveil.pipeline.settings import AssociateParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import read_table, read_tables, write_table
from orveil.pipeline.types import Associations, MediaFiles, MediaIndex, Tracks
from orveil.stages.camera_health import CameraHealth, camera_health, write_health
from orveil.stages.chunks import Recordings, of_chunk, unique_ids
from orveil.trackers.clock import clock_offsets
from orveil.trackers.crossview import CrossView, View, learn
from orveil.trackers.doubles import frames_of, without_nested
from orveil.trackers.ground import learn_ground, smooth_heads, teaching_ticks
from orveil.trackers.ground_pairs import FloorTracks, floor_tracks, weigh_floor
from orveil.trackers.grouping import Grouping, group
from orveil.trackers.judging import judge, spans, weigh_pairs
from orveil.trackers.moved import find_move
from orveil.trackers.pairing import Pairs, Scene, sum_ratios
from orveil.trackers.sync import ticks

__all__ = ["Associate", "associate_session"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

SURE_SCORE = 0.5
"""Tracks with a box from here on teach, and found persons."""
SURE_BOXES = 3
"""So many confident boxes make a track sure; fewer where it is shorter."""
LEARN_EVERY_S = 0.4
"""Neighbouring frames teach nearly the same: each counts for its share of this time, and half of it apart
are those that are looked at."""
JUDGE_EVERY_S = 0.4
"""Pairs of tracks are compared so far apart in time."""
PERSON_SCORE = 0.3
"""Boxes from here on help to place the cameras."""
NESTED = 0.6
"""Of those, one containing this much of a better one, or contained in one, is left out."""
PART_EPOCHS = 25
SETTLED_FRAMES = 300
"""Independent frames from which a pair of cameras is judged by what was learned freely, not by the floor."""
SHORT_S = 24.0
"""In shorter videos only the common floor matches, and nothing is said about clocks and moves: what is
learned freely in so short a time is wrong more often than right."""


class Associate:
    """media, tracks -> Associations: one shard per session."""

    name: ClassVar[str] = "associate"
    version: ClassVar[int] = 8
    needs: ClassVar[Resources] = Resources()
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {"media": MediaKind, "tracks": TracksKind}
    produces: ClassVar[type[ArtifactType]] = AssociationsKind
    volatile: ClassVar[frozenset[str]] = frozenset()

    _recordings: Recordings

    def shards(self, params: AssociateParams, inputs: Inputs) -> Sequence[Shard]:
        """One shard per session; several for a long one, by time: cameras may be moved in between."""
        recordings = Recordings(inputs["media"])
        return [shard for session in recordings.sessions() for shard in recordings.shards(session)]

    def setup(self, params: AssociateParams, inputs: Inputs, context: Context) -> None:
        """Read which frames there are."""
        self._recordings = Recordings(inputs["media"])

    def run(self, params: AssociateParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Match one piece of a session and write `associations.parquet` and `cameras.json`."""
        files = read_table(MediaFiles, inputs["media"].path)
        tracks = read_tables(Tracks, of_chunk(inputs["tracks"], shard).paths())
        found = _learn(
            files.select(files.session == shard.session),
            self._recordings.frames(shard),
            tracks.select(tracks.session == shard.session),
            params,
            context.seed,
        )
        result = _associations(found, np.array([shard.session]), params)
        write_table(replace(result, person_id=unique_ids(result.person_id, shard)), out)
        write_health(_health(found, context.seed), out)
        context.progress(len(tracks), len(tracks), "boxes")


@dataclass(frozen=True)
class _Learned:
    """One session, what synchronisation taught about its views, and what that says of pairs of tracks: the
    ratio (P,) of each on its own, and log odds (P,) given the others."""

    cameras: list[str]
    scene: Scene
    names: list[tuple[str, int]]
    views: list[View]
    independence: float
    settled: set[tuple[int, int]]
    """Pairs of cameras that were seen together long enough: what was learned freely knows lens and habits
    better there than the floor does."""
    floor: FloorTracks
    model: CrossView
    pairs: Pairs
    ratio: Doubles
    odds: Doubles


def associate_session(
    files: MediaFiles, frames: MediaIndex, tracks: Tracks, params: AssociateParams, seed: int
) -> Associations:
    """Persons of one session.

    Args:
        files: one row per camera (picture sizes).
        frames: every frame of every camera, with times on the common clock.
        tracks: tracks of every camera.
        params: thresholds and effort.
        seed: the only source of randomness.

    Returns:
        One row per track, in order of camera and track. With one camera, or where two cameras never show
        people at the same time, every track is its own person with probability 0.
    """
    return _associations(_learn(files, frames, tracks, params, seed), files.session[:1], params)


def _learn(
    files: MediaFiles, frames: MediaIndex, tracks: Tracks, params: AssociateParams, seed: int
) -> _Learned:
    cameras = sorted(set(files.camera.tolist()))
    scene, names = _scene(cameras, frames, tracks)
    views, independence = _views(scene, files, cameras, params.max_frames)
    settled = _settled(views, independence)
    floor = FloorTracks({}, {}, {}) if all(settled.values()) else _floor(scene, [v.size for v in views])
    if independence < 1.0 and np.ptp(scene.tick_s) < SHORT_S:
        model = CrossView((None,) * len(cameras), (None,) * len(cameras), {})
    else:
        model = learn(views, np.random.default_rng(seed), params.epochs, independence=independence)
    looks = _spaced(scene)
    pairs, ratio = weigh_pairs(looks, partial(sum_ratios, looks, model))
    odds = judge(scene, pairs, ratio)
    kept = {pair for pair in model.pairs if settled[pair]}
    return _Learned(cameras, scene, names, views, independence, kept, floor, model, pairs, ratio, odds)


def _spaced(scene: Scene) -> Scene:
    """The scene at ticks JUDGE_EVERY_S apart."""
    slot = np.floor((scene.tick_s - scene.tick_s[:1]) / JUDGE_EVERY_S + 1e-6)
    first = np.unique(slot, return_index=True)[1]
    number = np.full(len(scene.tick_s), -1, np.int64)
    number[first] = np.arange(len(first))
    rows = number[scene.tick] >= 0
    return replace(
        scene,
        camera=scene.camera[rows],
        tick=number[scene.tick[rows]],
        track=scene.track[rows],
        xyxy=scene.xyxy[rows],
        score=scene.score[rows],
        tick_s=scene.tick_s[first],
    )


def _associations(found: _Learned, session: NDArray[np.str_], params: AssociateParams) -> Associations:
    scene, pairs, odds, floor = found.scene, found.pairs, found.odds, found.floor
    if len(floor.rows) > 1:
        learned = (found.pairs, found.ratio)
        pairs, ratio = _merged(scene, learned, weigh_floor(scene, floor), set(floor.rows), found.settled)
        odds = judge(scene, pairs, ratio)
    return _table(scene, found.names, session, pairs, odds, params.min_probability)


def _health(found: _Learned, seed: int) -> list[CameraHealth]:
    scene, model = found.scene, found.model
    looks = _spaced(scene)
    nearest = np.searchsorted(looks.tick_s, scene.tick_s, "right") - 1

    def relearn(chosen: NDArray[np.bool_]) -> CrossView:
        return _learn_part(found.views, seed, found.independence, chosen[nearest])

    move = find_move(looks, model, relearn)
    clocks = clock_offsets(scene, model, found.pairs, found.odds, move.cameras if move else ())
    return camera_health(found.cameras, clocks, move)


def _learn_part(views: list[View], seed: int, independence: float, ticks: NDArray[np.bool_]) -> CrossView:
    """What a choice (K,) of ticks teaches, with less effort: only to be compared."""
    chosen = [ticks[v.tick] for v in views]
    parts = [
        View(v.tick[kept], v.xyxy[kept], v.weight[kept], v.size)
        for v, kept in zip(views, chosen, strict=True)
    ]
    return learn(
        parts, np.random.default_rng(seed), epochs=PART_EPOCHS, restarts=1, independence=independence
    )


def _scene(cameras: list[str], frames: MediaIndex, tracks: Tracks) -> tuple[Scene, list[tuple[str, int]]]:
    """Boxes of all tracks on the common timeline, and camera and track id of each track number."""
    per_camera = [frames.select(frames.camera == c) for c in cameras]
    line, of_frame = ticks([t.time_s for t in per_camera])
    camera = np.searchsorted(np.array(cameras), tracks.camera) if len(tracks) else np.zeros(0, np.int64)
    tick = np.full(len(tracks), -1, np.int64)
    for c, (table, numbers) in enumerate(zip(per_camera, of_frame, strict=True)):
        order = np.argsort(table.index, kind="stable")
        rows = np.flatnonzero(camera == c)
        tick[rows] = numbers[order][np.searchsorted(table.index[order], tracks.index[rows])]
    key = np.stack([camera, tracks.track_id], axis=1).reshape(-1, 2)
    unique, number = np.unique(key, axis=0, return_inverse=True)
    number = number.reshape(-1)
    size = np.bincount(number, minlength=len(unique))
    confident = np.bincount(number, tracks.score >= SURE_SCORE, minlength=len(unique))
    timed = tick >= 0
    scene = Scene(
        camera=np.asarray(camera, np.int64)[timed],
        tick=tick[timed],
        track=number[timed],
        xyxy=tracks.xyxy[timed],
        score=tracks.score[timed],
        sure=confident >= np.minimum(np.maximum(size // 4, 1), SURE_BOXES),
        track_camera=unique[:, 0].astype(np.int64),
        tick_s=line,
    )
    return scene, [(cameras[int(c)], int(t)) for c, t in unique]


def _views(scene: Scene, files: MediaFiles, cameras: list[str], max_frames: int) -> tuple[list[View], float]:
    """The confident boxes of up to `max_frames` ticks, evenly chosen, doubled boxes left out; and how
    many independent frames a tick stands for."""
    span = float(np.ptp(scene.tick_s)) if len(scene.tick_s) else 0.0
    count = min(max_frames, 1 + int(2 * span / LEARN_EVERY_S))
    chosen = np.unique(np.linspace(0, max(len(scene.tick_s) - 1, 0), count).astype(int))
    usable = np.zeros(len(scene.tick_s), np.bool_)
    usable[chosen[: len(scene.tick_s)]] = True
    step = float(np.median(np.diff(scene.tick_s[usable]))) if usable.sum() > 1 else LEARN_EVERY_S
    share = min(1.0, step / LEARN_EVERY_S)
    views = []
    for c, name in enumerate(cameras):
        file = int(np.flatnonzero(files.camera == name)[0])
        size = upright_size(int(files.width[file]), int(files.height[file]), int(files.rotation[file]))
        rows = np.flatnonzero((scene.camera == c) & usable[scene.tick] & (scene.score >= SURE_SCORE))
        rows = without_nested(frames_of(scene.camera, scene.tick, rows), scene.xyxy, scene.score)
        weight = share * scene.score[rows].astype(np.float64)
        views.append(View(scene.tick[rows], scene.xyxy[rows], weight, np.array(size, np.float64)))
    return views, share


def _floor(scene: Scene, sizes: list[Doubles]) -> FloorTracks:
    """The boxes of the cameras that could be placed on one floor."""
    teaching = teaching_ticks(scene.tick_s)[scene.tick]
    frames = frames_of(scene.camera, scene.tick, np.flatnonzero(teaching & (scene.score >= PERSON_SCORE)))
    rows = without_nested(frames, scene.xyxy, scene.score, NESTED)
    heads = smooth_heads(scene, sizes)
    return floor_tracks(scene, learn_ground(scene, rows, sizes, heads), heads)


def _settled(views: list[View], independence: float) -> dict[tuple[int, int], bool]:
    """Of the pairs of cameras that show people at one time, whether they did so long enough."""
    out = {}
    for a, b in combinations(range(len(views)), 2):
        common = len(np.intersect1d(views[a].tick, views[b].tick))
        if common:
            out[a, b] = common * independence >= SETTLED_FRAMES
    return out


def _merged(
    scene: Scene,
    learned: tuple[Pairs, Doubles],
    placed: tuple[Pairs, Doubles],
    cameras: set[int],
    settled: set[tuple[int, int]],
) -> tuple[Pairs, Doubles]:
    """Pairs of both sources: of cameras on the common floor from there, unless they have settled."""

    def by_floor(pairs: Pairs) -> NDArray[np.bool_]:
        views = zip(scene.track_camera[pairs.a].tolist(), scene.track_camera[pairs.b].tolist(), strict=True)
        return np.array([{*v} <= cameras and v not in settled for v in views], np.bool_)

    one, other = ~by_floor(learned[0]), by_floor(placed[0])
    fields = ("a", "b", "score", "support")
    joined = [np.concatenate([getattr(learned[0], f)[one], getattr(placed[0], f)[other]]) for f in fields]
    return Pairs(*joined), np.concatenate([learned[1][one], placed[1][other]])


@dataclass(frozen=True)
class _Matches:
    """Per track: probability, margin and number of common ticks of its match; the final groups."""

    probability: Doubles
    margin: Doubles
    support: Ints
    groups: Grouping


def _match(scene: Scene, pairs: Pairs, odds: Doubles, min_probability: float) -> _Matches:
    """Group the tracks, and say for each how sure its place in its group is."""
    count = len(scene.sure)
    first, last = spans(scene)
    floor = float(np.log(min_probability) - np.log1p(-min_probability))
    edges = list(zip(pairs.a.tolist(), pairs.b.tolist(), (odds - floor).tolist(), strict=True))
    groups = group(scene.track_camera, first, last, scene.sure, edges)
    of = np.array(groups.of, np.int64)
    a, b = np.concatenate([pairs.a, pairs.b]), np.concatenate([pairs.b, pairs.a])
    value, support = np.tile(odds, 2), np.tile(pairs.support, 2)
    # Evidence of a track for each group it was compared with: that for its best partner there, because
    # what the others say is in those odds.
    key = a * count + of[b]
    keys, where = np.unique(key, return_inverse=True)
    worth = np.full(len(keys), -np.inf)
    np.maximum.at(worth, where, value)
    ticks_shared = np.bincount(where, support, minlength=len(keys)).astype(np.int64)
    track, target = keys // max(count, 1), keys % max(count, 1)
    own = target == of[track]
    mine, other = np.full(count, -np.inf), np.full(count, -floor)
    mine[track[own]] = worth[own]
    np.maximum.at(other, track[~own], worth[~own])
    shared = np.zeros(count, np.int64)
    shared[track[own]] = ticks_shared[own]
    probability = np.where(np.isfinite(mine), 1.0 / (1.0 + np.exp(-np.clip(mine, -30, 30))), 0.0)
    margin = np.where(np.isfinite(mine), mine - other, 0.0)
    return _Matches(probability, margin, shared, groups)


def _table(
    scene: Scene,
    names: list[tuple[str, int]],
    session: NDArray[np.str_],
    pairs: Pairs,
    odds: Doubles,
    min_probability: float,
) -> Associations:
    """One row per track; tracks whose match is less probable than allowed stand alone."""
    if not names:
        return Associations.empty()
    found = _match(scene, pairs, odds, min_probability)
    of = np.array(found.groups.of, np.int64)
    matched = (found.probability >= min_probability) & (found.support > 0)
    person = np.where(matched, of, len(names) + np.arange(len(names)))
    cameras = {p: len(set(scene.track_camera[person == p].tolist())) for p in set(person[matched].tolist())}
    views = np.array([cameras.get(int(p), 1) for p in person], np.int64)
    # Who lost every partner to the threshold is unmatched as well.
    matched &= views > 1
    _, person = np.unique(np.where(matched, person, len(names) + np.arange(len(names))), return_inverse=True)
    return Associations(
        session=np.repeat(session, len(names)),
        camera=np.array([name for name, _ in names]),
        track_id=np.array([track for _, track in names], np.int64),
        person_id=person.reshape(-1),
        probability=np.where(matched, found.probability, 0.0).astype(np.float32),
        margin=np.where(matched, found.margin, 0.0).astype(np.float32),
        views=np.where(matched, views, 1),
        support=np.where(matched, found.support, 0),
    )
