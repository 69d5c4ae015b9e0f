"""How fast `headrace worker` takes in a history: ML-1M from the start of its process to its closed, verified state.

    python -m benchmarks.catch_up [EVENTS] [PARTITIONS]

With the default settings, no trainer beside it: a lag above `worker.lag_coalesce` makes one list a user and batch, and
every event teaches the blend. Then with the blend's learning off, which is what a setting can save (such a state
has learned nothing of blend and SLIM, and lists are worse for it until they have). In the same run, over the same
topic, the learning path without lists (`benchmarks.learner`) and plain aiokafka. CPU time, imports and the loading of
kernels included, says more than a rate where others use the machine; run it twice where kernels must be compiled.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import record, topics_filled
from benchmarks.learning_path import timed, worker_run
from stream_app.brokers import topics
from stream_app.brokers.broker import KafkaBroker, free_port
from stream_app.settings import load

WAYS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "the blend learns nothing": {"models.blend.lr": 0.0},
}


def as_a_user(address: str, events: int, differ: dict[str, Any]) -> dict[str, Any]:
    """One `headrace worker` over the whole topic, on a fresh state folder."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = {
            "broker.url": address,
            "worker.state_dir": str(Path(folder) / "state"),
            "worker.web_port": free_port(),
            **differ,
        }
        sets = [part for name, value in chosen.items() for part in ("--set", f"{name}={value}")]
        return timed([sys.executable, "-m", "stream_app.cli", "worker", *sets], load(chosen), events)


def main() -> None:
    events, partitions = (*map(int, sys.argv[1:]), *(1_000_209, 4)[len(sys.argv) - 1 :])
    taken_on = record.machine()
    data = topics_filled.load()
    events = min(events, len(data))
    with tempfile.TemporaryDirectory() as folder, KafkaBroker(Path(folder)) as broker:
        settings = load({"broker.url": broker.address})
        topics.create(settings.broker, settings.topics, partitions)
        asyncio.run(topics_filled.fill(broker.address, "events", data, events))
        runs = {}
        for way, differ in WAYS.items():
            runs[way] = as_a_user(broker.address, events, differ)
            print(f"{way}: {runs[way]}", flush=True)
        runs["no lists"] = worker_run(broker.address, events)
        raw = events / asyncio.run(topics_filled.read_raw(broker.address, "events", partitions, events))
    record.write(
        "catch_up",
        f"python -m benchmarks.catch_up {events} {partitions}",
        {
            "events": events,
            "partitions": partitions,
            "events_per_s": {way: run["events_per_s"] for way, run in runs.items()},
            "cpu_us_per_event": {way: round(1e6 * run["cpu_s"] / events, 1) for way, run in runs.items()},
            "raw_aiokafka_events_per_s": round(raw),
            "runs": runs,
        },
        taken_on,
    )


if __name__ == "__main__":
    main()
