"""HR@10 and NDCG@10 over the public streams, by seed, with and without the Transformer.

    python -m benchmarks.backtests [DATA] [SEEDS] [with|without|both] [LIMIT]

One settings file serves every stream: the defaults. Prints each run as it ends and writes them all, with means.
"""

from __future__ import annotations

import statistics
import sys
from typing import Any

from benchmarks import record
from producers import datasets
from producers.columns import Dataset
from stream_app.backtests import backtest
from stream_app.backtests.report import Report
from stream_app.settings import load


def figures(report: Report) -> dict[str, Any]:
    """What is kept of a run."""
    return {
        "transformer": report.transformer,
        "seed": report.seed,
        "events": report.events,
        "scored": report.scored,
        "seconds": round(report.seconds, 1),
        "hr@10": _rounded(report.hr),
        "ndcg@10": _rounded(report.ndcg),
        "coverage": _rounded(report.coverage),
        "novelty": _rounded(report.novelty),
        "diversity": _rounded(report.diversity),
        "slices": {part.name: [part.score.scored, _rounded(part.score.hr)] for part in report.slices},
        "by_gap": {part.name: [part.score.scored, _rounded(part.score.hr)] for part in report.by_gap},
        "baselines": {
            name: [_rounded(score.hr), _rounded(score.ndcg)] for name, score in report.baselines.items()
        },
        "stages_s": {name: round(seconds, 1) for name, seconds in report.stages_s.items()},
        "refreshes": len(report.refreshes),
        "notes": report.notes,
    }


def means(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over the seeds, with the Transformer and without."""
    out = {}
    for name, on in (("with the Transformer", True), ("without", False)):
        some = [run for run in runs if run["transformer"] is on]
        if some:
            out[name] = {
                key: round(statistics.mean(run[key] for run in some), 4) for key in ("hr@10", "ndcg@10")
            } | {"seeds": [run["seed"] for run in some]}
    return out


def run(data: Dataset, seeds: int, which: str, limit: int | None) -> list[dict[str, Any]]:
    settings = load()
    runs = []
    for transformer in {"with": (True,), "without": (False,), "both": (False, True)}[which]:
        for seed in range(seeds):
            report = backtest.run(
                data, settings, limit=limit, transformer=transformer, seed=seed, on_progress=_progress
            )
            runs.append(figures(report))
            shown = {key: runs[-1][key] for key in ("transformer", "seed", "hr@10", "ndcg@10", "seconds")}
            print(f"\r{data.name}: {shown}", flush=True)
    return runs


def _progress(done: int, total: int, hr: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{done:,} of {total:,}, HR@10 {hr:.4f}", end="", file=sys.stderr)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def main() -> None:
    given = sys.argv[1:]
    name, seeds, which, limit = (*given, *("ml-100k", "3", "both", "0")[len(given) :])
    taken_on = record.machine()
    data = datasets.load(name)
    runs = run(data, int(seeds), which, int(limit) or None)
    command = f"python -m benchmarks.backtests {name} {seeds} {which} {limit}"
    suffix = "" if which == "both" else f"_{which}"
    kept = {"data_sha256": data.sha256, "source": data.source, "means": means(runs), "runs": runs}
    record.write(f"backtests_{name}{suffix}", command, kept, taken_on)


if __name__ == "__main__":
    main()
