"""The drawings of a report, as SVG that can stand inside a page.

In: a `Report`. Out: one `Drawing` for each chart that its figures allow, with a caption and a text that says
what the chart shows to a reader who cannot see it. Colours are CSS variables of the page, so that they follow
its theme; text stays text. Never touches pyplot's global state, a file or the network.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from stream_app.backtests.report import Report

Values = Sequence[float | None]

# Colours that occur nowhere else, each of which becomes a variable of the page.
INK, FAINT, GRID, SERVED = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#050501", "#050502", "#050503", "#050504", "#050505", "#050506")
VARIABLES = {INK: "--ink", FAINT: "--faint", GRID: "--grid", SERVED: "--served"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, 1)
}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "headrace",
    "font.family": "sans-serif",
    "font.size": 10,
    "figure.dpi": 100,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
}


LINE_HEIGHT = 19.0
"""Of a label beside its line, in the drawing's dots (100 an inch)."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart: its heading, what it shows in a sentence, what a reader without eyes is told, and the SVG."""

    title: str
    caption: str
    alt: str
    svg: str


def draw(report: Report) -> list[Drawing]:
    """Every chart that the report has figures for."""
    with mpl.rc_context(STYLE):
        drawings = [_hit_rate(report), _cost(report), _weights(report)]
    return [drawing for drawing in drawings if drawing]


def _hit_rate(report: Report) -> Drawing | None:
    curves = report.curves
    if curves is None or not any(value is not None for value in curves.hr):
        return None
    figure, axes = _canvas(4.2)
    colours = _colours(report)
    top = [name for name in colours if name in curves.baselines_hr]
    for name, values in curves.baselines_hr.items():
        if name not in top:
            axes.plot(curves.events, _gaps(values), color=FAINT, linewidth=0.7, alpha=0.5)
    lines = {name: curves.baselines_hr[name] for name in top}
    for name in top:
        axes.plot(curves.events, _gaps(lines[name]), color=colours[name], linewidth=1.3)
    axes.plot(curves.events, _gaps(curves.hr), color=SERVED, linewidth=2.6)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"HR@{report.k}")
    _events_axis(axes, curves.events)
    _refresh_marks(axes, report)
    _labels(axes, curves.events, {"served": curves.hr} | lines, (SERVED, *colours.values()))
    return Drawing(
        title="Hit rate over the stream",
        caption=(
            f"Share of the next items that were on the list of {report.k}, per {curves.window:,} events. "
            "Every single source makes its own list at the same moments."
            + (" Grey: the other sources." if len(curves.baselines_hr) > len(top) else "")
            + (" Ticks at the bottom: refreshes of the Transformer." if report.refreshes else "")
        ),
        alt=f"Line chart of HR@{report.k} over {report.events:,} events. "
        + "; ".join(
            [_from_to("served", curves.hr)] + [_from_to(name, values) for name, values in lines.items()]
        )
        + f". {len(report.refreshes)} refreshes are marked.",
        svg=_svg(figure, "hit-rate"),
    )


def _cost(report: Report) -> Drawing | None:
    curves = report.curves
    if curves is None or not curves.cost_us:
        return None
    figure, axes = _canvas(3.2)
    for (name, values), colour in zip(curves.cost_us.items(), (SERVED, *SERIES), strict=False):
        axes.plot(curves.events, _gaps(values), color=colour, linewidth=1.8, label=name)
    axes.set_yscale("log", nonpositive="mask")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.set_ylabel("µs an event")
    _events_axis(axes, curves.events)
    _refresh_marks(axes, report)
    _labels(axes, curves.events, curves.cost_us, (SERVED, *SERIES))
    return Drawing(
        title="Cost of an event",
        caption="Microseconds of wall-clock time for each event, by what the time went to, on a logarithmic scale. "
        "Training is spread over the events since the refresh before it.",
        alt="Line chart of microseconds an event. "
        + "; ".join(_from_to(name, values, digits=0) for name, values in curves.cost_us.items())
        + ".",
        svg=_svg(figure, "cost"),
    )


def _weights(report: Report) -> Drawing | None:
    weights = report.weights
    if weights is None or len(weights.events) < 2:
        return None
    figure, axes = _canvas(4.2)
    by_size = sorted(weights.sources, key=lambda name: -abs(weights.sources[name][-1]))
    colours = _colours(report)
    for name in by_size:
        colour = colours.get(name, FAINT)
        axes.plot(
            weights.events, weights.sources[name], color=colour, linewidth=1.6 if name in colours else 0.8
        )
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_ylabel("weight")
    _events_axis(axes, weights.events)
    _refresh_marks(axes, report)
    named = [name for name in by_size if name in colours or name in by_size[:4]]
    shades = [colours.get(name, FAINT) for name in named]
    _labels(axes, weights.events, {name: weights.sources[name] for name in named}, shades)
    return Drawing(
        title="Weights of the blend",
        caption=(
            "The global weight of each source in the blend, of an item's age and of what was learned of pairs (slim), "
            "learned event by event; corrections by history length and time gap, and a small layer, come on top."
        ),
        alt="Line chart of the blend's weights. "
        + "; ".join(_from_to(name, weights.sources[name], digits=2) for name in by_size)
        + ".",
        svg=_svg(figure, "weights"),
    )


def _canvas(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9.6, height))
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    figure.subplots_adjust(left=0.09, right=0.82, top=0.96, bottom=0.14)
    return figure, axes


def _colours(report: Report) -> dict[str, str]:
    """A colour for each of the best single sources, for the best popularity and the Transformer; one in every chart."""
    by_hr = sorted(report.baselines, key=lambda name: -(report.baselines[name].hr or 0.0))
    top = by_hr[: len(SERIES)]
    popular = next((name for name in by_hr if name.startswith("popular")), None)
    wanted = [name for name in (popular, "transformer") if name in by_hr and name not in top]
    top[len(top) - len(wanted) :] = wanted
    return dict(zip(top, SERIES, strict=False))


def _labels(axes: Axes, events: Sequence[int], lines: Mapping[str, Values], colours: Sequence[str]) -> None:
    """Names at the right ends of their lines, pushed apart where they would cover one another."""
    step = LINE_HEIGHT / axes.bbox.height
    ends = []
    for (name, values), colour in zip(lines.items(), colours, strict=False):
        value = _last(values)
        if value is not None:
            at = axes.transAxes.inverted().transform(axes.transData.transform((events[-1], value)))[1]
            ends.append((float(at) if math.isfinite(at) else 0.0, name, colour))
    floor = 0.0
    for at, name, colour in sorted(ends):
        floor = max(at, floor)
        axes.text(1.015, floor, name, transform=axes.transAxes, color=colour, va="center")
        floor += step


def _refresh_marks(axes: Axes, report: Report) -> None:
    live = [refresh.at for refresh in report.refreshes if refresh.live]
    axes.vlines(live, 0, 0.03, transform=axes.get_xaxis_transform(), color=INK, linewidth=1.0)


def _events_axis(axes: Axes, events: Sequence[int]) -> None:
    axes.set_xlim(0, events[-1])
    axes.set_xlabel("events")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _gaps(values: Values) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _last(values: Values) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


def _from_to(name: str, values: Values, digits: int = 3) -> str:
    there = [value for value in values if value is not None]
    if not there:
        return f"{name}: no figure"
    return f"{name} goes from {there[0]:.{digits}f} to {there[-1]:.{digits}f}"


def _svg(figure: Figure, prefix: str) -> str:
    """The figure as SVG for inside a page: no prologue, ids of its own, colours as variables."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'xlink:href="#', f'href="#{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.strip()
