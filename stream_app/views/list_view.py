"""A recommendation list for human eyes.

In: a `Recommendation` and what is known of titles. Out: rich renderables and lines of text.
Never reads a topic and never sorts: the order is the record's.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream_app.events import Because, Recommendation, RecommendedItem

PLAIN_WIDTH = 200
Titles = Mapping[str, str]
SOURCES = {
    "covisit": "co-visits",
    "popularity": "popularity",
    "asymmetric-mf": "factors",
    "biased-mf": "ratings",
    "transformer": "Transformer",
}


def title_of(item_id: str, titles: Titles) -> str:
    """The item's title, or its id where it has none."""
    return titles.get(item_id) or f"item {item_id}"


def reason_of(because: Because, titles: Titles) -> str:
    """Why the item is on the list, in words."""
    if because.item_id is not None and (because.item_id in titles or not because.text):
        return f'because of "{title_of(because.item_id, titles)}"'
    return because.text


def console() -> Console:
    """stdout; where nobody looks (a pipe, a log), lines are not broken at 80 columns."""
    return Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)


def source_in_words(source: str) -> str:
    """Which model put the item on the list; the variants of a model are told apart in the record only."""
    return next((words for start, words in SOURCES.items() if source.startswith(start)), source)


def headline(record: Recommendation) -> str:
    """Whose list, which revision, how fresh, made by what."""
    models = ", ".join(f"{name} {version}" for name, version in sorted(record.models.items()))
    made = datetime.fromtimestamp(record.published_ts / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    parts = [
        f"user {record.user_id}",
        f"revision {record.revision}",
        f"after {record.events:,} events",
        made,
        f"{record.latency_ms:.1f} ms after the event" if record.reason != "refresh" else "refreshed",
        models or "no Transformer yet",
    ]
    if record.reason not in ("event", "refresh"):
        parts.append(record.reason)
    return " · ".join(parts)


def table(
    items: list[RecommendedItem],
    titles: Titles,
    *,
    heading: str | None = None,
    fresh: Collection[str] = (),
) -> Table:
    """The list as a table; items in `fresh` are marked as new on it."""
    shown = Table(title=heading, title_justify="left", box=None, pad_edge=False, header_style="dim")
    shown.add_column("", justify="right", style="dim")
    shown.add_column("title", overflow="fold")
    shown.add_column("why", style="cyan", overflow="fold")
    shown.add_column("source", style="dim")
    for rank, item in enumerate(items, 1):
        name = Text(title_of(item.item_id, titles))
        if item.item_id in fresh:
            name.append(" new", style="bold green")
        shown.add_row(str(rank), name, reason_of(item.because, titles), source_in_words(item.source))
    return shown


def line(record: Recommendation, titles: Titles, *, top: int = 3) -> str:
    """One update in one line."""
    names = " | ".join(title_of(item.item_id, titles) for item in record.items[:top])
    age = "refresh" if record.reason == "refresh" else f"{record.latency_ms:7.1f} ms"
    return f"{record.user_id:>8}  rev {record.revision:<5} {age:>10}  {names}"
