"""Item-item collaborative filtering: who took this took that.

Two items are as alike as the cosine of their sets of users, n_ij / √(n_i n_j) (Sarwar, Karypis, Konstan, Riedl:
Item-Based Collaborative Filtering Recommendation Algorithms, WWW 2001), shrunk by n_ij / (n_ij + λ) where few users
had both (Bell, Koren: Scalable Collaborative Filtering with Jointly Derived Neighborhood Interpolation Weights, ICDM
2007). Each item passes its weight on to its nearest neighbours only (Deshpande, Karypis: Item-Based Top-N
Recommendation Algorithms, TOIS 2004). An item's score is the sum over the history, in which the newest weighs most.

Counts n_ij are whole numbers, brought up to date by the new pairs alone: learning in parts is learning at once, to the
bit. Ratings are not looked at.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from models.base import F32, I32
from models.config import Section
from models.family.contract import Arrays, Interactions, Model, Queries, chosen
from models.family.parts.taken import Taken, fading, newest, or_popularity


class ItemKNNSettings(Section):
    """Which items are neighbours, and how long a history counts."""

    neighbours: int = Field(100, ge=1, description="items that an item passes its weight on to")
    shrinkage: float = Field(10.0, ge=0, description="common users at which a similarity is halved")
    half_life: float = Field(2.0, ge=0, description="of the weight in the history, in events; 0 for never")


class ItemKNN(Model):
    """Cosine of items' users, shrunk, nearest neighbours only (Sarwar et al. 2001; Bell and Koren 2007)."""

    name = "item-item"
    Settings: ClassVar[type[Section]] = ItemKNNSettings
    settings: ItemKNNSettings

    def fit(self, events: Interactions) -> None:
        self.n_users, self.n_items = 0, 0 if self.content is None else len(self.content)
        self.taken = Taken()
        self.common = csr_array((self.n_items, self.n_items), dtype=np.float32)
        self.counts, self.similar = self.common.diagonal(), self.common
        self.partial_fit(events)

    def partial_fit(self, events: Interactions) -> None:
        if not len(events):
            return
        self.n_users = max(self.n_users, int(events.user.max()) + 1)
        self.n_items = max(self.n_items, int(events.item.max()) + 1)
        before = len(self.taken)
        self.taken.add(events)
        self._count(before)

    def know(self, n_items: int) -> None:
        super().know(n_items)
        for pairs in (self.common, self.similar):
            pairs.resize((self.n_items, self.n_items))
        self.counts = self.common.diagonal()

    def score(self, queries: Queries, items: I32 | None = None) -> F32:
        history = newest(queries, self.n_items)
        weight = fading(history.age, self.settings.half_life)
        evidence = history.matrix(weight, (len(queries), self.n_items)) @ self.similar
        return chosen(or_popularity(evidence.toarray(), self.counts), items)

    def arrays(self) -> Arrays:
        return self.taken.arrays()

    def restore(self, arrays: Arrays) -> None:
        self.taken = Taken.restored(arrays, self.n_users, self.n_items)
        self.common = csr_array((self.n_items, self.n_items), dtype=np.float32)
        self._count(0)

    def _count(self, start: int) -> None:
        """Add the pairs from the `start`-th on to the counts of common users, and find the neighbours again."""
        shape = (self.n_users, self.n_items)
        new, every = self.taken.matrix(*shape, start), self.taken.matrix(*shape)
        old = every - new
        self.common.resize((self.n_items, self.n_items))
        # (old + new)ᵀ(old + new) = oldᵀold + newᵀ(old + new) + oldᵀnew
        self.common = self.common + new.T @ every + old.T @ new
        self.counts = self.common.diagonal()
        self.similar = nearest(similarity(self.common, self.settings.shrinkage), self.settings.neighbours)


def similarity(common: csr_array, shrinkage: float) -> csr_array:
    """Shrunk cosines from numbers of common users [items, items]; 0 of an item with itself.

    >>> users = csr_array(np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], np.float32))
    >>> similarity(users.T @ users, 1.0).toarray().astype(float).round(3).tolist()
    [[0.0, 0.544, 0.25], [0.544, 0.0, 0.544], [0.25, 0.544, 0.0]]
    """
    users = common.diagonal()
    pairs = common.tocoo()
    row, column = pairs.coords
    apart = row != column
    row, column, both = row[apart], column[apart], pairs.data[apart]
    alike = both / np.sqrt(users[row] * users[column]) * (both / (both + shrinkage))
    return csr_array((alike.astype(np.float32), (row, column)), shape=common.shape)


def nearest(similar: csr_array, count: int) -> csr_array:
    """Of each row its `count` highest entries; the lower column first where they are equal.

    >>> nearest(csr_array(np.array([[0.0, 1.0, 3.0, 3.0]])), 1).toarray().tolist()
    [[0.0, 0.0, 3.0, 0.0]]
    """
    similar.sort_indices()
    kept = np.ones(similar.nnz, np.bool_)
    for start, stop in zip(similar.indptr[:-1].tolist(), similar.indptr[1:].tolist(), strict=True):
        if stop - start > count:
            kept[start:stop] = False
            kept[start + np.argsort(-similar.data[start:stop], kind="stable")[:count]] = True
    row = np.repeat(np.arange(similar.shape[0]), np.diff(similar.indptr))[kept]
    return csr_array((similar.data[kept], (row, similar.indices[kept])), shape=similar.shape)
