"""The worker's figures for Prometheus: freshness, counts, lag, commits.

In: what happens, as it happens. Out: one registry, rendered at /metrics. Never decides anything, and never
mixes
clocks: a freshness measured from append to append and one measured on the worker's clock have different
labels."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

APPEND, WORKER = "append", "worker"
"""Clocks of a freshness: both topics' append times; or receive → acknowledgement on the worker's clock."""

_STEPS = [1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0]
BUCKETS_MS = [step * 10**power for power in range(5) for step in _STEPS]


class WorkerMetrics:
    """One worker's figures, in milliseconds and events, prefixed `headrace_`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.freshness = Histogram(
            "headrace_freshness_ms",
            "From an event to its published update; the label says by which clock",
            ["clock"],
            buckets=BUCKETS_MS,
            registry=registry,
        )
        self.published = Counter(
            "headrace_published", "Acknowledged records, by their reason", ["reason"], registry=registry
        )
        self.outcomes = Counter(
            "headrace_events", "Input records, by what became of them", ["outcome"], registry=registry
        )
        self.dead_letters = Counter(
            "headrace_dead_letters", "Dead letters, by reason", ["reason"], registry=registry
        )
        self.batch_ms = Histogram(
            "headrace_batch_ms",
            "Learning from and listing for a batch",
            buckets=BUCKETS_MS,
            registry=registry,
        )
        self.commit_ms = Histogram(
            "headrace_commit_ms",
            "For how long a commit holds events up",
            buckets=BUCKETS_MS,
            registry=registry,
        )
        self.commit_write_ms = Histogram(
            "headrace_commit_write_ms",
            "Writing a commit, beside the events",
            buckets=BUCKETS_MS,
            registry=registry,
        )
        self.commit_bytes = Counter("headrace_commit_bytes", "Bytes written by commits", registry=registry)
        self.lag = Gauge("headrace_lag", "Records in the log that were not read", registry=registry)
        self.shedding = Gauge(
            "headrace_shedding", "0 none, 1 lists coalesced, 2 re-ranker skipped", registry=registry
        )
        self.lease = Gauge("headrace_lease", "1 while this worker has the group's lease", registry=registry)
        self.users = Gauge("headrace_users_in_memory", "Users in memory", registry=registry)
        self.quality = Gauge(
            "headrace_quality", "Prequential figures, as served", ["figure"], registry=registry
        )
        self.model = Gauge("headrace_model", "1 for the live snapshot", ["version"], registry=registry)
        self.swaps = Counter("headrace_model_swaps", "Snapshots taken into use", registry=registry)
        self.snapshot_errors = Counter(
            "headrace_snapshot_errors", "Tries at a snapshot that could not be loaded", registry=registry
        )
        self.models_ignored = Gauge(
            "headrace_models_ignored", "Records of the models topic that could not be used", registry=registry
        )
        self._reasons: dict[str, Counter] = {}
        self._clocks: dict[str, Histogram] = {}

    def acknowledged(self, reason: str, ages_ms: list[float], clock: str) -> None:
        """A record was acknowledged, for events this old."""
        if reason not in self._reasons:  # looking labels up takes as long as counting
            self._reasons[reason] = self.published.labels(reason)
        self._reasons[reason].inc()
        self.fresh(ages_ms, clock)

    def fresh(self, ages_ms: list[float], clock: str) -> None:
        """How old events were when their list was there."""
        if not ages_ms:
            return
        if clock not in self._clocks:
            self._clocks[clock] = self.freshness.labels(clock)
        observe = self._clocks[clock].observe
        for age in ages_ms:
            observe(age)

    def counted(self, counts: Mapping[str, int]) -> None:
        """A batch's outcomes."""
        for outcome, count in counts.items():
            if count:
                self.outcomes.labels(outcome).inc(count)

    def set_quality(self, figures: Mapping[str, float]) -> None:
        """The recommender's own figures."""
        for figure, value in figures.items():
            self.quality.labels(figure).set(value)

    def set_model(self, version: str) -> None:
        """This snapshot is in use from now on; "" for none."""
        self.model.clear()
        if version:
            self.model.labels(version).set(1)

    def page(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)
