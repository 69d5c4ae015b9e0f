"""Everything at once on real Kafka: lists for every touched user, the Transformer on, the trainer refreshing it.

    python -m benchmarks.whole_path --rate 2000 --minutes 10 [--echo] [--embedded]
    python -m benchmarks.whole_path --search 1000,1500,2000,3000 --minutes 3

Events come from a process of their own on a fixed schedule, whatever the worker does; 64 groups of ML-1M's users
take turns, so that a batch touches many users (`--spread 1` is ML-1M's own order: few users, many events each). A
rate holds when the lag at the end (mean of the last ten seconds) is no higher than at minute 2 (or within 100 ms, which
is all that counts in a window of two minutes or less),
nothing was shed, and at least 99 % of the lists were re-ranked. Freshness is read from the topics afterwards.
`--echo` runs `benchmarks.echo` at the same rate and record size directly before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from benchmarks import echo, freshness_log, record, topics_filled
from stream_app.brokers import topics
from stream_app.brokers.broker import Broker, EmbeddedBroker, KafkaBroker, free_port
from stream_app.children import Child
from stream_app.settings import Settings, load
from stream_app.views.worker_metrics import Sample, read_sample

ROOT = Path(__file__).parent.parent
PARTITIONS = 4
PRELUDE = 60_000
"""Events before the window: there is a Transformer when it begins."""
LATEST_S = 240.0
SETTLE_S = 60.0
IN_FLIGHT_S = 0.1
"""A lag of so many seconds' events is what is on its way at any moment, and not a queue that grows."""


def chosen(address: str, folder: Path, refreshes: int, seconds: float, tokens: float) -> dict[str, Any]:
    """Settings that differ from the defaults: the trainer's, so that it leaves the worker a core."""
    return {
        "broker.url": address,
        "worker.state_dir": str(folder / "state"),
        "worker.snapshots": str(folder / "snapshots"),
        "worker.web_port": free_port(),
        "trainer.snapshots": str(folder / "snapshots"),
        "trainer.state_dir": str(folder / "trainer"),
        "trainer.every_events": 10_000_000,
        "trainer.every_s": max(20.0, seconds / (refreshes + 0.5)),
        "trainer.warmup_events": 0,
        "trainer.tokens_per_event": tokens,
    }


def run(
    rate: float,
    minutes: float,
    *,
    refreshes: int,
    tokens: float,
    embedded: bool,
    with_echo: bool,
    spread: int,
) -> dict[str, Any]:
    """One window at one rate; its figures."""
    seconds = 60.0 * minutes
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker: Broker = EmbeddedBroker() if embedded else KafkaBroker(folder / "kafka")
        stack.enter_context(broker)
        differ = chosen(broker.address, folder, refreshes, seconds, tokens)
        settings = load(differ)
        topics.create(settings.broker, settings.topics, PARTITIONS)
        sets = [part for name, value in differ.items() for part in ("--set", f"{name}={value}")]
        worker = stack.enter_context(
            Child("worker", "stream_app.cli", ["worker", *sets], folder / "worker.log")
        )
        trainer = stack.enter_context(
            Child("trainer", "stream_app.cli", ["trainer", *sets], folder / "trainer.log")
        )
        watch = Watch(settings, worker, trainer, broker)
        asyncio.run(topics_filled.fill(broker.address, "events", topics_filled.load(), PRELUDE, spread))
        watch.until(
            "the first Transformer is live", lambda s: s.events >= PRELUDE and bool(s.model), LATEST_S
        )
        before = _echo(broker, rate, with_echo)
        window = watch.window(rate, seconds, spread)
        watch.until("every event is covered", lambda s: s.events >= window["sent"] + PRELUDE, SETTLE_S)
        time.sleep(1.0)
        after = _echo(broker, rate, with_echo)
        trainer.stop()
        worker.stop()
        log = asyncio.run(
            freshness_log.read(broker.address, "events", settings.topics.recommendations, PARTITIONS)
        )
        decisions = folder / "trainer" / "decisions.jsonl"
        verdicts = (
            [json.loads(line) for line in decisions.read_text().splitlines()] if decisions.exists() else []
        )
    start = int(1000 * window.pop("started"))
    stop = start + int(1000 * seconds)
    lag = {
        "at_minute_2": log.lag(start + 110_000, start + 120_000) if seconds > 120 else None,
        "at_the_end": log.lag(stop - 10_000, stop),
    }
    figures = log.figures(start, stop)
    held = (
        lag["at_the_end"] <= max(lag["at_minute_2"] or 0.0, IN_FLIGHT_S * rate)
        and not window["shed_at_most"]
        and figures["reranked_share"] >= 0.99
        and not log.uncovered
    )
    return {
        "rate": rate,
        "minutes": minutes,
        "spread": spread,
        "broker": broker.kind,
        "timestamps": "of the sending" if embedded else "of the append",
        "holds": held,
        "lag_events": lag,
        "uncovered": log.uncovered,
        **figures,
        **window,
        "verdicts": verdicts,
        "echo_before": before,
        "echo_after": after,
        "settings": {name: value for name, value in differ.items() if name.startswith("trainer.")},
    }


class Watch:
    """The worker's page and everyone's CPU while the window goes by."""

    def __init__(self, settings: Settings, worker: Child, trainer: Child, broker: Broker) -> None:
        self.page = f"http://127.0.0.1:{settings.worker.web_port}/metrics"
        self.broker = broker
        self.children = (worker, trainer)
        self._pids = {"worker": worker.pid, "trainer": trainer.pid, "broker": broker.pid}

    def until(self, what: str, true: Any, within_s: float) -> Sample:
        """Wait for the worker's page to say so."""
        deadline = time.monotonic() + within_s
        while True:
            for child in self.children:
                child.check()
            sample = read_sample(self.page)
            if sample is not None and true(sample):
                return sample
            if time.monotonic() > deadline:
                raise SystemExit(f"waited {within_s:.0f} s in vain until {what}: {sample}")
            time.sleep(0.2)

    def window(self, rate: float, seconds: float, spread: int) -> dict[str, Any]:
        """Send on schedule; what went on meanwhile."""
        cpu = self._cpu()
        first = read_sample(self.page)
        before = _commits(self.page)
        started = time.time()
        arguments = [self.broker.address, "events", str(rate), str(seconds), str(PRELUDE), str(spread)]
        sender = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.open_loop", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        shed, lags = 0.0, []
        try:
            while sender.poll() is None:
                for child in self.children:
                    child.check()
                sample = read_sample(self.page)
                if sample is not None:
                    lags.append(sample.lag)
                    shed = max(shed, _shedding(self.page))
                time.sleep(5.0)
            assert sender.stdout is not None
            sent = json.loads(sender.stdout.read())
        finally:
            sender.kill()
            sender.wait()
        wall = time.time() - started
        used = {name: round(100 * (now - cpu[name]) / wall, 1) for name, now in self._cpu().items()}
        last = read_sample(self.page)
        commits, held, written = (now - then for now, then in zip(_commits(self.page), before, strict=True))
        return {
            "started": sent["ended"] - sent["s"],
            "sent": sent["sent"],
            "latest_send_ms": sent["latest_send_ms"],
            "shed_at_most": shed,
            "cpu_percent": used,
            "lag_by_5_s": lags,
            "swaps": (last.swaps if last else 0) - (first.swaps if first else 0),
            "hr@10": last.hr if last else None,
            "commits": {
                "n": commits,
                "mean_ms_held_up": round(held / max(commits, 1), 1),
                "mean_ms_written": round(written / max(commits, 1), 1),
            },
        }

    def _cpu(self) -> dict[str, float]:
        used = {}
        for name, pid in self._pids.items():
            family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
            used[name] = sum(sum(process.cpu_times()[:2]) for process in family)
        return used


def _value(page: str, name: str) -> float:
    with urllib.request.urlopen(page) as reply:
        found = re.search(rf"^{name} (\S+)$", reply.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def _shedding(page: str) -> float:
    return _value(page, "headrace_shedding")


def _commits(page: str) -> tuple[float, float, float]:
    """How many commits there were, for how many ms they held events up, and how many they were written beside them."""
    count, held, written = (
        _value(page, f"headrace_commit_{name}") for name in ("ms_count", "ms_sum", "write_ms_sum")
    )
    return count, held, written


def _echo(broker: Broker, rate: float, wanted: bool) -> dict[str, Any] | None:
    return asyncio.run(echo.measure(broker.address, rate, 20.0, partitions=PARTITIONS)) if wanted else None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole_path")
    parser.add_argument("--rate", type=float, default=2000.0, help="events a second")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--refreshes", type=int, default=3, help="of the Transformer inside the window")
    parser.add_argument("--tokens", type=float, default=4.0, help="trained for each new event")
    parser.add_argument("--spread", type=int, default=64, help="groups of users that take turns")
    parser.add_argument("--search", help="rates to try in turn, until one does not hold: 1000,2000,3000")
    parser.add_argument("--echo", action="store_true")
    parser.add_argument("--embedded", action="store_true")
    given = parser.parse_args()
    taken_on = record.machine()
    rates = [float(rate) for rate in given.search.split(",")] if given.search else [given.rate]
    runs = []
    for rate in rates:
        runs.append(
            run(
                rate,
                given.minutes,
                refreshes=given.refreshes,
                tokens=given.tokens,
                embedded=given.embedded,
                with_echo=given.echo,
                spread=given.spread,
            )
        )
        print(f"{rate:.0f} events/s: {'holds' if runs[-1]['holds'] else 'does not hold'}", flush=True)
        if not runs[-1]["holds"]:
            break
    held = [found["rate"] for found in runs if found["holds"]]
    name = "whole_path" + ("_embedded" if given.embedded else "") + ("_echo" if given.echo else "")
    figures = {"highest_rate_that_holds": max(held, default=None), "runs": runs}
    record.write(name, " ".join(["python -m benchmarks.whole_path", *sys.argv[1:]]), figures, taken_on)


if __name__ == "__main__":
    main()
