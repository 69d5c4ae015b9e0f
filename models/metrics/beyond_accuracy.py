"""What lists are like beside being right: serendipity, popularity bias, concentration.

In: lists (item codes, best first, -1 fills), how often each item was taken, the lists of the popularity baseline. Out:
one value a list, or one for all lists. Pure. Coverage, novelty and intra-list diversity are in `models.metrics.lists`.
"""

from __future__ import annotations

import numpy as np

from models.base import F64, I32, I64, Bool


def serendipity(lists: I32, hit: Bool, expected: I32) -> F64:
    """Share of the k places that hold an item which is relevant and not to be expected (Ge et al. 2010, section 3.2).

    Expected is what a primitive recommender would have shown: here, the popularity list of the same moment and length.
    Useful is what is relevant.

    Args:
        lists: int32 [n, k].
        hit: which places hold a relevant item, bool [n, k].
        expected: the baseline's list for the same user at the same moment, int32 [n, k].

    >>> serendipity(np.array([[3, 5]], np.int32), np.array([[True, True]]), np.array([[5, 8]], np.int32)).tolist()
    [0.5]
    """
    surprising = ~(lists[:, :, None] == expected[:, None, :]).any(axis=2)
    return np.asarray((hit & surprising).sum(axis=1) / max(lists.shape[1], 1), np.float64)


def mean_of_listed(lists: I32, of_item: F64 | I64) -> F64:
    """Mean over each list of a property of its items; NaN for an empty list.

    With the number of events of each item, it is the average recommendation popularity, whose mean over users is
    ARP (Abdollahpouri et al. 2019, after Yin et al. 2012); with its self-information, novelty.

    Args:
        of_item: one value an item code, [items].
    """
    there = lists >= 0
    if not len(of_item):
        return np.full(len(lists), np.nan)
    total = np.where(there, of_item[np.maximum(lists, 0)], 0).sum(axis=1, dtype=np.float64)
    n = there.sum(axis=1)
    mean: F64 = np.divide(total, n, out=np.full(len(lists), np.nan), where=n > 0)
    return mean


def gini(shown: I64) -> float:
    """Gini coefficient of exposure: 0 when all items are shown equally often, near 1 when one takes all.

    Args:
        shown: how often each item of the catalogue was listed, int64 [items]; never-listed items count as 0.

    >>> gini(np.array([2, 2, 2, 2])), gini(np.array([0, 0, 0, 8]))
    (0.0, 0.75)
    """
    total = float(shown.sum())
    if not total:
        return float("nan")
    n = len(shown)
    ordered = np.sort(shown).astype(np.float64)
    return float((2.0 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))
