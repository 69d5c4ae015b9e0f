"""Matrix factorisation of ratings with biases, by stochastic gradient descent, as a model of the family.

A rating is μ + b_u + b_i + w_u·h_i (Koren, Bell, Volinsky: Matrix Factorization Techniques for Recommender Systems,
Computer 2009); the update is the one of `models.online.biased_mf`, which learns it event by event in the pipeline. A
fit goes over the ratings several times, each time in another order; afterwards each rating teaches once, in the order
of time.

Items are ranked by the rating that is expected. That is how much a user would like what they took, not whether they
would take it: events without a rating teach nothing, and the history of a query is not looked at.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from models.base import F32, F64, I32, I64
from models.config import Section
from models.family.contract import Arrays, Interactions, Queries, RatingModel, chosen
from models.family.parts.factors import grown, restored
from models.kernels import kernel
from models.online.biased_mf import Rates, learn


class BiasedMFSettings(Section):
    """The regularisation is added to twice the error: see `models.online.biased_mf.learn`."""

    factors: int = Field(32, ge=1, le=1024)
    epochs: int = Field(20, ge=1, description="of a fit")
    bias_lr: float = Field(0.005, gt=0)
    latent_lr: float = Field(0.005, gt=0)
    l2_bias: float = Field(0.1, ge=0)
    l2: float = Field(0.1, ge=0)
    init_std: float = Field(0.1, gt=0, description="of a vector's entries at first")


@kernel
def _learn_many(
    order: I64,
    of_user: I32,
    of_item: I32,
    rating: F32,
    mean: F64,
    user_bias: F32,
    item_bias: F32,
    user: F32,
    item: F32,
    rates: Rates,
) -> None:
    for row in order:
        u, i = of_user[row], of_item[row]
        learn(mean, user_bias, item_bias, u, i, user[u], item[i], rating[row], rates)


class BiasedMF(RatingModel):
    """Explicit ratings: biases and factors by SGD (Koren, Bell, Volinsky 2009)."""

    name = "biased-mf"
    Settings: ClassVar[type[Section]] = BiasedMFSettings
    settings: BiasedMFSettings

    def fit(self, events: Interactions) -> None:
        self.n_users, self.n_items = 0, 0 if self.content is None else len(self.content)
        none = np.zeros((0, self.settings.factors), np.float32)
        self.mean = np.zeros(2)  # of all ratings, and how many there were
        self.scale = np.array([np.inf, -np.inf])  # lowest and highest
        self.user_bias, self.item_bias = np.zeros(0, np.float32), np.zeros(0, np.float32)
        self.user = self.item = none
        self._grow()
        rng = np.random.Generator(np.random.Philox(self.seed))
        rated = self._rated(events)
        for _ in range(self.settings.epochs):
            self._learn(rated, rng.permutation(len(rated)))
        self.mean[1] = len(rated)

    def partial_fit(self, events: Interactions) -> None:
        rated = self._rated(events)
        self._learn(rated, np.arange(len(rated)))

    def know(self, n_items: int) -> None:
        super().know(n_items)
        self._grow()

    def score(self, queries: Queries, items: I32 | None = None) -> F32:
        bias, vector = self._of(queries.user, self.user_bias, self.user)
        ratings: F32 = np.float32(self.mean[0]) + bias[:, None] + self.item_bias + vector @ self.item.T
        return chosen(ratings, items)

    def rating(self, queries: Queries, of: I64, item: I32) -> F32:
        """The expected rating, within the scale of the ratings that were learned; the history is not looked at."""
        user_bias, w = self._of(queries.user[of], self.user_bias, self.user)
        item_bias, h = self._of(item, self.item_bias, self.item)
        expected: F32 = (self.mean[0] + user_bias + item_bias + (w * h).sum(axis=1)).astype(np.float32)
        low, high = self.scale
        return np.clip(expected, low, high) if low <= high else expected

    def arrays(self) -> Arrays:
        return {
            "mean": self.mean,
            "scale": self.scale,
            "user_bias": self.user_bias,
            "item_bias": self.item_bias,
            "users": self.user,
            "items": self.item,
        }

    def restore(self, arrays: Arrays) -> None:
        self.mean, self.scale = arrays["mean"].astype(np.float64), arrays["scale"].astype(np.float64)
        factors = self.settings.factors
        self.user = restored(arrays["users"], self.n_users, factors, "users")
        self.item = restored(arrays["items"], self.n_items, factors, "items")
        self.user_bias = restored(arrays["user_bias"][:, None], self.n_users, 1, "user_bias")[:, 0]
        self.item_bias = restored(arrays["item_bias"][:, None], self.n_items, 1, "item_bias")[:, 0]

    def _rated(self, events: Interactions) -> Interactions:
        """The events that have a rating; room is made for the users and items of all."""
        if len(events):
            self.n_users = max(self.n_users, int(events.user.max()) + 1)
            self.n_items = max(self.n_items, int(events.item.max()) + 1)
            self._grow()
        rated = events.take(~np.isnan(events.value))
        if len(rated):
            low, high = float(rated.value.min()), float(rated.value.max())
            self.scale = np.array([min(self.scale[0], low), max(self.scale[1], high)])
        return rated

    def _learn(self, rated: Interactions, order: I64) -> None:
        s = self.settings
        _learn_many(
            order,
            rated.user,
            rated.item,
            rated.value,
            self.mean,
            self.user_bias,
            self.item_bias,
            self.user,
            self.item,
            Rates(s.bias_lr, s.latent_lr, s.l2_bias, s.l2),
        )

    def _grow(self) -> None:
        seed, std = self.seed, self.settings.init_std
        self.user = grown(self.user, self.n_users, seed=seed, side="user", std=std)
        self.item = grown(self.item, self.n_items, seed=seed, side="item", std=std)
        self.user_bias = _padded(self.user_bias, self.n_users)
        self.item_bias = _padded(self.item_bias, self.n_items)

    def _of(self, code: I32, bias: F32, vectors: F32) -> tuple[F32, F32]:
        """Bias [m] and vector [m, factors] of each code; zeros of one that was not met."""
        known = (code >= 0) & (code < len(bias))
        if not known.any():
            return np.zeros(len(code), np.float32), np.zeros((len(code), vectors.shape[1]), np.float32)
        at = np.where(known, code, 0)
        return np.where(known, bias[at], 0.0), np.where(known[:, None], vectors[at], 0.0)


def _padded(bias: F32, count: int) -> F32:
    return np.concatenate([bias, np.zeros(count - len(bias), np.float32)])
