"""Implicit matrix factorisation by element-wise alternating least squares, with online updates: eALS.

A user and an item are vectors p, q whose product is to be 1 for pairs that were taken, and 0 for the others, which
weigh the more the more popular their item is (who takes what is popular will have seen the item, and left it):

    Σ_taken v_ui (p·q - 1)² + Σ_not_taken c_i (p·q)² + λ (Σ |p|² + Σ |q|²)     c_i = c N f_i^a / Σ_j f_j^a

(He, Zhang, Kan, Chua: Fast Matrix Factorization for Online Recommendation with Implicit Feedback, SIGIR 2016, equations
7 and 8; N items, f_i the share of events of item i). One entry of one vector is solved for at a time, in closed form
(equations 12 and 13), over the pairs that were taken: all others come in by S^q = Σ c_i q qᵀ and S^p = Σ p pᵀ alone.

A new event is one step of incremental learning (algorithm 2): its pair is added with a weight of its own, then the
user's vector and the item's are solved for, with everything else as it is. A query's vector is solved for from its
history in the same way, the newest events weighing most; who has no history is the mean user. Ratings are not looked
at.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from models.base import F32, F64, I32, I64, Bool
from models.config import Section
from models.family.contract import Arrays, Factored, Interactions, Model, Queries, chosen
from models.family.parts.factors import grown, least_squares, restored
from models.family.parts.taken import Taken, fading, newest
from models.kernels import inner, kernel


class EALSSettings(Section):
    """How much the pairs weigh that were not taken."""

    factors: int = Field(64, ge=1, le=1024)
    epochs: int = Field(10, ge=1, description="of a fit; in each all users are solved for, then all items")
    missing: float = Field(0.3, gt=0, description="c: mean weight of a pair that was not taken")
    popularity: float = Field(0.4, ge=0, le=1, description="a: 0 weighs all items alike")
    l2: float = Field(1.0, gt=0, description="λ")
    fresh: float = Field(1.0, gt=0, description="weight of a pair that was learned online; 1 for the others")
    rounds: int = Field(1, ge=1, description="over both vectors, for each event that is learned online")
    half_life: float = Field(
        4.0, ge=0, description="of the weight in a query's history, in events; 0 for never"
    )
    init_std: float = Field(0.01, gt=0, description="of a vector's entries at first")


class Side(NamedTuple):
    """The pairs by user, or by item: in order of arrival within each.

    Attributes:
        start: where each one's pairs begin, int64 [n + 1].
        held: how many of them are there already, int64 [n].
        others: the other code of each pair, int32 [pairs].
        weight: v of each pair, float32 [pairs].
    """

    start: I64
    held: I64
    others: I32
    weight: F32


@inner(allocates=True)
def _solve(
    vector: F32, others: I32, weight: F32, missing: F32, by: F32, cache: F64, share: float, l2: float
) -> None:
    """One round over the entries of a vector, each at its best while the others stay (equations 12 and 13).

    Args:
        vector: of this user or item, changed in place, [factors].
        others: what is paired with it, [n].
        weight, missing: of each of these pairs, v, and c if it were not there, [n].
        by: vectors of the other side.
        cache: S of the whole other side, [factors, factors], of which `share` counts.
    """
    d, n = len(vector), len(others)
    columns = np.empty((d, n), np.float32)
    said = np.zeros(n)
    for k in range(n):
        row = by[others[k]]
        for f in range(d):
            columns[f, k] = row[f]
            said[k] += vector[f] * row[f]
    for f in range(d):
        x = columns[f]
        up, down = 0.0, share * cache[f, f] + l2
        for k in range(n):
            without = said[k] - vector[f] * x[k]
            up += (weight[k] - (weight[k] - missing[k]) * without) * x[k]
            down += (weight[k] - missing[k]) * x[k] * x[k]
        for g in range(d):
            if g != f:
                up -= share * vector[g] * cache[g, f]
        better = np.float32(up / down)
        for k in range(n):
            said[k] += (better - vector[f]) * x[k]
        vector[f] = better


@inner
def _add(cache: F64, vector: F32, weight: float) -> None:
    """cache += weight · (vector)(vector)ᵀ"""
    for f in range(len(vector)):
        for g in range(len(vector)):
            cache[f, g] += weight * vector[f] * vector[g]


@inner(allocates=True)
def _solve_user(
    u: int, p: F32, q: F32, c: F32, start: I64, held: I64, items: I32, weight: F32, s_q: F64, l2: float
) -> None:
    rows = slice(start[u], start[u] + held[u])
    _solve(p[u], items[rows], weight[rows], c[items[rows]], q, s_q, 1.0, l2)


@inner(allocates=True)
def _solve_item(
    i: int, p: F32, q: F32, c: F32, start: I64, held: I64, users: I32, weight: F32, s_p: F64, l2: float
) -> None:
    rows = slice(start[i], start[i] + held[i])
    missing = np.full(held[i], c[i], np.float32)
    _solve(q[i], users[rows], weight[rows], missing, p, s_p, c[i], l2)


@kernel(allocates=True)
def _alternate(p: F32, q: F32, c: F32, by_user: Side, by_item: Side, l2: float) -> None:
    """All users, then all items."""
    d = p.shape[1]
    s_q, s_p = np.zeros((d, d)), np.zeros((d, d))
    for i in range(len(q)):
        _add(s_q, q[i], c[i])
    for u in range(len(p)):
        _solve_user(u, p, q, c, by_user.start, by_user.held, by_user.others, by_user.weight, s_q, l2)
        _add(s_p, p[u], 1.0)
    for i in range(len(q)):
        _solve_item(i, p, q, c, by_item.start, by_item.held, by_item.others, by_item.weight, s_p, l2)


@kernel(allocates=True)
def _follow(
    user: I32,
    item: I32,
    new: Bool,
    p: F32,
    q: F32,
    c: F32,
    by_user: Side,
    by_item: Side,
    l2: float,
    rounds: int,
) -> None:
    """Events one by one: a new pair is there from its event on."""
    d = p.shape[1]
    s_q, s_p = np.zeros((d, d)), np.zeros((d, d))
    for i in range(len(q)):
        _add(s_q, q[i], c[i])
    for u in range(len(p)):
        _add(s_p, p[u], 1.0)
    for n in range(len(user)):
        u, i = user[n], item[n]
        if new[n]:
            by_user.held[u] += 1
            by_item.held[i] += 1
        for _ in range(rounds):
            _add(s_p, p[u], -1.0)
            _solve_user(u, p, q, c, by_user.start, by_user.held, by_user.others, by_user.weight, s_q, l2)
            _add(s_p, p[u], 1.0)
            _add(s_q, q[i], -c[i])
            _solve_item(i, p, q, c, by_item.start, by_item.held, by_item.others, by_item.weight, s_p, l2)
            _add(s_q, q[i], c[i])


class EALS(Model, Factored):
    """Element-wise ALS with popularity-weighted missing data, learned online (He et al. 2016)."""

    name = "eals"
    Settings: ClassVar[type[Section]] = EALSSettings
    settings: EALSSettings

    def fit(self, events: Interactions) -> None:
        self.n_users, self.n_items = 0, 0 if self.content is None else len(self.content)
        self.taken = Taken()
        self.weight = np.zeros(0, np.float32)
        self.user = self.item = np.zeros((0, self.settings.factors), np.float32)
        self._take_in(events, 1.0)
        by_user, by_item = self._sides(0)
        for _ in range(self.settings.epochs):
            _alternate(self.user, self.item, self._missing(), by_user, by_item, self.settings.l2)

    def partial_fit(self, events: Interactions) -> None:
        if not len(events):
            return
        s = self.settings
        new = self._take_in(events, s.fresh)
        sides = self._sides(int(new.sum()))
        c = self._missing()
        _follow(events.user, events.item, new, self.user, self.item, c, *sides, s.l2, s.rounds)

    def know(self, n_items: int) -> None:
        super().know(n_items)
        self._grow()

    def score(self, queries: Queries, items: I32 | None = None) -> F32:
        return chosen(self.embed(queries) @ self.item.T, items)

    def factors(self) -> tuple[F32, F32]:
        return self.item, np.zeros(len(self.item), np.float32)

    def embed(self, queries: Queries) -> F32:
        """A vector for each query, the best for its history, float32 [n, factors]."""
        history = newest(queries, self.n_items)
        weight = fading(history.age, self.settings.half_life).astype(np.float32)
        c = self._missing()
        every: F32 = ((c[:, None] * self.item).T @ self.item).astype(np.float32)
        bounds = np.searchsorted(history.row, np.arange(len(queries) + 1))
        vectors = np.zeros((len(queries), self.settings.factors), np.float32)
        vectors[:] = self.user.mean(axis=0) if self.n_users else 0.0
        for row, (start, stop) in enumerate(pairwise(bounds.tolist())):
            if start < stop:
                taken, v = history.item[start:stop], weight[start:stop]
                vectors[row] = least_squares(every, self.item[taken], v - c[taken], v, self.settings.l2)
        return vectors

    def arrays(self) -> Arrays:
        pairs = {f"taken/{name}": array for name, array in self.taken.arrays().items()}
        return {"users": self.user, "items": self.item, "weight": self.weight, **pairs}

    def restore(self, arrays: Arrays) -> None:
        pairs = {name: arrays[f"taken/{name}"] for name in ("user", "item")}
        self.taken = Taken.restored(pairs, self.n_users, self.n_items)
        self.user = restored(arrays["users"], self.n_users, self.settings.factors, "users")
        self.item = restored(arrays["items"], self.n_items, self.settings.factors, "items")
        self.weight = restored(arrays["weight"][:, None], len(self.taken), 1, "weight")[:, 0]

    def _take_in(self, events: Interactions, weight: float) -> Bool:
        """Add the pairs of events and make room for their vectors; which of the events brought a new pair."""
        if len(events):
            self.n_users = max(self.n_users, int(events.user.max()) + 1)
            self.n_items = max(self.n_items, int(events.item.max()) + 1)
        new = self.taken.add(events)
        self.weight = np.concatenate([self.weight, np.full(int(new.sum()), weight, np.float32)])
        self._grow()
        return new

    def _grow(self) -> None:
        s = self.settings
        self.user = grown(self.user, self.n_users, seed=self.seed, side="user", std=s.init_std)
        self.item = grown(self.item, self.n_items, seed=self.seed, side="item", std=s.init_std)

    def _sides(self, new: int) -> tuple[Side, Side]:
        """All pairs by user and by item; the last `new` are not there yet."""
        user, item = self.taken.user, self.taken.item
        return (
            _side(user, item, self.weight, self.n_users, new),
            _side(item, user, self.weight, self.n_items, new),
        )

    def _missing(self) -> F32:
        """c of each item, float32 [items]; 0 of one that nobody took."""
        share = np.bincount(self.taken.item, minlength=self.n_items) / max(len(self.taken), 1)
        power = np.where(share > 0.0, share**self.settings.popularity, 0.0)
        met = np.count_nonzero(share)
        c: F32 = (self.settings.missing * met * power / max(power.sum(), 1e-30)).astype(np.float32)
        return c


def _side(of: I32, others: I32, weight: F32, count: int, new: int) -> Side:
    order = np.argsort(of, kind="stable")
    start = np.searchsorted(of[order], np.arange(count + 1)).astype(np.int64)
    held = np.bincount(of[: len(of) - new], minlength=count).astype(np.int64)
    return Side(start, held, others[order], weight[order])
