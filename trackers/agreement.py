"""Trackers: what all pairs of tracks say together: other cameras agree, and nobody has two partners at once.

Evidence for a pair of tracks is worth more where a third camera agrees, and less where each of the two has
a better partner. Both are sums over a sparse graph whose edges are the pairs, so that single boxes of
single frames and tracks of minutes are handled alike. The first is the likelihood ratio of three views;
the second are marginals of a matching by belief propagation, as in `matching`, with the conflicts of
tracks that overlap in time in place of rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

__all__ = ["Links", "agree", "link"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

THIRD = 2.0 / 3.0
"""Trust in the way by a third camera: of its two looks and the direct one, two are independent."""
SEEN = 0.75
"""Share of people of two views who are expected in a third one, where it shows somebody."""
MOST = 12.0
"""Evidence of a pair of tracks for a way by a third camera stays within this."""
MOST_WAYS = 2_000_000
"""Ways by a third camera that are looked at in one go."""
ITERATIONS = 12
SHARE_ROUNDS = 5
HIGHEST = 20.0


@dataclass(frozen=True)
class Links:
    """P pairs of tracks and how they compete.

    Attributes:
        crowd_a, crowd_b: (P,) number of pairs between track a (b) and the other's camera at one time, itself
            included.
        rows: (Q,) pairs that are not hopeless; what follows is about these.
        a, b: (Q,) tracks, a in the camera with the lower number; camera: (T,) of every track.
        rivals_a: (Q, Q) sparse, 1 where two pairs share track a and their other tracks, of one camera,
            overlap in time; rivals_b: the same with the roles exchanged.
    """

    crowd_a: Doubles
    crowd_b: Doubles
    rows: Ints
    a: Ints
    b: Ints
    camera: Ints
    rivals_a: csr_array
    rivals_b: csr_array


def link(a: Ints, b: Ints, camera: Ints, first: Ints, last: Ints, hopeful: Bools | None = None) -> Links:
    """Find out which pairs compete.

    Args:
        a: (P,) tracks; b: (P,) tracks in a camera with a higher number.
        camera: (T,) camera of every track; first, last: (T,) its first and last tick.
        hopeful: (P,) pairs that may be right; the others count as seen, but not as rivals. None: all.
    """
    rows = np.arange(len(a)) if hopeful is None else np.flatnonzero(hopeful)
    crowd_a, crowd_b = (_crowd(own, far, camera, first, last) for own, far in ((a, b), (b, a)))
    a, b = a[rows], b[rows]
    rivals = [_rivals(own, far, camera, first, last) for own, far in ((a, b), (b, a))]
    return Links(crowd_a, crowd_b, rows, a, b, camera, *rivals)


def _crowd(own: Ints, far: Ints, camera: Ints, first: Ints, last: Ints) -> Doubles:
    """Number (P,) of pairs of the same own track whose far tracks, of one camera, overlap in time."""
    group = own * (int(camera.max(initial=0)) + 1) + camera[far]
    span = int(last.max(initial=0)) + 2
    begin, end = group * span + first[far], group * span + last[far]
    gone = np.searchsorted(np.sort(end), begin)
    begun = np.searchsorted(np.sort(begin), end, "right")
    return (begun - gone).astype(np.float64)


def _rivals(own: Ints, far: Ints, camera: Ints, first: Ints, last: Ints) -> csr_array:
    """Pairs of the same own track whose far tracks, of one camera, overlap in time: (Q, Q)."""
    group = own * (int(camera.max(initial=0)) + 1) + camera[far]
    span = int(last.max(initial=0)) + 2
    begin, end = group * span + first[far], group * span + last[far]
    order = np.argsort(begin, kind="stable")
    # Rivals of a pair that begin no earlier than it are those up to its end: nothing else is looked at.
    after = np.searchsorted(begin[order], end[order], "right") - np.arange(1, len(order) + 1)
    i = np.repeat(np.arange(len(order)), after)
    j = i + 1 + _count_up(after)
    i, j = order[i], order[j]
    shape = (len(own), len(own))
    both = (np.concatenate([i, j]), np.concatenate([j, i]))
    return coo_array((np.ones(2 * len(i)), both), shape=shape).tocsr()


def _count_up(sizes: Ints) -> Ints:
    """0, 1, ... anew for every group of the given sizes (G,)."""
    return np.asarray(np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes))


def agree(links: Links, ratio: Doubles, kind: Ints, share: float = 0.5) -> Doubles:
    """Log odds (P,) that two tracks are one person, given everything.

    Args:
        links: the pairs.
        ratio: (P,) log-likelihood ratio of each pair on its own.
        kind: (P,) class of each pair; how many pairs of a class are right is found from the pairs.
        share: that share to begin with: of possible partners, per class.

    Hopeless pairs keep their ratio.
    """
    rows = links.rows
    if not len(rows):
        return ratio
    possible = np.bincount(kind, 1.0 / np.maximum(links.crowd_a, links.crowd_b))
    evidence, kind = ratio[rows] + THIRD * _third(links, ratio[rows]), kind[rows]
    crowd = 0.5 * np.log(links.crowd_a * links.crowd_b)[rows]
    shares = np.full(len(possible), share)
    odds = evidence
    for _ in range(SHARE_ROUNDS):
        prior = np.log(shares) - np.log1p(-shares)
        odds = _marginals(links, np.exp(np.minimum(evidence + prior[kind] - crowd, HIGHEST)))
        right = np.bincount(kind, 1.0 / (1.0 + np.exp(-odds)), minlength=len(possible))
        shares = np.clip(right / np.maximum(possible, 1e-9), 0.01, 0.95)
    out = ratio.astype(np.float64)
    out[rows] = odds
    return out


def _marginals(links: Links, psi: Doubles) -> Doubles:
    """Log odds (Q,) of the marginals of a matching with weights psi (Q,) against both sides unmatched."""
    back = np.ones_like(psi)
    for _ in range(ITERATIONS):
        forth = psi / (1.0 + links.rivals_a @ (psi * back))
        back = 1.0 / (1.0 + links.rivals_b @ forth)
    return np.asarray(np.log(psi) + np.log(back) - np.log1p(links.rivals_a @ (psi * back)))


def _third(links: Links, ratio: Doubles) -> Doubles:
    """Log-likelihood ratio (Q,) that all third cameras together add to each pair."""
    weight = np.tile(np.exp(np.clip(ratio, -MOST, MOST)), 2)
    own, far = np.concatenate([links.a, links.b]), np.concatenate([links.b, links.a])
    scaled = weight * SEEN / np.concatenate([links.crowd_a[links.rows], links.crowd_b[links.rows]])
    tracks = len(links.camera)
    order = np.argsort(own * tracks + far, kind="stable")
    own, far, weight, scaled = own[order], far[order], weight[order], scaled[order]
    total = np.zeros(len(ratio))
    for c in np.unique(links.camera):
        there = links.camera[far] == c
        seen = _Seen(own[there], far[there], weight[there], scaled[there], tracks)
        use = (links.camera[links.a] != c) & (links.camera[links.b] != c)
        use &= (seen.met[links.a] > 0) & (seen.met[links.b] > 0)
        rows = np.flatnonzero(use)
        work = np.cumsum(np.minimum(seen.count[links.a[rows]], seen.count[links.b[rows]]))
        for part in np.split(rows, np.searchsorted(work, np.arange(MOST_WAYS, work[-1:].sum(), MOST_WAYS))):
            total[part] += seen.ratio(links.a[part], links.b[part])
    return total


class _Seen:
    """Partners of all tracks in one third camera: E pairs (own, far), sorted, with two weights each."""

    def __init__(self, own: Ints, far: Ints, weight: Doubles, scaled: Doubles, tracks: int) -> None:
        self.far, self.weight, self.scaled, self.tracks = far, weight, scaled, tracks
        self.key = own * tracks + far
        self.count = np.bincount(own, minlength=tracks)
        self.start = np.cumsum(self.count) - self.count
        self.met = np.bincount(own, scaled, tracks)

    def ratio(self, a: Ints, b: Ints) -> Doubles:
        """Log-likelihood ratio (N,) of tracks a and b, by way of the partners of whichever has fewer."""
        swap = self.count[b] < self.count[a]
        few, many = np.where(swap, b, a), np.where(swap, a, b)
        count = self.count[few]
        pair = np.repeat(np.arange(len(a)), count)
        one = self.start[few][pair] + _count_up(count)
        wanted = many[pair] * self.tracks + self.far[one]
        other = np.minimum(np.searchsorted(self.key, wanted), len(self.key) - 1)
        met = self.key[other] == wanted
        pair, one, other = pair[met], one[met], other[met]
        at_a, at_b = np.where(swap[pair], other, one), np.where(swap[pair], one, other)
        joint = np.bincount(pair, self.scaled[at_a] * self.weight[at_b], len(a))
        twice = np.bincount(pair, self.scaled[at_a] * self.scaled[at_b], len(a))
        apart = (1.0 - SEEN + self.met[a]) * (1.0 - SEEN + self.met[b]) - twice
        return np.asarray(np.log(1.0 - SEEN + joint) - np.log(np.maximum(apart, 1e-6)))
