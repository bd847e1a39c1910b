"""Command line: the commands about a site; imported when one of them runs, because they load much."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from orveil.pipeline.artifact import Store
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.explain import explain, status
from orveil.pipeline.graph import Graph
from orveil.pipeline.progress import make_events
from orveil.pipeline.runlock import holder
from orveil.pipeline.settings import SiteSettings, load_site
from orveil.pipeline.stage import InputRef
from orveil.stages import cli_show
from orveil.stages.report_data import timings
from orveil.stages.results import publish_results

__all__ = ["run_adapt", "run_evaluate", "run_explain", "run_report", "run_status"]


def run_adapt(
    site_file: Path, executor: str | None, workers: int | None, until: str | None, quiet: bool
) -> None:
    """Run what is missing and print where everything is."""
    site = _with_run(load_site(site_file), executor, workers)
    finished = _run(site, build_graph(site), until, quiet)
    _print(Console(), site, finished, quiet)


def run_evaluate(site_file: Path, ground_truth: Path | None, quiet: bool) -> None:
    """Run as far as the evaluation and print the table."""
    site = load_site(site_file)
    if ground_truth is not None:
        truth = site.evaluate.model_copy(update={"ground_truth": ground_truth.absolute()})
        site = site.model_copy(update={"evaluate": truth})
    if site.evaluate.ground_truth is None:
        raise OrveilError(
            "there is no ground truth to compare with",
            where=str(site_file),
            remedy="give --ground-truth FILE, or `ground_truth = ...` under [evaluate] in the site file",
        )
    finished = _run(site, build_graph(site), "metrics", quiet)
    cli_show.show_metrics(Console(), _metrics(finished))


def run_report(site_file: Path) -> None:
    """Print the path of the report of a finished run."""
    site = load_site(site_file)
    nodes = {node.node: node for node in status(build_graph(site), Store(site.work))}
    report = site.work / "results" / "report.html"
    if nodes["report"].state != "done" or not report.is_file():
        unfinished = [name for name, node in nodes.items() if node.state != "done"]
        raise OrveilError(
            f"there is no report yet: {len(unfinished)} of {len(nodes)} nodes are not done",
            where=str(site.work),
            remedy=f"run: orveil adapt {site_file}",
        )
    Console(soft_wrap=True).print(str(report), highlight=False, markup=False)


def run_status(site_file: Path) -> None:
    """Print the state of every node."""
    site = load_site(site_file)
    who = holder(site.work)
    running = f"Process {who.pid} on {who.host} is at work since {who.started}." if who else ""
    cli_show.show_status(Console(), status(build_graph(site), Store(site.work)), running)


def run_explain(site_file: Path, node: str | None) -> None:
    """Print why a node must run, or why each unfinished one must."""
    site = load_site(site_file)
    graph, store, console = build_graph(site), Store(site.work), Console()
    if node is not None:
        cli_show.show_explanation(console, explain(graph, store, node))
        return
    ready = [at.node for at in status(graph, store) if at.state in ("ready", "partial")]
    for name in ready:
        cli_show.show_explanation(console, explain(graph, store, name))
    if not ready:
        console.print("Everything is done; nothing would be run again.")


def build_graph(site: SiteSettings) -> Graph:
    """The graph of a site; loads all stages, which takes seconds: a wrong site file is told before that."""
    from orveil.stages import adapt

    return adapt.build_graph(site)


def _with_run(site: SiteSettings, executor: str | None, workers: int | None) -> SiteSettings:
    given = {"executor": executor, "workers": workers}
    chosen = {key: value for key, value in given.items() if value is not None}
    return site.model_copy(update={"run": site.run.model_copy(update=chosen)})


def _run(site: SiteSettings, graph: Graph, until: str | None, quiet: bool) -> dict[str, InputRef]:
    wanted = graph if until is None else upstream_of(graph, until)
    store, events = Store(site.work), make_events(quiet=quiet)
    if site.run.executor == "ray":
        from orveil.pipeline.cluster import run_ray

        return run_ray(wanted, store, events, workers=site.run.workers, address=site.run.address)
    from orveil.pipeline.local import run_local

    return run_local(wanted, store, events)


def upstream_of(graph: Graph, name: str) -> Graph:
    """The part of a graph that the node `name` needs, with the node itself.

    Raises:
        OrveilError: there is no such node.
    """
    needed = {graph.node(name).name}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs.values())
    part = Graph()
    for node in graph:
        if node.name in needed:
            inputs = {key: part.node(upstream) for key, upstream in node.inputs.items()}
            part.add(
                node.name, node.stage, node.params, inputs=inputs, externals=node.externals, seed=node.seed
            )
    return part


def _print(console: Console, site: SiteSettings, finished: dict[str, InputRef], quiet: bool) -> None:
    results = publish_results(site.work, finished)
    if not quiet:
        cli_show.show_times(console, timings(finished))
    if "metrics" in finished:
        cli_show.show_metrics(console, _metrics(finished))
    cli_show.show_results(console, results)


def _metrics(finished: dict[str, InputRef]) -> dict[str, object]:
    metrics: dict[str, object] = json.loads((finished["metrics"].path / "metrics.json").read_text("utf-8"))
    return metrics
