"""Command line: what is printed: the before/after table, the state of a run, why work must be redone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orveil.pipeline.explain import Change, Explanation, NodeStatus, root_causes
from orveil.pipeline.progress import clock_text
from orveil.stages.results import Results

__all__ = ["show_explanation", "show_metrics", "show_results", "show_status", "show_times"]

COLUMNS = (
    ("body\nrecall", "body", "recall"),
    ("body\nprecision", "body", "precision"),
    ("AP\nat .5", "body", "ap50"),
    ("hard\nrecall", "body", "hard_recall"),
    ("all-views\nrecall", "body", "all_views_recall"),
    ("recall at\nprec. 90", "body", "recall_at_precision_90"),
    ("head\nrecall", "head", "recall"),
)


def _table(*columns: str, left: int = 1) -> Table:
    """First `left` columns to the left, numbers to the right."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right", vertical="bottom")
    return table


def show_metrics(console: Console, metrics: Mapping[str, Any]) -> None:
    """The before/after table, in percent."""
    truth = metrics["ground_truth"]
    console.print(
        f"\n[bold]Before and after[/bold], in percent, on {truth['frames']} frames "
        f"with {truth['boxes']['person']} people ({truth['hard_persons']} hard to see)"
    )
    table = _table("", *(title for title, _, _ in COLUMNS))
    for row in metrics["rows"]:
        style = "bold green" if row is metrics["rows"][-1] else None
        table.add_row(row["name"], *(_share(row[part][name]) for _, part, name in COLUMNS), style=style)
    console.print(table)
    cover = metrics["blur"]
    if cover["coverage"] is not None:
        longest = cover["longest_exposure"]
        console.print(
            f"Blurred videos cover {_share(cover['coverage'])} % of the pixels of {cover['faces']} visible "
            f"faces; longest exposure {longest['frames']} frames ({longest['seconds']:.2f} s).",
            highlight=False,
            soft_wrap=True,
        )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def show_results(console: Console, results: Results) -> None:
    """Paths of what the run made."""
    lines = [("report", results.report), ("bundle", results.bundle)]
    lines += [("blurred" if not i else "", path) for i, path in enumerate(results.blurred)]
    console.print()
    for name, path in lines:
        if path is not None:
            console.print(f"{name:<8} {path}", highlight=False, markup=False, soft_wrap=True)


def show_times(console: Console, rows: Iterable[Mapping[str, Any]]) -> None:
    """Work and peak memory by stage: rows with stage, seconds and peak_mb."""
    merged: dict[str, tuple[float, float]] = {}
    for row in rows:
        seconds, peak = merged.get(row["stage"], (0.0, 0.0))
        merged[row["stage"]] = (seconds + row["seconds"], max(peak, row["peak_mb"]))
    table = _table("stage", "seconds", "peak MB")
    for stage, (seconds, peak) in merged.items():
        table.add_row(stage, f"{seconds:.1f}", f"{peak:.0f}")
    total, highest = sum(s for s, _ in merged.values()), max((p for _, p in merged.values()), default=0.0)
    table.add_row("all", f"{total:.1f}", f"{highest:.0f}", style="bold")
    console.print("\n[bold]Work by stage[/bold]")
    console.print(table)


STATES = {"done": "green", "partial": "yellow", "ready": "cyan", "waiting": "dim"}


def show_status(console: Console, nodes: Sequence[NodeStatus], running: str) -> None:
    """One line per node; `running` says who works on it now, empty for nobody."""
    table = _table("node", "state", "shards", "work", "", left=2)
    table.columns[-1].justify = "left"
    for node in nodes:
        total = "?" if node.total is None else str(node.total)
        waits = f"waits for {_some(node.waits_for)}" if node.waits_for else (node.digest or "")[:12]
        state = f"[{STATES[node.state]}]{node.state}[/]"
        work = clock_text(node.seconds) if node.seconds else ""
        table.add_row(node.node, state, f"{node.done}/{total}", work, f"[dim]{waits}[/]")
    console.print(table)
    done = sum(node.state == "done" for node in nodes)
    console.print(f"{done} of {len(nodes)} nodes done. {running}".strip(), highlight=False)


def _some(names: Sequence[str]) -> str:
    """The first name, and how many more there are: a line has 80 letters."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def show_explanation(console: Console, explanation: Explanation) -> None:
    """Why a node is what it is, with the changes that caused it."""
    at = explanation
    total = "?" if at.total is None else at.total
    console.print(f"[bold]{at.node}[/] (stage {at.stage}): {at.state}, {at.done}/{total} shards")
    if at.compared_node is None:
        console.print("  nothing was made by this stage before" if at.state != "done" else "  never changed")
        return
    made = f"  compared with {at.compared_node} of {at.compared_created}"
    console.print(made, highlight=False)
    if not at.changes:
        console.print("  nothing changed since")
    for change in at.changes:
        console.print(f"  {_change(change)}", highlight=False)
    causes = [(node, change) for node, change in root_causes(at) if node != at.node]
    if causes:
        console.print("  because of")
        for node, change in causes:
            console.print(f"    [bold]{node}[/]: {_change(change)}", highlight=False)


def _change(change: Change) -> str:
    name = f" {change.name}" if change.name else ""
    if change.what in ("parameter", "seed", "stage version"):
        return escape(f"{change.what}{name}: {change.old} -> {change.new}")
    if change.what == "input":
        return escape(f"input{name} has other content: {_short(change.old)} -> {_short(change.new)}")
    return escape(f"{change.what}{name}")


def _short(digest: str | None) -> str:
    return (digest or "none")[:12]
