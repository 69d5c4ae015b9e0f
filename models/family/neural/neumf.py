"""Neural matrix factorisation: a network decides how a user's and an item's vector go together.

He, Liao, Zhang, Nie, Hu and Chua: Neural Collaborative Filtering, WWW 2017: `neumf` joins a product of vectors, number
by number (GMF, section 3.2), to a network over other vectors (MLP, section 3.3), as in section 3.4 without
pre-training; `mlp` is that network alone. Binary cross-entropy over what was taken and sampled items that were not. A
user that the model has not met is the mean of those that it has.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models.base import I64
from models.config import Section
from models.family.contract import Queries
from models.family.neural.bpr_mf import user_rows, with_the_mean
from models.family.parts.negatives import NotTaken
from models.family.parts.tables import Table
from models.family.parts.training import Lesson, Network, NeuralModel, NeuralSettings, Step
from models.training.dropout import KeyedDropout

INIT = 0.1
"""Standard deviation of initial vectors."""
ACTIVATIONS = 1 << 23
"""Numbers of the first layer that are held at once when all items are scored."""


class NeuMFSettings(NeuralSettings):
    """Neural matrix factorisation."""

    width: int = Field(32, ge=2, le=1024, description="of the vectors of users and items, in each part")
    batch: int = Field(1024, ge=1, description="events in a step, each with its negatives")
    lr: float = Field(2e-3, gt=0, description="highest rate of a lesson")
    negatives: int = Field(4, ge=1, description="items not taken for each one taken")


class NeuMFNetwork(Network):
    """Pairs of user and item → logit that the user takes it.

    The MLP's first layer is applied to user and item apart and added: the same product, made once a user and once an
    item where all pairs are scored.
    """

    def __init__(self, settings: NeuMFSettings, gmf: bool, seed: int) -> None:
        super().__init__()
        d = settings.width
        self.gmf = gmf
        self.user = Table("users", d, seed=seed, number=0, scale=INIT)
        self.item = Table("items", d, seed=seed, number=1, scale=INIT)
        if gmf:
            self.user_factors = Table("users", d, seed=seed, number=2, scale=INIT)
            self.item_factors = Table("items", d, seed=seed, number=3, scale=INIT)
            self.of_gmf = nn.Parameter(torch.ones(d))
        self.first_user, self.first_item = nn.Linear(d, d), nn.Linear(d, d, bias=False)
        self.dropout = KeyedDropout(settings.dropout, self.noise)
        self.second = nn.Linear(d, d // 2)
        self.of_mlp = nn.Linear(d // 2, 1)

    def mlp(self, first: Tensor) -> Tensor:
        """The logit of the MLP from the sum of its first layer [..., d]."""
        hidden = self.dropout(functional.relu(first))
        logit: Tensor = self.of_mlp(functional.relu(self.second(hidden)))[..., 0]
        return logit

    def forward(self, users: Tensor, rows: Tensor) -> Tensor:
        """Logits of item rows [m, c], a row a user [m]."""
        first = self.first_user(self.user(users))[:, None] + self.first_item(self.item(rows))
        logit = self.mlp(first)
        if self.gmf:
            logit = (
                logit
                + (self.item_factors(rows) @ (self.user_factors(users) * self.of_gmf)[:, :, None])[..., 0]
            )
        return logit


class NeuMF(NeuralModel):
    """GMF and MLP joined (He et al., WWW 2017)."""

    name = "neumf"
    Settings: ClassVar[type[Section]] = NeuMFSettings
    with_gmf: ClassVar[bool] = True
    settings: NeuMFSettings
    network: NeuMFNetwork

    def build(self) -> NeuMFNetwork:
        return NeuMFNetwork(self.settings, self.with_gmf, self.seed)

    def steps(self, lesson: Lesson) -> list[Step]:
        free = NotTaken(lesson, self.n_items)
        examples = lesson.examples(self.settings.batch)
        return [partial(self._loss, lesson, free, rows, number) for number, rows in enumerate(examples)]

    def _loss(self, lesson: Lesson, free: NotTaken, rows: I64, number: int) -> Tensor:
        users = lesson.events.user[rows].astype(np.int64)
        taken = lesson.events.item[rows].astype(np.int64)[:, None]
        others = free.draw(users, self.settings.negatives, lesson.rng(1, number))
        logits = self.network(self.tensor(users), self.tensor(np.concatenate((taken, others), 1) + 1))
        wanted = torch.zeros_like(logits)
        wanted[:, 0] = 1.0
        return functional.binary_cross_entropy_with_logits(logits, wanted)

    def settle(self) -> None:
        network = self.network
        self._first_user = network.first_user(with_the_mean(network.user.weight))
        self._first_item = network.first_item(network.item.weight[1:])
        if network.gmf:
            self._user_factors = with_the_mean(network.user_factors.weight) * network.of_gmf

    def scored_at_once(self) -> int:
        return max(1, ACTIVATIONS // max(1, self.n_items * self.settings.width))

    def rank(self, queries: Queries) -> Tensor:
        rows = self.tensor(user_rows(queries, self.n_users))
        scores = self.network.mlp(self._first_user[rows][:, None] + self._first_item)
        if self.network.gmf:
            scores = scores + self._user_factors[rows] @ self.network.item_factors.weight[1:].t()
        return scores


class MLP(NeuMF):
    """The network alone (He et al., WWW 2017, section 3.3)."""

    name = "mlp"
    with_gmf = False
