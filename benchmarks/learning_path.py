"""Learning without lists on real Kafka: ML-1M from the start of the worker to its closed state, which is verified.

    python -m benchmarks.learning_path [EVENTS] [PARTITIONS] [RUNS]

In the same run, over the same topic: plain aiokafka reading and doing nothing, and the plain Faust program of
`plain_faust.py`. The worker's rate counts from the start of its process to the end of it, everything included; the
Faust program's counts from its first event to its last, which leaves out its start. Ratios are of medians. The worker
is `benchmarks.learner`, which no setting of `headrace worker` makes of it: what that one reaches is in `catch_up`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from benchmarks import record, topics_filled
from benchmarks.learner import settings_for
from stream_app.brokers import topics
from stream_app.brokers.broker import KafkaBroker, free_port
from stream_app.settings import Settings
from stream_app.store.state import StateStore
from stream_app.store.state_tools import dump, offsets
from stream_app.views.worker_metrics import read_sample

FAUST_EVENTS = 30_000
LOOK_S = 0.5
"""Serving the page of figures takes time from the worker."""
LATEST_LOOK_S = 0.05
"""... but its end is not to be seen half a second late."""
ROOT = Path(__file__).parent.parent


def worker_run(address: str, events: int) -> dict[str, Any]:
    """One worker that makes no lists over the whole topic, on a fresh state folder."""
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(address, Path(folder) / "state", free_port())
        command = [sys.executable, "-m", "benchmarks.learner", address, str(settings.worker.state_dir)]
        return timed([*command, str(settings.worker.web_port)], settings, events)


def timed(command: list[str], settings: Settings, events: int) -> dict[str, Any]:
    """A worker from the start of its process, until it has taken in all events and closed its state, verified."""
    started = time.perf_counter()
    child = subprocess.Popen(command, cwd=ROOT)
    try:
        figures = _follow(child, settings, events, started)
        child.send_signal(signal.SIGTERM)
        code = child.wait(timeout=120)
    finally:
        child.kill()
    whole = time.perf_counter() - started
    if code:
        raise SystemExit(f"the worker ended with {code}")
    return figures | {
        "s": round(whole, 2),
        "events_per_s": round(events / whole),
        "state": _verify(settings, events),
    }


def _follow(
    child: subprocess.Popen[bytes], settings: Settings, events: int, started: float
) -> dict[str, Any]:
    """Wait until the page of figures says that all events were accepted; what it and the system say then."""
    page = f"http://127.0.0.1:{settings.worker.web_port}/metrics"
    first_at, first, left = 0.0, 0, LOOK_S
    while True:
        if child.poll() is not None:
            raise SystemExit(f"the worker ended with {child.returncode}")
        sample = read_sample(page)
        now = time.perf_counter()
        if sample is not None and sample.events:
            if not first:
                first_at, first = now, sample.events
            if sample.events >= events:
                break
            if sample.events > first:
                left = (events - sample.events) * (now - first_at) / (sample.events - first)
        time.sleep(min(LOOK_S, max(left, LATEST_LOOK_S)))
    with urllib.request.urlopen(page) as reply:
        text = reply.read().decode()
    process = psutil.Process(child.pid)
    commits, held_ms, write_ms, commit_bytes = (
        _figure(text, f"headrace_commit_{name}")
        for name in ("ms_count", "ms_sum", "write_ms_sum", "bytes_total")
    )
    return {
        "until_first_figures_s": round(first_at - started, 2),
        "steady_events_per_s": round((events - first) / (now - first_at)) if now > first_at else None,
        "cpu_s": round(sum(process.cpu_times()[:2]), 2),
        "memory_mb": round(process.memory_info().rss / 2**20),
        "commits_before_the_last": int(commits),
        "ms_per_commit": round((held_ms + write_ms) / max(commits, 1), 1),
        "ms_events_wait_per_commit": round(held_ms / max(commits, 1), 1),
        "kb_per_commit": round(commit_bytes / max(commits, 1) / 1024, 1),
    }


def _figure(page: str, name: str) -> float:
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


def _verify(settings: Settings, events: int) -> dict[str, Any]:
    """Reopen the state: every event is in some user's count, and behind the stored offsets."""
    with StateStore.read(settings.worker.state_dir) as store:
        counted = [user["events"] for user in dump(store)]
        read = sum(count for at, count in offsets(store).items() if at.startswith("events-"))
        size = store.bytes_on_disk()
    if sum(counted) != events or read != events:
        raise SystemExit(f"the state counts {sum(counted)} events, its offsets {read}; there are {events}")
    return {"users": len(counted), "events": sum(counted), "mb_on_disk": round(size / 2**20, 1)}


def faust_run(address: str, partitions: int, events: int) -> dict[str, Any]:
    """The plain Faust program over the beginning of the topic."""
    command = [sys.executable, "-m", "benchmarks.plain_faust", address, "events", str(partitions)]
    done = subprocess.run(
        [*command, str(events)], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    said = re.search(r'\{"events".*\}', done.stdout)
    if said is None:
        raise SystemExit(f"the Faust program said no figures: {done.stdout[-500:]}{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(said[0])
    return figures | {"events_per_s": round(events / figures["s"])}


def main() -> None:
    events, partitions, runs = (*map(int, sys.argv[1:]), *(1_000_209, 4, 3)[len(sys.argv) - 1 :])
    taken_on = record.machine()
    data = topics_filled.load()
    events = min(events, len(data))
    workers, raw, faust = [], [], []
    with tempfile.TemporaryDirectory() as folder, KafkaBroker(Path(folder)) as broker:
        settings = settings_for(broker.address, Path(folder), free_port())
        topics.create(settings.broker, settings.topics, partitions)
        filled = asyncio.run(topics_filled.fill(broker.address, "events", data, events))
        for number in range(runs):
            raw.append(
                events / asyncio.run(topics_filled.read_raw(broker.address, "events", partitions, events))
            )
            faust.append(faust_run(broker.address, partitions, min(FAUST_EVENTS, events)))
            workers.append(worker_run(broker.address, events))
            print(f"run {number + 1}: {workers[-1]}", flush=True)
    ours = statistics.median(run["events_per_s"] for run in workers)
    theirs = statistics.median(run["events_per_s"] for run in faust)
    raw_rate = statistics.median(raw)
    record.write(
        "learning_path",
        f"python -m benchmarks.learning_path {events} {partitions} {runs}",
        {
            "events": events,
            "partitions": partitions,
            "bytes_per_event": filled["bytes_per_event"],
            "worker_events_per_s": record.spread([run["events_per_s"] for run in workers]),
            "plain_faust_events_per_s": record.spread([run["events_per_s"] for run in faust]),
            "raw_aiokafka_events_per_s": record.spread(raw),
            "times_plain_faust": round(ours / theirs, 1),
            "times_raw_aiokafka": round(ours / raw_rate, 3),
            "runs": workers,
            "faust_runs": faust,
            "settings": {
                "models": settings.models.model_dump(mode="json"),
                "worker": settings.worker.model_dump(mode="json"),
            },
        },
        taken_on,
    )


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
