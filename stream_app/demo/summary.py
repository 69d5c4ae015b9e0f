"""What the demo says at its end: the summary, and a user's list before and after a click.

In: a `Run`. Out: text on the console. Never measures anything itself.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from stream_app.views import list_view
from stream_app.views.live_view import lift, milliseconds

if TYPE_CHECKING:
    from stream_app.demo.traffic import Click
    from stream_app.demo.watched import Run
    from stream_app.views.coverage import Coverage
    from stream_app.views.worker_metrics import Sample


LAST_DECISIONS = 5
CUT_SHORT = "this machine is busy or slow: {:,} of {:,} events were replayed in the demo's time"


def show(console: Console, run: Run) -> None:
    """Print the click with its two lists, and the summary."""
    if run.click is not None:
        _show_click(console, run.click, run.titles)
    _show_summary(console, run)


def _show_click(console: Console, click: Click, titles: dict[str, str]) -> None:
    before, after = click.before, click.after
    name = list_view.title_of(click.item_id, titles)
    had = {item.item_id for item in before.items}
    fresh = {item.item_id for item in after.items} - had
    console.print()
    console.print(f'user {before.user_id} clicks on "{name}"', style="bold", markup=False, highlight=False)
    console.print(list_view.table(before.items, titles, heading=f"before (revision {before.revision})"))
    console.print()
    console.print(
        list_view.table(
            after.items,
            titles,
            heading=f"after (revision {after.revision}), {milliseconds(click.waited_ms)} later",
            fresh=fresh,
        )
    )
    console.print()


def _show_summary(console: Console, run: Run) -> None:
    last, covered = run.samples[-1], run.coverage
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", justify="right")
    table.add_column()
    for name, text in summary(run, last):
        table.add_row(name, text)
    console.print(table, highlight=False)
    for lane, offset, user in covered.examples:
        console.print(f"not covered: {lane} offset {offset}, user {user}", style="red", markup=False)


def summary(run: Run, last: Sample) -> list[tuple[str, str]]:
    """The summary's rows: name, text."""
    covered = run.coverage
    p50, p99 = last.freshness.quantile(0.5), last.freshness.quantile(0.99)
    decisions = refreshes(run.directory)
    rate = run.events / run.replay_s if run.replay_s else math.nan
    return [
        (
            "events",
            f"{covered.events:,} on the topic: {covered.accepted:,} accepted, "
            f"{covered.duplicates:,} duplicates dropped, {covered.dead_letters:,} dead letters "
            f"({run.repeated} repeats and {run.broken} broken events were sent on purpose)",
        ),
        (
            "covered",
            f"{verdict(covered)}; the lists count {covered.counted:,} events of {covered.users:,} users",
        ),
        *([("cut short", CUT_SHORT.format(run.events, len(run.data)))] if run.cut_short else []),
        ("rate", f"{rate:,.0f} events/s over {run.replay_s:.0f} s, {last.updates:,} lists published"),
        (
            "freshness",
            f"p50 {milliseconds(p50)}, p99 {milliseconds(p99)} ({last.measured}, on the embedded broker)",
        ),
        (
            f"HR@{last.k}",
            f"{last.hr:.4f} against {last.popularity_hr:.4f} of popularity ({lift(last)}), "
            f"{last.scored:,} events scored before they were learned; {lists_in_words(last)}",
        ),
        (f"NDCG@{last.k}", f"{last.ndcg:.4f} against {last.popularity_ndcg:.4f}"),
        ("frozen", _frozen(last)),
        ("Transformer", f"{gate_figures(decisions)}; in use: {last.model or 'none'}"),
        *(("gate", _decision(decision)) for decision in decisions[-LAST_DECISIONS:]),
    ]


def verdict(covered: Coverage) -> str:
    """What the judgement from the outside comes to."""
    if covered.uncovered:
        return f"{covered.uncovered:,} NOT covered"
    return "every event is covered" + ("" if covered.counted_once else ", but NOT counted once")


def gate_figures(decisions: list[dict[str, Any]]) -> str:
    """How many refreshes there were, and how many went live."""
    live = sum(bool(decision["live"]) for decision in decisions)
    return f"{len(decisions)} refresh{'' if len(decisions) == 1 else 'es'} judged, {live} went live"


def lists_in_words(last: Sample) -> str:
    """For how many events the lists stand."""
    if last.updates >= last.events:
        return "a list after every event"
    return f"{last.updates:,} lists for {last.events:,} events: the worker lagged, or lists are made by batch"


def _frozen(last: Sample) -> str:
    if not last.sample_scored or last.swaps < 2:
        return "no second model yet that could be compared with the first"
    return (
        f"HR@{last.k} {last.sample_hr:.4f} against {last.frozen_hr:.4f} of the frozen first model, over the "
        f"{last.sample_scored:,} scored events of a sample of the users"
    )


def _decision(decision: dict[str, Any]) -> str:
    went = "live" if decision["live"] else "not live"
    if decision.get("difference") is None:
        return f"{decision['version']} {went}: {decision['reason']}"
    return (
        f"{decision['version']} {went}: NDCG@10 {decision['difference']:+.4f} against {decision['against']} "
        f"(90 % bound {decision['lower']:+.4f}) over {decision['scored']:,} events after its cut"
    )


def refreshes(directory: Path) -> list[dict[str, Any]]:
    """The trainer's decisions, oldest first; none where it has made none."""
    path = directory / "trainer" / "decisions.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
