"""Metrics of rankings with any number of relevant items a list: HR, recall, precision, F1, NDCG, MRR and MAP at k.

In: lists (item codes, best first, -1 fills a short row) and the relevant items of each. Out: one value a list, so that
whoever averages them can also resample them. Pure functions; `models.metrics.lists` has the case of one relevant item.

Definitions are those of trec_eval: k is the width of the lists, short lists are not forgiven, and average precision is
divided by all relevant items, listed or not (Manning, Raghavan, Schütze: Introduction to Information Retrieval, 2008,
ch. 8; Järvelin and Kekäläinen 2002 for NDCG with gains of 0 and 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.base import F64, I32, I64, Bool


@dataclass(frozen=True, slots=True)
class Relevant:
    """The relevant items of n lists, one after the other.

    Attributes:
        starts: those of list r are `item[starts[r]:starts[r + 1]]`, int64 [n + 1].
        item: codes, int32 [m]; each at most once a list.
    """

    starts: I64
    item: I32

    @property
    def sizes(self) -> I64:
        """How many items are relevant to each list, int64 [n]."""
        return np.diff(self.starts)

    @property
    def owner(self) -> I64:
        """The list that each entry of `item` belongs to, int64 [m]."""
        return np.repeat(np.arange(len(self.starts) - 1), self.sizes)

    def narrowed(self, entries: Bool) -> tuple[I64, Relevant]:
        """Only some entries [m] count: the lists that keep any, int64 [n'], and the relevant items of those."""
        owner = self.owner[entries]
        kept, sizes = np.unique(owner, return_counts=True)
        return kept, Relevant(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), self.item[entries])


def hits(lists: I32, relevant: Relevant) -> Bool:
    """Which places hold a relevant item, bool [n, k].

    Args:
        lists: item codes, best first, int32 [n, k]; each at most once a list; -1 fills and is never relevant.

    >>> hits(np.array([[4, 7], [7, -1]], np.int32), Relevant(np.array([0, 2, 3]), np.array([7, 9, 4], np.int32)))
    array([[False,  True],
           [False, False]])
    """
    width = int(max(lists.max(initial=-1), relevant.item.max(initial=-1))) + 1
    wanted = np.sort(relevant.owner * width + relevant.item)
    keys = np.arange(len(lists))[:, None] * width + lists
    if not len(wanted):
        return np.zeros(lists.shape, np.bool_)
    at = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
    return np.asarray((wanted[at] == keys) & (lists >= 0))


def hit_rate(hit: Bool, sizes: I64) -> F64:
    """1 for each list with a relevant item on it, else 0."""
    del sizes
    return np.asarray(hit.any(axis=1), np.float64)


def recall(hit: Bool, sizes: I64) -> F64:
    """Share of the relevant items that were listed."""
    return np.asarray(hit.sum(axis=1) / np.maximum(sizes, 1), np.float64)


def precision(hit: Bool, sizes: I64) -> F64:
    """Share of the k places that hold a relevant item; an empty place is a wrong one."""
    del sizes
    return np.asarray(hit.sum(axis=1) / max(hit.shape[1], 1), np.float64)


def f1(hit: Bool, sizes: I64) -> F64:
    """Harmonic mean of each list's precision and recall: 2 · hits / (k + relevant)."""
    return np.asarray(2.0 * hit.sum(axis=1) / np.maximum(hit.shape[1] + sizes, 1), np.float64)


def ndcg(hit: Bool, sizes: I64) -> F64:
    """Discounted gain over that of the ideal list, which has min(k, relevant) relevant items in front.

    >>> ndcg(np.array([[True, False], [False, True]]), np.array([2, 1])).round(4).tolist()
    [0.6131, 0.6309]
    """
    k = hit.shape[1]
    discount = 1.0 / np.log2(np.arange(k) + 2.0)
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(sizes, k)]
    gain: F64 = np.divide(hit @ discount, ideal, out=np.zeros(len(hit)), where=ideal > 0)
    return gain


def mrr(hit: Bool, sizes: I64) -> F64:
    """1 / the place of the first relevant item, counted from 1; 0 where none was listed."""
    del sizes
    if hit.shape[1] == 0:
        return np.zeros(len(hit))
    return np.where(hit.any(axis=1), 1.0 / (hit.argmax(axis=1) + 1.0), 0.0)


def average_precision(hit: Bool, sizes: I64) -> F64:
    """Precision at each relevant place, summed, over the number of relevant items; the mean over lists is MAP.

    >>> average_precision(np.array([[True, False, True]]), np.array([2])).round(4).tolist()
    [0.8333]
    """
    at = np.cumsum(hit, axis=1) / (np.arange(hit.shape[1]) + 1.0)
    return np.asarray((at * hit).sum(axis=1) / np.maximum(sizes, 1), np.float64)


RANKING: dict[str, Callable[[Bool, I64], F64]] = {
    "hr": hit_rate,
    "recall": recall,
    "precision": precision,
    "f1": f1,
    "ndcg": ndcg,
    "mrr": mrr,
    "map": average_precision,
}
"""Usual name → the metric, of places that hold a relevant item [n, k] and the number of relevant items [n]."""
