"""How much of the way from off-the-shelf to supervised an adaptation without labels goes, room by room.

    python scripts/bench_adapt.py --sites DIR --work DIR --seeds 910-914       the table
    ... --sources                    one round more for each subset of pseudo-label sources
    ... --detector FILE.pth --config NAME --long-side 640                      from other weights

A folder of `--sites` holds a rendered room per seed, as `bench_recovery.py` makes them. Each room is adapted
by the graph of `orveil adapt` with the demo's settings. The supervised ceiling is the same detector, trained
on the same frames by the same schedule, with the true labels in place of the pseudo labels. Recall of bodies
is at IoU 0.5 and the lowest score at which precision is 0.9, of heads at IoU 0.3 and precision 0.8. "way" is
the share of the distance from off-the-shelf to the ceiling. Rooms from seed 900 are for reporting; tune on
others. What is done already is not done again: an interrupted run goes on. Whole-body pose is compared before
and after its fine-tuning (`adapt_pose.py`), the guard with the truth (`adapt_guard.py`).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from adapt_graph import ROUNDS, Start, needed, result_names, sources_names, truth_of
from adapt_guard import Point, guard_points, show_guard
from adapt_pose import PARTS, PoseRow, pose_rows
from adapt_score import COLUMNS, Row, rows_of
from bench_recovery import seeds_of
from recovery_sites import rendered

from orveil.pipeline.artifact import Store
from orveil.pipeline.local import run_local
from orveil.pipeline.tables import read_table
from orveil.pipeline.types import MediaFiles, MediaIndex
from orveil.stages.truth import load_truth

CEILING, FIRST = "supervised ceiling", "off-the-shelf"


def adapt(
    sites: Path, work: Path, seed: int, start: Start, sources: bool
) -> tuple[dict[str, Row], dict[str, PoseRow], list[Point]]:
    """Adapt one room; score every method, pose before and after, and the guard."""
    graph = needed(sites / str(seed), work / str(seed), start, sources)
    made = run_local(graph, Store(work / str(seed) / start.name))
    names = result_names(start.rounds) | (sources_names() if sources else {})
    folder, media = sites / str(seed), made["media"].path
    truth = load_truth(truth_of(folder), read_table(MediaFiles, media), read_table(MediaIndex, media))
    return (
        rows_of(truth, made, names),
        pose_rows(folder, truth, made),
        guard_points(truth, made, start.rounds),
    )


def show(title: str, table: dict[str, list[Row]]) -> None:
    """One line per method: means over rooms, the way to the ceiling and the shortest way of a room."""
    head = "".join(f"{name:>10s}" for name in COLUMNS)
    print(f"\n{title:34s}{head}   way: body (worst), head")
    for name, rows in table.items():
        values = np.array([row.values() for row in rows], np.float64)
        text = "".join(f"{100 * value:10.1f}" for value in values.mean(axis=0))
        print(f"{name:34s}{text}   {way(table, name)}", flush=True)


def show_poses(rooms: list[dict[str, PoseRow]]) -> None:
    """Whole-body pose before and after its fine-tuning, means over rooms."""
    parts = "".join(f"{'PCK ' + part:>10s}" for part in PARTS)
    print(f"\n{'whole-body pose':34s}{parts}    OKS-AP      head")
    for when in ("before", "after"):
        rows = [room[when] for room in rooms]
        values = [np.mean([row.pck[part] for row in rows]) for part in PARTS]
        values += [np.mean([row.oks_ap for row in rows]), np.mean([row.head_recall for row in rows])]
        print(f"{when:34s}" + "".join(f"{100 * value:10.1f}" for value in values), flush=True)


def way(table: dict[str, list[Row]], name: str) -> str:
    """Share of the distance that a method went, of the means and, for bodies, in the worst room."""

    def share(rows: list[Row], part: str) -> np.ndarray:
        low, high, own = (np.array([getattr(row, part) for row in each]) for each in (
            table[FIRST], table[CEILING], rows))  # fmt: skip
        return np.array([own - low, high - low])

    body, head = share(table[name], "body"), share(table[name], "head")
    with np.errstate(divide="ignore", invalid="ignore"):
        worst = float(np.min(body[0] / body[1]))
        return f"{body[0].sum() / body[1].sum():.2f} ({worst:.2f}), {head[0].sum() / head[1].sum():.2f}"


def main() -> None:
    """Adapt the rooms one after the other and print the table of each and of all."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--sites", type=Path, required=True, help="folder with one folder per seed")
    parser.add_argument("--work", type=Path, required=True, help="folder for what the runs make")
    parser.add_argument("--seeds", type=seeds_of, required=True, help="as 910-914 or 7,801")
    parser.add_argument("--detector", default="embedded-detector")
    parser.add_argument("--config")
    parser.add_argument("--long-side", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--rate", type=float, default=0.25, help="false-discovery rate, as in the demo")
    parser.add_argument("--sources", action="store_true")
    options = parser.parse_args()
    start = Start(
        options.detector, options.config, options.long_side, rounds=options.rounds, rate=options.rate
    )
    table: dict[str, list[Row]] = defaultdict(list)
    poses: list[dict[str, PoseRow]] = []
    judged: list[list[Point]] = []
    for seed in options.seeds:
        rendered(options.sites, seed)
        found, posed, points = adapt(options.sites, options.work, seed, start, options.sources)
        show(f"room {seed}", {name: [row] for name, row in found.items()})
        poses.append(posed)
        judged.append(points)
        for name, row in found.items():
            table[name].append(row)
    if len(options.seeds) > 1:
        show(f"mean of {len(options.seeds)} rooms", table)
    show_poses(poses)
    show_guard(judged)


if __name__ == "__main__":
    main()
