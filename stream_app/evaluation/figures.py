"""The plots of an evaluation, each as an SVG file of its own.

In: a `Table` of records. Out: `hit-rate.svg` (with intervals), `accuracy-and-time.svg`, and, of a prequential run,
`along-the-stream.svg`. Never touches pyplot's global state.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from stream_app.backtests import figures
from stream_app.evaluation.table import Record, Table, interval, mean

INK, FAINT, GRID, POINT = "#1a1a1a", "#595959", "#d9d9d9", "#0b62a4"
STYLE: Any = figures.STYLE | {
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "grid.color": GRID,
}


def write(table: Table, out: Path) -> list[Path]:
    """The plots that the table has figures for, into the folder `out`, which is made; their paths."""
    out.mkdir(parents=True, exist_ok=True)
    ranked = table.by_model()
    drawn: dict[str, Figure] = {}
    with mpl.rc_context(STYLE):
        if ranked:
            drawn["hit-rate.svg"] = _hit_rate(table, ranked)
        if any(mean(records, "score_p50_ms") for records in ranked):
            drawn["accuracy-and-time.svg"] = _accuracy_and_time(table, ranked)
        if any(records[0]["curve"]["events"] for records in ranked):
            drawn["along-the-stream.svg"] = _along(table, ranked)
        for name, figure in drawn.items():
            figure.savefig(out / name, format="svg", metadata={"Date": None, "Creator": None})
    return [out / name for name in drawn]


def _title(table: Table) -> str:
    facts = table.facts
    sampled = "" if facts["ranking"] == "full" else f", {facts['ranking']}"
    return f"{facts['data']}, {facts['protocol']}{sampled}"


def _hit_rate(table: Table, ranked: list[list[Record]]) -> Figure:
    metric = f"hr@{table.k}"
    figure = Figure(figsize=(8.0, 1.2 + 0.32 * len(ranked)), layout="constrained")
    axes = figure.subplots()
    for place, records in enumerate(reversed(ranked)):
        value, bounds = mean(records, metric), interval(records, metric)
        if value is None or bounds is None:
            continue
        reach = [[max(value - bounds[0], 0.0)], [max(bounds[1] - value, 0.0)]]
        axes.errorbar([value], [place], xerr=reach, fmt="o", color=POINT, capsize=3, markersize=5)
    axes.set_yticks(range(len(ranked)), [records[0]["model"] for records in reversed(ranked)])
    axes.set_xlim(left=0)
    axes.set_xlabel(f"HR@{table.k}, with 95 % intervals over users")
    axes.set_title(_title(table), loc="left", fontsize=10)
    return figure


def _accuracy_and_time(table: Table, ranked: list[list[Record]]) -> Figure:
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    axes = figure.subplots()
    for records in ranked:
        took, value = mean(records, "score_p50_ms"), mean(records, f"ndcg@{table.k}")
        if took and value is not None:
            axes.plot([took], [value], "o", color=POINT, markersize=5)
            axes.annotate(
                records[0]["model"], (took, value), xytext=(5, 4), textcoords="offset points", fontsize=8
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("ms a list, one at a time, median")
    axes.set_ylabel(f"NDCG@{table.k}")
    axes.set_title(_title(table), loc="left", fontsize=10)
    return figure


def _along(table: Table, ranked: list[list[Record]]) -> Figure:
    figure = Figure(figsize=(9.6, 5.0), layout="constrained")
    axes = figure.subplots()
    colours = mpl.colormaps["tab20"]
    for number, records in enumerate(ranked):
        curve = records[0]["curve"]
        values = [float("nan") if value is None else value for value in curve[f"hr@{table.k}"]]
        axes.plot(
            curve["events"], values, color=colours(number % 20), linewidth=1.4, label=records[0]["model"]
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("events")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_ylabel(f"HR@{table.k}")
    axes.set_title(f"{_title(table)}, first seed", loc="left", fontsize=10)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure
