"""The live terminal view of a running stream: rate, freshness, hit rate against popularity, model, dead
letters.

In: `Sample`s of a worker (`stream_app.views.worker_metrics`), one about every second. Out: a rich panel that is
redrawn in place, or a plain line every few seconds where stdout is not a terminal. Never reads a topic
itself.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stream_app.views.worker_metrics import Sample

BLOCKS = "▁▂▃▄▅▆▇█"
RECENT_S = 10.0
PLAIN_EVERY_S = 5.0
WIDTH = 94
SPARKS = 24


class History:
    """The samples of a run so far, and what is computed between two of them."""

    def __init__(self, keep: int = 1200) -> None:
        self.samples: deque[Sample] = deque(maxlen=keep)

    def add(self, sample: Sample) -> None:
        """Append a sample, newer than those before."""
        self.samples.append(sample)

    def before(self, seconds: float) -> Sample:
        """The newest sample that is at least `seconds` older than the last one, or the first."""
        now = self.samples[-1].at_s
        return next((s for s in reversed(self.samples) if s.at_s <= now - seconds), self.samples[0])

    def rate(self, seconds: float = RECENT_S) -> float:
        """Events a second over the last `seconds`; 0 of a single sample."""
        now, then = self.samples[-1], self.before(seconds)
        return (now.events - then.events) / (now.at_s - then.at_s) if now.at_s > then.at_s else 0.0

    def rates(self, points: int) -> list[float]:
        """Events a second between the last samples, oldest first."""
        last = list(self.samples)[-points - 1 :]
        return [
            max(0.0, (b.events - a.events) / (b.at_s - a.at_s)) for a, b in pairwise(last) if b.at_s > a.at_s
        ]

    def freshness(self, seconds: float = RECENT_S) -> tuple[float, float]:
        """p50 and p99 in ms of the updates of the last `seconds`; NaN where there were none."""
        recent = self.samples[-1].freshness.since(self.before(seconds).freshness)
        return recent.quantile(0.5), recent.quantile(0.99)

    def hit_rates(self, points: int, every_s: float = 5.0) -> list[float]:
        """Hit rate of the events scored in each stretch of `every_s`, oldest first."""
        marks: list[Sample] = []
        for sample in self.samples:
            if not marks or sample.at_s - marks[-1].at_s >= every_s:
                marks.append(sample)
        windows = [
            (b.hits - a.hits) / (b.scored - a.scored) for a, b in pairwise(marks) if b.scored > a.scored
        ]
        return windows[-points:]


def sparkline(values: list[float], top: float | None = None) -> str:
    """The values as a row of blocks, from zero to the largest (or `top`).

    >>> sparkline([0, 1, 2, 4])
    '▁▂▄█'
    """
    highest = top or max(values, default=0.0)
    if highest <= 0:
        return BLOCKS[0] * len(values)
    return "".join(BLOCKS[min(7, int(min(v, highest) / highest * 7))] for v in values)


def milliseconds(value: float) -> str:
    """A time for people: one decimal below 10 ms, seconds from 10,000 ms on."""
    if math.isnan(value):
        return "–"
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def lift(sample: Sample) -> str:
    """The hit rate as a multiple of that of popularity; empty where there is none."""
    if not sample.popularity_hr or math.isnan(sample.hr):
        return ""
    return f"{sample.hr / sample.popularity_hr:.1f}×"


class LiveView:
    """Redraws the view; `with LiveView(console, target) as view`, then `view.update(sample)`.

    Args:
        target: how many events there will be; 0 where that is not known.

    Attributes:
        note: what is shown beside the Transformer's version.
    """

    def __init__(self, console: Console, target: int = 0, title: str = "headrace") -> None:
        self.console = console
        self.target = target
        self.title = title
        self.history = History()
        self.latest = self.note = ""
        self._live = (
            Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else None
        )
        self._plain_at = -math.inf

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, sample: Sample, latest: str = "") -> None:
        """Show a newer sample; `latest` is a line about the newest list."""
        self.history.add(sample)
        self.latest = latest or self.latest
        if self._live is not None:
            self._live.update(self.render(), refresh=True)
        elif sample.at_s - self._plain_at >= PLAIN_EVERY_S:
            self._plain_at = sample.at_s
            self.console.print(self.plain(), markup=False, highlight=False, soft_wrap=True)

    def plain(self) -> str:
        """The last sample in one line."""
        sample = self.history.samples[-1]
        p50, p99 = self.history.freshness()
        share = f" of {self.target:,}" if self.target else ""
        return (
            f"{sample.events:,}{share} events, {self.history.rate():,.0f}/s, "
            f"freshness p50 {milliseconds(p50)} p99 {milliseconds(p99)}, "
            f"HR@{sample.k} {_share(sample.hr)} popularity {_share(sample.popularity_hr)}, "
            f"model {sample.model or 'none yet'}, dead letters {sample.dead_letters:,}, lag {sample.lag:,}"
        )

    def render(self) -> RenderableType:
        """The panel."""
        sample = self.history.samples[-1]
        p50, p99 = self.history.freshness()
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", justify="right", no_wrap=True, min_width=11)
        grid.add_column(no_wrap=True, min_width=43)
        grid.add_column(style="cyan", no_wrap=True)
        grid.add_row(
            "events",
            f"[b]{sample.events:,}[/b]  {self.history.rate():,.0f}/s",
            sparkline(self.history.rates(SPARKS)),
        )
        grid.add_row(
            "freshness",
            f"[b]p50 {milliseconds(p50)}  p99 {milliseconds(p99)}[/b]",
            f"[dim]{sample.measured}[/dim]",
        )
        grid.add_row(
            f"HR@{sample.k}",
            f"[b green]{_share(sample.hr)}[/b green]  popularity {_share(sample.popularity_hr)}  "
            f"{lift(sample)}",
            sparkline(self.history.hit_rates(SPARKS)),
        )
        grid.add_row(
            f"NDCG@{sample.k}", f"{_share(sample.ndcg)}  popularity {_share(sample.popularity_ndcg)}"
        )
        grid.add_row("Transformer", f"[magenta]{sample.model or 'not trained yet'}[/magenta]  {self.note}")
        grid.add_row(
            "bad input",
            f"{sample.dead_letters:,} dead letters  {sample.duplicates:,} duplicates dropped",
            f"[dim]lag {sample.lag:,}[/dim]",
        )
        parts: list[RenderableType] = [grid]
        if self.target:
            done = min(sample.events, self.target)
            bar = Table.grid(expand=True)  # a bar alone does not end its line
            bar.add_row(ProgressBar(self.target, done, complete_style="blue", finished_style="green"))
            parts.insert(0, bar)
        if self.latest:
            parts.append(Text(self.latest, style="italic", no_wrap=True, overflow="ellipsis"))
        return Panel(Group(*parts), title=self.title, title_align="left", width=WIDTH, border_style="blue")


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"
