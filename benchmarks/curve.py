"""One curve of a benchmark: a plot and its figures, side by side in one folder.

In: a name, the points, what they are. Out: `NAME.svg` and `NAME.json`. Never touches pyplot's global state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from stream_app.evaluation.figures import STYLE

COLOURS = ("#0b62a4", "#c4541c", "#595959")


def draw(path: Path, title: str, axis: str, at: Sequence[str], lines: Mapping[str, Sequence[float]]) -> None:
    """HR@10 of each of `lines` over the settings `at`, evenly spaced in the order given, every point with its value."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.subplots()
        for (name, values), colour in zip(lines.items(), COLOURS, strict=False):
            axes.plot(range(len(at)), values, "o-", color=colour, linewidth=2, label=name)
            for place, value in enumerate(values):
                axes.annotate(
                    f"{value:.4f}",
                    (place, value),
                    xytext=(3, 7),
                    textcoords="offset points",
                    ha="left",
                    fontsize=8,
                )
        axes.set_xticks(range(len(at)), list(at))
        axes.set_xlabel(axis)
        axes.set_ylabel("HR@10")
        axes.set_ylim(0, 1.15 * max(max(values) for values in lines.values()))
        axes.set_title(title, loc="left", fontsize=10)
        if len(lines) > 1:
            axes.legend(frameon=False, loc="lower right")
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def write(
    out: Path,
    name: str,
    figures: Mapping[str, Any],
    title: str,
    axis: str,
    at: Sequence[str],
    lines: Mapping[str, Sequence[float]],
) -> None:
    """The plot and the figures into the folder `out`, which is made."""
    out.mkdir(parents=True, exist_ok=True)
    draw(out / f"{name}.svg", title, axis, at, lines)
    (out / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(f"written to {out / name}.svg and {out / name}.json")
