"""The explicit factorisation on its own, as river's recommenders: for river's own metrics.

In: ratings one at a time, ids as strings. Out: predictions and rankings. The worker does not load this module, since
importing river takes longer than reading a small state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from river import reco

from models.base import Arrays
from models.online.biased_mf import Floats, Rates, initialise, learn, predict
from models.randomness import hash64


class BiasedMF(reco.base.Ranker):
    """The model on its own, as a `river.reco` ranker.

    Args:
        n_factors: length of a vector.
        bias_lr, latent_lr: steps of the biases and of the vectors.
        l2_bias, l2: regularisation.
        init_std: standard deviation of the initial vectors, drawn from (seed, id).
        seed: of the initial vectors.
        dtype: numpy's name of the float type.
        initial: replaces the drawing: called with ("user" or "item", id), returns a vector.

    Examples:
        >>> model = BiasedMF(seed=7)
        >>> for _ in range(30):
        ...     model.learn_one("ann", "Alien", 5.0)
        ...     model.learn_one("ann", "Bambi", 1.0)
        >>> model.rank("ann", {"Bambi", "Alien"})
        ['Alien', 'Bambi']
    """

    def __init__(
        self,
        n_factors: int = 10,
        bias_lr: float = 0.025,
        latent_lr: float = 0.05,
        l2_bias: float = 0.0,
        l2: float = 0.0,
        init_std: float = 0.1,
        seed: int = 0,
        dtype: str = "float32",
        initial: Any = None,
    ) -> None:
        super().__init__(seed=seed)
        self.n_factors, self.bias_lr, self.latent_lr = n_factors, bias_lr, latent_lr
        self.l2_bias, self.l2 = l2_bias, l2
        self.init_std, self.dtype, self.initial = init_std, dtype, initial
        self._mean = np.zeros(2)
        self._sides: dict[str, dict[str, tuple[Floats, Floats]]] = {"user": {}, "item": {}}

    def _fresh(self, side: str, key: str) -> tuple[Floats, Floats]:
        vector = np.zeros(self.n_factors, self.dtype)
        if self.initial is not None:
            vector[:] = self.initial(side, key)
        else:
            initialise(vector, np.uint64(hash64(f"{self.seed}/{side}/{key}")), self.init_std)
        return np.zeros(1, self.dtype), vector

    def learn_one(self, user: str, item: str, y: float = 1.0, x: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Learn that `user` rated `item` with `y`."""
        users, items = self._sides["user"], self._sides["item"]
        if user not in users:
            users[user] = self._fresh("user", user)
        if item not in items:
            items[item] = self._fresh("item", item)
        (user_bias, p), (item_bias, q) = users[user], items[item]
        rates = Rates(self.bias_lr, self.latent_lr, self.l2_bias, self.l2)
        learn(self._mean, user_bias, item_bias, 0, 0, p, q, y, rates)

    def learn_many(
        self, users: Sequence[str], items: Sequence[str], y: Sequence[float] | None = None
    ) -> None:
        """Learn ratings in their order; the same as `learn_one` of each."""
        for user, item, rating in zip(users, items, [1.0] * len(users) if y is None else y, strict=True):
            self.learn_one(user, item, rating)

    def predict_one(self, user: str, item: str, x: dict[str, float] | None = None) -> float:  # noqa: ARG002
        """The rating that `user` would give `item`; unknown ids have their initial vectors and create nothing."""
        user_bias, p = self._sides["user"].get(user) or self._fresh("user", user)
        item_bias, q = self._sides["item"].get(item) or self._fresh("item", item)
        return float(predict(self._mean[0], user_bias[0], item_bias[0], p, q))

    def rank(self, user: str, items: set[str], x: dict[str, float] | None = None) -> list[str]:
        """The items by falling prediction; ties by id."""
        return sorted(items, key=lambda item: (-self.predict_one(user, item, x), item))

    def arrays(self) -> Arrays:
        """Everything learned, by name."""
        found: Arrays = {"mean": self._mean.copy()}
        for side, rows in self._sides.items():
            found[f"{side}s"] = np.array(list(rows), np.str_)
            found[f"{side}_bias"] = np.array([bias[0] for bias, _ in rows.values()], self.dtype)
            found[f"{side}_vector"] = np.array([vector for _, vector in rows.values()], self.dtype)
        return found
