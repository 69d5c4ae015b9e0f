"""The table of an evaluation as people read it: one row a model, the best first.

In: a `Table` of records. Out: a table of rich, as wide as it needs to be. Never computes a figure, but for means over
seeds.
"""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table as Grid

from stream_app.evaluation.table import COLD_GROUPS, Record, Table, interval, mean

ALPHA = 0.05
"""A difference to the best model whose corrected p-value is above this is marked: it may be chance."""


def render(table: Table) -> Grid:
    """One row a model, the best first: means over its seeds; those that failed last, with why."""
    k, facts = table.k, table.facts
    sampled = facts["ranking"] != "full"
    note = f" ({facts['ranking']}, not a full ranking)" if sampled else ""
    grid = Grid(
        title=f"{facts['data']}, {facts['protocol']}, {facts['on']}{note}",
        caption=_caption(table),
        caption_justify="left",
    )
    grid.add_column("model", no_wrap=True)
    ranked = table.by_model()
    columns = _columns(k, sampled, ranked)
    for heading, _ in columns:
        grid.add_column(heading, justify="right", no_wrap=True)
    asked = len({record["seed"] for record in table.records})
    for records in ranked:
        cells = [cell(records) for _, cell in columns]
        n = len(records)
        seeds = f" ({n} of {asked} seeds)" if n < asked else f" ({n} seeds)" if n > 1 else ""
        grid.add_row(records[0]["model"] + seeds, *cells)
    for record in table.failed:
        grid.add_row(f"{record['model']} (seed {record['seed']})", "failed", *[""] * (len(columns) - 1))
    return grid


Cell = Callable[[list[Record]], str]


def _columns(k: int, sampled: bool, ranked: list[list[Record]]) -> list[tuple[str, Cell]]:
    def figure(metric: str, digits: int = 4) -> Cell:
        return lambda records: _number(mean(records, metric), digits)

    def between(metric: str) -> Cell:
        def cell(records: list[Record]) -> str:
            bounds = interval(records, metric)
            return "–" if bounds is None else f"{bounds[0]:.4f}…{bounds[1]:.4f}"

        return cell

    def cold(group: str) -> Cell:
        def cell(records: list[Record]) -> str:
            return _number(mean([record["cold"][group] for record in records], f"hr@{k}"), 4)

        return cell

    mark = "*" if sampled else ""
    accuracy = [("HR", "hr"), ("NDCG", "ndcg")]
    columns: list[tuple[str, Cell]] = []
    for heading, name in accuracy:
        columns += [(f"{heading}@{k}{mark}", figure(f"{name}@{k}")), ("95 %", between(f"{name}@{k}"))]
    columns.append(("vs best", lambda records: "best" if records is ranked[0] else _against(records)))
    for heading, name in (
        ("recall", "recall"),
        ("prec.", "precision"),
        ("F1", "f1"),
        ("MRR", "mrr"),
        ("MAP", "map"),
    ):
        columns.append((f"{heading}{mark}", figure(f"{name}@{k}")))
    columns += [("RMSE", figure("rmse")), ("MAE", figure("mae")), ("acc.", figure("rating_accuracy"))]
    if any(mean(records, "action_accuracy") is not None for records in ranked):
        columns.append(("action", figure("action_accuracy")))
    for heading, name, digits in (
        ("cover", "coverage", 3),
        ("novelty", "novelty", 2),
        ("serend.", "serendipity", 4),
        ("divers.", "diversity", 3),
        ("ARP", "arp", 0),
        ("Gini", "gini", 3),
    ):
        columns.append((heading, figure(f"{name}@{k}", digits)))
    columns += [
        ("cold users", cold("cold_users")),
        ("cold items", cold("cold_items")),
        ("new users", cold("new_users")),
        ("p50 ms", figure("score_p50_ms", 2)),
        ("p99 ms", figure("score_p99_ms", 2)),
        ("train s", figure("train_s", 1)),
        ("MB", figure("memory_mb", 0)),
    ]
    return columns


def _against(records: list[Record]) -> str:
    """The difference to the best; marked where it may be chance with any seed, none where the best has no such seed."""
    compared = [record["vs_best"] for record in records if record["vs_best"] is not None]
    if not compared:
        return "–"
    difference = sum(against["difference"] for against in compared) / len(compared)
    sure = all(against["p_holm"] <= ALPHA for against in compared)
    return f"{difference:+.4f}{' ' if sure else '~'}"


def _caption(table: Table) -> str:
    facts = table.facts
    lines = [
        f"{facts['events']:,} events, {facts['users']:,} users, {facts['items']:,} items"
        + "".join(f"; {count:,} left out: {why}" for why, count in facts["left_out"].items())
        + "".join(f"; {count:,} not asked: {why}" for why, count in facts["not_asked"].items()),
    ]
    lines[0] += (
        f"; content of {facts['described_items']:,} items"
        if facts["described_items"]
        else "; no content: nothing is known of the items beside their events"
    )
    if facts["ratings_clamped"]:
        low, high = facts["rating_scale"]
        lines.append(
            f"{facts['ratings_clamped']:,} ratings lay outside of {low:g} to {high:g} and were clamped"
        )
    ranked = table.by_model()
    if ranked:
        first = ranked[0][0]
        lines.append(
            f"{first['lists']:,} lists of {first['users_asked']:,} users; intervals: bootstrap over users; "
            f"vs best: difference in NDCG, ~ where a paired randomisation test over users (Holm) finds p > {ALPHA}"
        )
        if early := first["asked_before_learning"]:
            lines.append(
                f"{early:,} lists ({early / first['lists']:.0%}) were due before anything was learned: misses"
            )
        cold = [f"{name}: {first['cold'][name.replace(' ', '_')]['lists']:,} lists" for name in COLD_GROUPS]
        lines.append(
            f"HR of those with fewer than 5 events, or none: {', '.join(cold)}"
            + f"; diversity by {facts['diversity_by']}; p50 and p99: one list at a time; MB: more than before learning"
        )
    if facts["ranking"] != "full":
        lines.append(f"* {facts['ranking']}: not to be compared with a full ranking")
    lines += [
        f"{record['model']} (seed {record['seed']}) failed: {record['error']}" for record in table.failed
    ]
    return "\n".join(lines)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
