"""Implicit matrix factorisation by alternating least squares: iALS.

A user and an item are vectors w, h whose product is to be 1 for pairs that were taken and, with a small weight α, 0 for
all pairs:

    Σ_taken (w·h - 1)² + α Σ_all (w·h)² + λ (Σ_users (n_u + α I)^ν |w|² + Σ_items (n_i + α U)^ν |h|²)

(Hu, Koren, Volinsky: Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008; regularisation scaled by
frequency, and settings: Rendle, Krichene, Zhang, Koren: Revisiting the Performance of iALS on Item Recommendation
Benchmarks, RecSys 2022). With one side fixed, each vector of the other is a small linear system of its own.

A query's vector is solved for from its history, as a user's is in training, but with a confidence (c of Hu et al.) that
fades with the age of an event: a new user is one like any other, and fresh clicks count most. Who has no history yet is
the mean user. New events are learned by solving for the users in them, then for the items in them, with all else fixed.
Ratings are not looked at.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from models.base import F32, I32, I64
from models.config import Section
from models.family.contract import Arrays, Factored, Interactions, Model, Queries, chosen
from models.family.parts.factors import grown, least_squares, restored
from models.family.parts.taken import Taken, fading, newest


class IALSSettings(Section):
    """The defaults serve lists of what comes next; without `half_life`, the history is a set as in the papers."""

    factors: int = Field(64, ge=1, le=2048)
    epochs: int = Field(16, ge=1, description="of a fit; in each all users are solved for, then all items")
    unobserved: float = Field(0.3, ge=0, description="α: weight of a pair that was not taken")
    l2: float = Field(0.003, gt=0, description="λ")
    frequency: float = Field(1.0, ge=0, le=1, description="ν: 1 regularises each rating alike, 0 each vector")
    half_life: float = Field(
        4.0, ge=0, description="of the weight in a query's history, in events; 0 for never"
    )
    init_std: float = Field(0.1, gt=0, description="of an item's vector at first, divided by √factors")


class IALS(Model, Factored):
    """Alternating least squares on all pairs (Hu, Koren, Volinsky 2008; Rendle et al. 2022)."""

    name = "ials"
    Settings: ClassVar[type[Section]] = IALSSettings
    settings: IALSSettings

    def fit(self, events: Interactions) -> None:
        self.n_users, self.n_items = 0, 0 if self.content is None else len(self.content)
        self.taken = Taken()
        self.user = np.zeros((0, self.settings.factors), np.float32)
        self.item = self._grown(self.user, "item", self.n_items)
        self._learn(events, self.settings.epochs)

    def partial_fit(self, events: Interactions) -> None:
        self._learn(events, 1)

    def know(self, n_items: int) -> None:
        super().know(n_items)
        self.item = self._grown(self.item, "item", self.n_items)

    def score(self, queries: Queries, items: I32 | None = None) -> F32:
        return chosen(self.embed(queries) @ self.item.T, items)

    def factors(self) -> tuple[F32, F32]:
        return self.item, np.zeros(len(self.item), np.float32)

    def embed(self, queries: Queries) -> F32:
        """A vector for each query, from its history, float32 [n, factors]."""
        history = newest(queries, self.n_items)
        shape = (len(queries), self.n_items)
        vectors = self._solve(history.matrix(fading(history.age, self.settings.half_life), shape), self.item)
        if self.n_users:
            vectors[np.bincount(history.row, minlength=len(queries)) == 0] = self.user.mean(axis=0)
        return vectors

    def arrays(self) -> Arrays:
        pairs = {f"taken/{name}": array for name, array in self.taken.arrays().items()}
        return {"users": self.user, "items": self.item, **pairs}

    def restore(self, arrays: Arrays) -> None:
        pairs = {name: arrays[f"taken/{name}"] for name in ("user", "item")}
        self.taken = Taken.restored(pairs, self.n_users, self.n_items)
        self.user = restored(arrays["users"], self.n_users, self.settings.factors, "users")
        self.item = restored(arrays["items"], self.n_items, self.settings.factors, "items")

    def _learn(self, events: Interactions, epochs: int) -> None:
        if not len(events):
            return
        self.n_users = max(self.n_users, int(events.user.max()) + 1)
        self.n_items = max(self.n_items, int(events.item.max()) + 1)
        self.taken.add(events)
        self.user = self._grown(self.user, "user", self.n_users)
        self.item = self._grown(self.item, "item", self.n_items)
        of_users = self.taken.matrix(self.n_users, self.n_items)
        of_items = csr_array(of_users.T)
        users: I64 = np.unique(events.user).astype(np.int64)
        items: I64 = np.unique(events.item).astype(np.int64)
        for _ in range(epochs):
            self.user[users] = self._solve(of_users[users], self.item)
            self.item[items] = self._solve(of_items[items], self.user)

    def _grown(self, rows: F32, side: str, count: int) -> F32:
        std = self.settings.init_std / float(np.sqrt(self.settings.factors))
        return grown(rows, count, seed=self.seed, side=side, std=std)

    def _solve(self, taken: csr_array, fixed: F32) -> F32:
        """The vector of each row that is best while those of the other side are fixed.

        Args:
            taken: what each row took, [n, others].
            fixed: vectors of the others, [others, factors].
        """
        s = self.settings
        everything = (s.unobserved * (fixed.T @ fixed)).astype(np.float32)
        penalty = s.l2 * (taken.sum(axis=1) + s.unobserved * len(fixed)) ** s.frequency
        solved = np.empty((taken.shape[0], s.factors), np.float32)
        for row, (start, stop) in enumerate(pairwise(taken.indptr.tolist())):
            others = fixed[taken.indices[start:stop]]
            weight = taken.data[start:stop]
            solved[row] = least_squares(everything, others, weight, weight, float(penalty[row]))
        return solved
