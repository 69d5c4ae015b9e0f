"""Explicit-rating matrix factorisation with biases, learned one rating at a time.

The update is that of `river.reco.BiasedMF` (Paterek, KDD Cup 2007; Koren, Bell, Volinsky, Computer 2009) with plain
SGD and squared loss: the global mean first, then the error, then both sides from the values before the step. In
float64 with the same initial vectors the predictions are river's; the kernels here run on any float type.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from river import reco

from models.base import F64
from models.kernels import kernel
from models.randomness import hash64, mix, normal

Floats = npt.NDArray[Any]


class Rates(NamedTuple):
    """Settings of the update, as a kernel takes them."""

    lr: float
    l2_bias: float
    l2: float


@kernel
def initialise(vector: Floats, stream: np.uint64, std: float) -> None:
    """Draw a vector: a function of the stream alone, so that asking about an unknown id creates nothing."""
    for f in range(len(vector)):
        vector[f] = std * normal(mix(stream), f)


@kernel
def predict(mean: float, user_bias: float, item_bias: float, user: Floats, item: Floats) -> float:
    """The predicted rating."""
    total = mean + user_bias + item_bias
    for f in range(len(user)):
        total += user[f] * item[f]
    return total


@kernel
def learn(
    mean: F64,
    user_bias: Floats,
    item_bias: Floats,
    u: int,
    i: int,
    user: Floats,
    item: Floats,
    rating: float,
    rates: Rates,
) -> float:
    """One rating; the error of the prediction made with the mean already updated.

    Args:
        mean: [0] the mean of all ratings, [1] their number.
        user_bias, item_bias: columns of biases; `u` and `i` are the rows meant.
        user, item: the two vectors, changed in place.
    """
    mean[1] += 1.0
    mean[0] += (rating - mean[0]) / mean[1]
    slope = 2.0 * (predict(mean[0], user_bias[u], item_bias[i], user, item) - rating)
    user_bias[u] -= rates.lr * (slope + rates.l2_bias * user_bias[u])
    item_bias[i] -= rates.lr * (slope + rates.l2_bias * item_bias[i])
    for f in range(len(user)):
        a, b = user[f], item[f]
        user[f] = a - rates.lr * (slope * b + rates.l2 * a)
        item[f] = b - rates.lr * (slope * a + rates.l2 * b)
    return slope / 2.0


class BiasedMF(reco.base.Ranker):
    """The model on its own, as a `river.reco` ranker.

    Args:
        n_factors: length of a vector.
        lr, l2_bias, l2: step and regularisation.
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
        lr: float = 0.025,
        l2_bias: float = 0.0,
        l2: float = 0.0,
        init_std: float = 0.1,
        seed: int = 0,
        dtype: str = "float32",
        initial: Any = None,
    ) -> None:
        super().__init__(seed=seed)
        self.n_factors, self.lr, self.l2_bias, self.l2 = n_factors, lr, l2_bias, l2
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
        learn(self._mean, user_bias, item_bias, 0, 0, p, q, y, Rates(self.lr, self.l2_bias, self.l2))

    def predict_one(self, user: str, item: str, x: dict[str, float] | None = None) -> float:  # noqa: ARG002
        """The rating that `user` would give `item`; unknown ids have their initial vectors and create nothing."""
        user_bias, p = self._sides["user"].get(user) or self._fresh("user", user)
        item_bias, q = self._sides["item"].get(item) or self._fresh("item", item)
        return float(predict(self._mean[0], user_bias[0], item_bias[0], p, q))

    def rank(self, user: str, items: set[str], x: dict[str, float] | None = None) -> list[str]:
        """The items by falling prediction; ties by id."""
        return sorted(items, key=lambda item: (-self.predict_one(user, item, x), item))
