"""What stale lists cost: HR@10 when lists are made once for each user and window of event time, by the window's length.

    python -m benchmarks.staleness DATA [--out DIR] [--limit N] [--transformer]

The pipeline learns every event in all of them; only when lists are made differs. Without the Transformer by default.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks import curve, record
from producers import datasets
from stream_app.backtests.backtest import Backtest
from stream_app.commands.options import parse_duration_ms
from stream_app.settings import load

WINDOWS = ("none", "1s", "1m", "10m", "1h", "1d")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, default=Path("run/staleness"))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--transformer", action="store_true")
    asked = parser.parse_args()
    taken_on, data = record.machine(), datasets.load(asked.data)
    points: list[dict[str, Any]] = []
    for window in WINDOWS:
        window_ms = None if window == "none" else parse_duration_ms("--window", window)
        run = Backtest(data, load(), asked.limit, asked.transformer, 0, window_ms, baselines=False)
        report = run.run(None)
        point = {"window": window, "lists": report.lists, "hr@10": report.hr, "ndcg@10": report.ndcg}
        points.append(point | {"scored": report.scored, "seconds": round(report.seconds, 1)})
        print(points[-1], flush=True)
    command = f"python -m benchmarks.staleness {asked.data}"
    command += f" --limit {asked.limit}" * bool(asked.limit) + " --transformer" * asked.transformer
    figures = {"data_sha256": data.sha256, "transformer": asked.transformer, "points": points}
    record.write(f"staleness_{asked.data}", command, figures, taken_on)
    curve.write(
        asked.out,
        "staleness",
        {"command": command, **figures},
        f"{asked.data}: what stale lists cost",
        "lists are made once a user and window of event time (none: after every event)",
        WINDOWS,
        {"served": [point["hr@10"] for point in points]},
    )


if __name__ == "__main__":
    main()
