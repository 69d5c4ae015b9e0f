"""Explicit-rating matrix factorisation with biases, learned one rating at a time.

The update is that of `river.reco.BiasedMF` (Paterek, KDD Cup 2007; Koren, Bell, Volinsky, Computer 2009) with plain
SGD and squared loss: the global mean first, then the error, then both sides from the values before the step. In
float64 with the same initial vectors the predictions are river's; the kernels here run on any float type.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.base import F64
from models.kernels import kernel
from models.randomness import mix, normal

Floats = npt.NDArray[Any]


class Rates(NamedTuple):
    """Settings of the update, as a kernel takes them."""

    bias_lr: float
    latent_lr: float
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
    """One rating; how far it is from the prediction made before anything learned of it.

    Args:
        mean: [0] the mean of all ratings, [1] their number.
        user_bias, item_bias: columns of biases; `u` and `i` are the rows meant.
        user, item: the two vectors, changed in place.
    """
    error = predict(mean[0], user_bias[u], item_bias[i], user, item) - rating
    mean[1] += 1.0
    mean[0] += (rating - mean[0]) / mean[1]
    slope = 2.0 * (predict(mean[0], user_bias[u], item_bias[i], user, item) - rating)
    user_bias[u] -= rates.bias_lr * (slope + rates.l2_bias * user_bias[u])
    item_bias[i] -= rates.bias_lr * (slope + rates.l2_bias * item_bias[i])
    for f in range(len(user)):
        a, b = user[f], item[f]
        user[f] = a - rates.latent_lr * (slope * b + rates.l2 * a)
        item[f] = b - rates.latent_lr * (slope * a + rates.l2 * b)
    return error
