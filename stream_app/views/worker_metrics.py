"""What a running worker says of itself, read from its `/metrics` page.

In: the page in Prometheus' text format. Out: a `Sample`, plain numbers with a time. Never keeps a history and
never shows anything.
"""

from __future__ import annotations

import math
import time
import urllib.request
from collections import defaultdict
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Buckets:
    """A cumulative histogram: how many observations were at most as large as each bound (ms)."""

    bounds: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()

    @property
    def total(self) -> float:
        return self.counts[-1] if self.counts else 0.0

    def since(self, earlier: Buckets) -> Buckets:
        """The observations that came after `earlier`; all of them when the worker started anew since."""
        if earlier.bounds != self.bounds or earlier.total > self.total:
            return self
        return Buckets(
            self.bounds, tuple(now - then for now, then in zip(self.counts, earlier.counts, strict=True))
        )

    def quantile(self, q: float) -> float:
        """The value that a share `q` of the observations is below, linear in a bucket; NaN of none."""
        rank = q * self.total
        low, below = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= rank and count > below:
                return low if math.isinf(bound) else low + (bound - low) * (rank - below) / (count - below)
            low, below = (low if math.isinf(bound) else bound), count
        return math.nan


LIST = 10
"""Length of a list, until a page says it."""

CLOCKS = {
    "append": "append → append, broker's clock",
    "worker": "receive → ack, worker's clock",
}
"""What the label of a freshness means."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a worker counted up to one moment. Shares are NaN while nothing was scored.

    Attributes:
        at_s: monotonic clock of the reader.
        events: accepted, since the state was empty.
        k: length of a list, of which HR and NDCG are told.
        sample_hr, frozen_hr: of the served lists and of the frozen first model, over one sample of users.
        freshness: of the updates for events (refreshes apart), in ms, since the worker's start.
        clock: on which clock that is measured, a key of CLOCKS.
        model: version of the live Transformer; empty while there is none.
    """

    at_s: float
    events: int = 0
    scored: int = 0
    k: int = LIST
    hr: float = math.nan
    ndcg: float = math.nan
    popularity_hr: float = math.nan
    popularity_ndcg: float = math.nan
    sample_scored: int = 0
    sample_hr: float = math.nan
    frozen_hr: float = math.nan
    coverage: float = math.nan
    novelty: float = math.nan
    diversity: float = math.nan
    duplicates: int = 0
    dead_letters: int = 0
    lag: int = 0
    updates: int = 0
    refreshes: int = 0
    swaps: int = 0
    model: str = ""
    freshness: Buckets = Buckets()
    clock: str = "worker"

    @property
    def hits(self) -> float:
        """Scored events whose item was on the list."""
        return self.hr * self.scored if self.scored else 0.0

    @property
    def measured(self) -> str:
        """Between which two moments the freshness is measured."""
        return CLOCKS.get(self.clock, self.clock)


def read_sample(url: str, timeout_s: float = 2.0) -> Sample | None:
    """The figures of the worker whose page is at `url`, or None while nobody answers there."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            page = answer.read().decode()
    except OSError:
        return None
    return parse(page, time.monotonic())


def parse(page: str, at_s: float) -> Sample:
    """The figures of a page; one that is not on it keeps the value it has before anything has happened."""
    quality: dict[str, float] = {}
    totals: defaultdict[str, float] = defaultdict(float)
    labelled: defaultdict[str, dict[str, float]] = defaultdict(dict)
    buckets: defaultdict[str, dict[float, float]] = defaultdict(dict)
    for family in text_string_to_metric_families(page):
        for metric in family.samples:
            name, labels, value = metric.name, metric.labels, float(metric.value)
            totals[name] += value
            if name == "headrace_quality":
                quality[labels["figure"]] = value
            elif name == "headrace_freshness_ms_bucket":
                buckets[labels["clock"]][float(labels["le"])] = value
            elif "reason" in labels:
                labelled[name][labels["reason"]] = value
            elif name == "headrace_model" and value:
                labelled[name][labels["version"]] = value
    clock = max(buckets, key=lambda name: buckets[name][math.inf], default="worker")
    counts = sorted(buckets[clock].items())
    published = labelled["headrace_published_total"]
    refreshes = sum(count for reason, count in published.items() if reason.startswith("refresh"))

    k = next((int(name[3:]) for name in quality if name.startswith("hr@")), LIST)

    def share(name: str, of: str = "scored") -> float:
        return quality.get(name, math.nan) if quality.get(of) else math.nan

    return Sample(
        at_s=at_s,
        events=int(quality.get("events", 0)),
        scored=int(quality.get("scored", 0)),
        k=k,
        hr=share(f"hr@{k}"),
        ndcg=share(f"ndcg@{k}"),
        popularity_hr=share(f"popularity_hr@{k}"),
        popularity_ndcg=share(f"popularity_ndcg@{k}"),
        sample_scored=int(quality.get("sample_scored", 0)),
        sample_hr=share(f"sample_hr@{k}", "sample_scored"),
        frozen_hr=share(f"frozen_hr@{k}", "sample_scored"),
        coverage=share("coverage", "lists"),
        novelty=share("novelty", "lists"),
        diversity=share("diversity", "lists"),
        duplicates=int(quality.get("duplicates", 0)),
        dead_letters=int(totals["headrace_dead_letters_total"]),
        lag=int(totals["headrace_lag"]),
        updates=int(sum(published.values()) - refreshes),
        refreshes=int(refreshes),
        swaps=int(totals["headrace_model_swaps_total"]),
        model=next(iter(labelled["headrace_model"]), ""),
        freshness=Buckets(tuple(bound for bound, _ in counts), tuple(count for _, count in counts)),
        clock=clock,
    )
