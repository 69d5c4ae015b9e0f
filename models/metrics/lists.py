"""Metrics of recommendation lists: hit rate, NDCG, coverage, novelty, diversity, and curves of them.

In: arrays of lists (item numbers, best first, -1 fills a short row) and of what happened next. Out: numbers.
Pure functions of their arguments: nothing here looks at a model, a clock or a random generator.

There is one relevant item for each list (the user's next one), so the ideal DCG is 1 and NDCG is the discount
at the rank of the item: 1 / log2(rank + 2) with the first place at rank 0 (Järvelin and Kekäläinen 2002).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.base import F64, I32, I64, Bool

MISSED = -1
"""Rank of an item that is not on the list."""


def ranks(lists: I32, targets: I32) -> I32:
    """Place of each target on its list, from 0; MISSED where it is not there.

    Args:
        lists: item numbers, best first, int32 [n, k]; -1 fills a short row and is never a hit.
        targets: the item that came next, int32 [n].

    >>> ranks(np.array([[4, 7], [7, 4]], np.int32), np.array([7, 1], np.int32)).tolist()
    [1, -1]
    """
    found = (lists == targets[:, None]) & (targets >= 0)[:, None]
    if found.shape[1] == 0:
        return np.full(len(targets), MISSED, np.int32)
    return np.where(found.any(axis=1), found.argmax(axis=1), MISSED).astype(np.int32)


def hits(rank: I32, k: int) -> F64:
    """1 for each target among the first `k`, else 0; the mean is HR@k."""
    return ((rank >= 0) & (rank < k)).astype(np.float64)


def ndcg(rank: I32, k: int) -> F64:
    """NDCG@k of each list, its target being the one relevant item; the mean is NDCG@k.

    >>> ndcg(np.array([0, 2, -1, 12], np.int32), 10).tolist()
    [1.0, 0.5, 0.0, 0.0]
    """
    gain = np.zeros(len(rank), np.float64)
    hit = (rank >= 0) & (rank < k)
    gain[hit] = 1.0 / np.log2(rank[hit] + 2.0)
    return gain


def coverage(shown: I64, available: int) -> float:
    """Share of the catalogue that was on at least one list.

    Args:
        shown: how often each item was listed, int64 [items].
        available: how many items could have been.
    """
    return float(np.count_nonzero(shown)) / available if available else 0.0


def self_information(counts: I64 | F64) -> F64:
    """-log2 of each item's share of all events, in bits; an item without events is taken to have had one.

    >>> self_information(np.array([4, 2, 2, 0])).tolist()
    [1.0, 2.0, 2.0, 3.0]
    """
    total = max(float(counts.sum()), 1.0)
    return np.asarray(np.log2(total) - np.log2(np.maximum(counts, 1.0)), np.float64)


def novelty(lists: I32, information: F64) -> float:
    """Mean self-information of what was listed, in bits (Zhou et al. 2010); NaN without any item.

    Args:
        lists: item numbers, int32 [n, k]; -1 is passed over.
        information: bits of each item number, as of `self_information`.
    """
    listed = lists[lists >= 0]
    return float(information[listed].mean()) if listed.size else float("nan")


def diversity(lists: I32, vectors: F64) -> F64:
    """Intra-list diversity of each list: mean of 1 - cosine over its pairs of items (Ziegler et al. 2005).

    Args:
        lists: item numbers, int32 [n, k]; -1 is passed over.
        vectors: a description of each item number, float [items, d]; a row of zeros describes nothing and its
            pairs are passed over.

    Returns:
        float64 [n]; NaN for a list without a pair that can be compared.
    """
    length = np.sqrt(np.einsum("id,id->i", vectors, vectors))
    unit = np.divide(vectors, length[:, None], out=np.zeros_like(vectors), where=length[:, None] > 0)
    comparable = (lists >= 0) & (length[lists] > 0)
    # The sum of cosines over all ordered pairs is |sum of the unit vectors|^2; its diagonal is the count.
    total = np.where(comparable[:, :, None], unit[lists], 0.0).sum(axis=1)
    n = comparable.sum(axis=1)
    pairs = n * (n - 1)
    similarity = np.einsum("nd,nd->n", total, total) - n
    return np.where(pairs > 0, 1.0 - similarity / np.maximum(pairs, 1), np.nan)


@dataclass(slots=True)
class Progressive:
    """The mean of a value per window of `window` events, collected as a stream goes by.

    >>> curve = Progressive(window=10)
    >>> curve.add(np.array([1, 5, 12]), np.array([1.0, 0.0, 1.0]))
    >>> curve.means().tolist()
    [0.5, 1.0]
    """

    window: int
    _sum: list[float] = field(default_factory=list)
    _count: list[float] = field(default_factory=list)

    def add(self, position: I64, value: F64, count: F64 | None = None) -> None:
        """Values at positions in the stream (from 0); `count` says of how many values each is the sum."""
        if not len(position):
            return
        window = np.asarray(position) // self.window
        missing = int(window.max()) + 1 - len(self._sum)
        if missing > 0:
            self._sum.extend([0.0] * missing)
            self._count.extend([0.0] * missing)
        sums = np.bincount(window, weights=value)
        counts = np.bincount(window, weights=count)
        for at in np.flatnonzero(counts):
            self._sum[at] += float(sums[at])
            self._count[at] += float(counts[at])

    def positions(self) -> I64:
        """Where each window ends, in events."""
        return (np.arange(len(self._sum), dtype=np.int64) + 1) * self.window

    def counts(self) -> F64:
        """Values in each window."""
        return np.asarray(self._count, np.float64)

    def means(self) -> F64:
        """Mean of each window; NaN where it had no value."""
        counts = self.counts()
        sums = np.asarray(self._sum, np.float64)
        means = np.full(len(sums), np.nan)
        np.divide(sums, counts, out=means, where=counts > 0)
        return means

    def mean(self, start: int = 0, stop: int | None = None) -> float:
        """Mean over the windows `start` to `stop`, each value counting once; NaN where there was none."""
        count = sum(self._count[start:stop])
        return sum(self._sum[start:stop]) / count if count else float("nan")


def chosen(mask: Bool, values: F64) -> tuple[int, float]:
    """How many of `values` the mask picks, and their mean (NaN for none): one row of a table."""
    n = int(mask.sum())
    return n, float(values[mask].mean()) if n else float("nan")
