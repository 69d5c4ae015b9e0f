"""Who took what: users × items as a sparse binary matrix that grows, and queries' histories as rows of the same width.

In: interactions, queries. Out: pairs, each once, and matrices made of them. What all models of sets of items stand on;
how often an item was taken, and how it was rated, is not kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from models.base import F32, F64, I32, I64, Bool
from models.family.contract import NOBODY, Arrays, Interactions, Queries


class Taken:
    """Pairs of user and item, each where it first occurred.

    Attributes:
        user, item: codes, int32 [pairs], in order of arrival.
    """

    def __init__(self) -> None:
        self.user: I32 = np.zeros(0, np.int32)
        self.item: I32 = np.zeros(0, np.int32)
        self._keys: I64 = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.user)

    def add(self, events: Interactions) -> Bool:
        """Take in events; which of them brought a new pair, bool [n]."""
        keys = _keys(events.user, events.item)
        first = np.zeros(len(keys), np.bool_)
        first[np.unique(keys, return_index=True)[1]] = True
        new: Bool = first & ~np.isin(keys, self._keys)
        self.user = np.concatenate([self.user, events.user[new]])
        self.item = np.concatenate([self.item, events.item[new]])
        self._keys = np.concatenate([self._keys, keys[new]])
        return new

    def matrix(self, n_users: int, n_items: int, start: int = 0) -> csr_array:
        """The pairs from the `start`-th on as ones, float32 [n_users, n_items]."""
        user, item = self.user[start:], self.item[start:]
        return csr_array((np.ones(len(user), np.float32), (user, item)), shape=(n_users, n_items))

    def arrays(self) -> Arrays:
        """The pairs, to be stored."""
        return {"user": self.user, "item": self.item}

    @classmethod
    def restored(cls, arrays: Arrays, n_users: int, n_items: int) -> Taken:
        """What `arrays` gave.

        Raises:
            ValueError: columns of different lengths, or a code that is not below `n_users` or `n_items`.
        """
        user, item = arrays["user"].astype(np.int32), arrays["item"].astype(np.int32)
        if user.shape != item.shape:
            raise ValueError(f"{len(user)} users and {len(item)} items of pairs")
        if len(user) and (user.max() >= n_users or item.max() >= n_items or min(user.min(), item.min()) < 0):
            raise ValueError(f"a pair is outside of {n_users} users and {n_items} items")
        taken = cls()
        taken.user, taken.item, taken._keys = user, item, _keys(user, item)
        return taken


@dataclass(frozen=True, slots=True)
class Newest:
    """The known items of histories, each once, where it was last; one row an entry.

    Attributes:
        row: of the queries, int64 [m]; ascending.
        item: code, int32 [m].
        age: events of the history after it, int64 [m]; 0 for the newest.
        value: its rating, float32 [m]; NaN where there is none.
    """

    row: I64
    item: I32
    age: I64
    value: F32

    def matrix(self, weight: F64 | F32, shape: tuple[int, int]) -> csr_array:
        """These weights [m] where the entries are, float32 [queries, n_items]."""
        return csr_array((weight.astype(np.float32), (self.row, self.item)), shape=shape)


def newest(queries: Queries, n_items: int) -> Newest:
    """The items below `n_items` in the histories of the queries."""
    known = (queries.items != NOBODY) & (queries.items < n_items)
    row, column = np.nonzero(known)
    item = queries.items[row, column]
    # of entries with the same row and item, np.unique gives the first: the newest when read from the end
    _, last = np.unique((row.astype(np.int64) << 32 | item)[::-1], return_index=True)
    kept = np.sort(len(row) - 1 - last)
    row, column = row[kept], column[kept]
    return Newest(row, item[kept], queries.items.shape[1] - 1 - column, queries.values[row, column])


def fading(age: I64, half_life: float) -> F64:
    """Weights that halve every `half_life` events, float64 [m]; 0 counts all alike.

    >>> fading(np.array([0, 2, 4]), 2.0).tolist()
    [1.0, 0.5, 0.25]
    """
    return np.ones(len(age)) if half_life == 0.0 else 0.5 ** (age / half_life)


def or_popularity(evidence: F32, counts: I64 | F32) -> F32:
    """Scores where there is evidence, popularity below 0 where there is none.

    An item that nothing connects with the history stands behind all that something does, before or after others of
    its kind by how many users took it; so lists are never short, and a history that says nothing gets what is popular.

    Args:
        evidence: at least 0, float32 [n, items].
        counts: users of each item, [items].

    >>> or_popularity(np.array([[0.5, 0.0, 0.0]], np.float32), np.array([1, 2, 4])).tolist()
    [[0.5, -0.5, 0.0]]
    """
    most = max(int(counts.max(initial=0)), 1)
    behind = (counts / most - 1.0).astype(np.float32)
    return np.where(evidence > 0.0, evidence, behind)


def _keys(user: I32, item: I32) -> I64:
    keys: I64 = user.astype(np.int64) << 32 | item
    return keys
