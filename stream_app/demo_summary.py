"""What the demo says at its end: the summary, a user's list before and after a click, and the report.

In: a `Run`. Out: text on the console; `report.html` and `report.json`. Never measures anything itself.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from stream_app import list_view, report
from stream_app.live_view import lift, milliseconds

if TYPE_CHECKING:
    from stream_app.demo import Run
    from stream_app.demo_traffic import Click
    from stream_app.worker_metrics import Sample

WINDOW = 5000
"""Events of one point of the report's curves."""


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
    decisions = refreshes(run)
    verdict = "every event is covered" if covered.complete else f"{covered.uncovered:,} NOT covered"
    rate = run.events / run.replay_s if run.replay_s else math.nan
    return [
        (
            "events",
            f"{covered.events:,} on the topic: {covered.accepted:,} accepted, "
            f"{covered.duplicates:,} duplicates dropped, {covered.dead_letters:,} dead letters "
            f"({run.repeated} repeats and {run.broken} broken events were sent on purpose)",
        ),
        ("covered", f"{verdict}; the lists count {covered.counted:,} events of {covered.users:,} users"),
        ("rate", f"{rate:,.0f} events/s over {run.replay_s:.0f} s, {last.updates:,} lists published"),
        (
            "freshness",
            f"p50 {milliseconds(p50)}, p99 {milliseconds(p99)} ({last.measured}, on the embedded broker)",
        ),
        (
            "HR@10",
            f"{last.hr:.4f} against {last.popularity_hr:.4f} of popularity ({lift(last)}), "
            f"{last.scored:,} events scored before they were learned; {_lists(last)}",
        ),
        ("NDCG@10", f"{last.ndcg:.4f} against {last.popularity_ndcg:.4f}"),
        ("frozen", _frozen(last)),
        ("Transformer", f"{gate_figures(decisions)}; in use: {last.model or 'none'}"),
        *(("gate", _decision(decision)) for decision in decisions),
    ]


def gate_figures(decisions: list[dict[str, Any]]) -> str:
    """How many refreshes there were, and how many went live."""
    live = sum(bool(decision["live"]) for decision in decisions)
    return f"{len(decisions)} refresh{'' if len(decisions) == 1 else 'es'} judged, {live} went live"


def _lists(last: Sample) -> str:
    if last.updates >= last.events:
        return "a list after every event"
    return f"{last.updates:,} lists for {last.events:,} events: the worker lagged, or lists are made by batch"


def _frozen(last: Sample) -> str:
    if not last.sample_scored or last.swaps < 2:
        return "no second model yet that could be compared with the first"
    return (
        f"HR@10 {last.sample_hr:.4f} against {last.frozen_hr:.4f} of the frozen first model, over the "
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


def refreshes(run: Run) -> list[dict[str, Any]]:
    """The trainer's decisions, oldest first; none where it has made none."""
    path = run.directory / "trainer" / "decisions.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write_report(run: Run) -> Path:
    """Write `report.html` and `report.json` into the demo's folder; returns the page's path."""
    last = run.samples[-1]
    decisions = refreshes(run)
    measured = report.Report(
        title=f"headrace demo: {run.data.name}, live",
        kind="live",
        data=run.data.name,
        data_sha256=run.data.sha256,
        data_notes=[run.data.note] if run.data.note else [],
        users=run.coverage.users,
        items=len(run.titles),
        first_ts=int(run.data.ts[0]),
        last_ts=int(run.data.ts[run.events - 1]),
        events=run.coverage.events,
        accepted=run.coverage.accepted,
        scored=last.scored,
        seconds=run.replay_s,
        hr=last.hr,
        ndcg=last.ndcg,
        lists=last.updates,
        coverage=_known(last.coverage),
        novelty=_known(last.novelty),
        diversity=_known(last.diversity),
        baselines={
            "popularity": report.Score(scored=last.scored, hr=last.popularity_hr, ndcg=last.popularity_ndcg)
        },
        curves=curves(run.samples),
        refreshes=[
            report.Refresh(
                at=decision["at"],
                version=decision["version"],
                tokens=decision["tokens"],
                seconds=decision.get("seconds", math.nan),
                items=items_of(run.directory / "snapshots" / decision["version"] / "manifest.json"),
                loss=decision["loss"],
                live=decision["live"],
            )
            for decision in decisions
        ],
        freshness=report.Freshness(
            p50_ms=round(last.freshness.quantile(0.5), 1),
            p99_ms=round(last.freshness.quantile(0.99), 1),
            updates=int(last.freshness.total),
            measured=f"{last.measured}, on the embedded broker",
        ),
        counts={
            "duplicates": run.coverage.duplicates,
            "dead letters": run.coverage.dead_letters,
            "uncovered": run.coverage.uncovered,
        },
        seed=run.settings.seed,
        settings=run.settings.model_dump(mode="json"),
        notes=[
            f"Scored as served: {_lists(last)}. The replay squeezes months into minutes.",
        ],
    )
    page, _ = report.write(measured, run.directory)
    return page


def items_of(manifest: Path) -> int:
    """How many items a snapshot knows; 0 for one that was deleted since."""
    return len(json.loads(manifest.read_bytes())["item_ids"]) if manifest.is_file() else 0


def curves(samples: list[Sample]) -> report.Curves:
    """Scores of each stretch of WINDOW events or a little more, out of the samples."""
    made = report.Curves(window=WINDOW, baselines_hr={"popularity": []})
    start = samples[0]
    for sample in samples:
        if sample.events - start.events < WINDOW:
            continue
        made.events.append(sample.events)
        made.hr.append(_between(start.hr, start.scored, sample.hr, sample.scored))
        made.ndcg.append(_between(start.ndcg, start.scored, sample.ndcg, sample.scored))
        made.baselines_hr["popularity"].append(
            _between(start.popularity_hr, start.scored, sample.popularity_hr, sample.scored)
        )
        start = sample
    return made


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _between(share: float, n: int, later_share: float, later_n: int) -> float | None:
    """The mean over the events between two running means."""
    if later_n <= n or math.isnan(later_share):
        return None
    return (later_share * later_n - (share * n if n else 0.0)) / (later_n - n)
