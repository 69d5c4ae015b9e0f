"""The report of a demo: what was measured on the way, for `stream_app.backtests.report`.

In: a `Run`. Out: `report.html` and `report.json` in the demo's folder. Never measures anything itself.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from stream_app.backtests import report
from stream_app.demo.summary import lists_in_words, refreshes

if TYPE_CHECKING:
    from stream_app.demo.watched import Run
    from stream_app.views.worker_metrics import Sample

WINDOW = 5000
"""Events of one point of the curves."""


def write_report(run: Run) -> Path:
    """Write `report.html` and `report.json` into the demo's folder; returns the page's path."""
    last = run.samples[-1]
    decisions = refreshes(run.directory)
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
        k=last.k,
        hr=last.hr,
        ndcg=last.ndcg,
        lists=last.updates,
        coverage=_known(last.coverage),
        novelty=_known(last.novelty),
        diversity=_known(last.diversity),
        diversity_basis="the items' vectors",
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
            f"Scored as served: {lists_in_words(last)}. The replay squeezes months into minutes.",
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
