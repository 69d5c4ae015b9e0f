"""BPR-MF: a vector for each user and each item, learned so that what was taken comes before what was not.

Rendle, Freudenthaler, Gantner and Schmidt-Thieme: BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009,
by AdamW in place of plain stochastic gradients. A user that the model has not met is the mean of those that it has.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from models.base import I64
from models.config import Section
from models.family.contract import Queries
from models.family.parts.losses import bpr
from models.family.parts.negatives import NotTaken
from models.family.parts.tables import Table
from models.family.parts.training import Lesson, Network, NeuralSettings, ProductModel, Step

INIT = 0.1
"""Standard deviation of initial vectors."""


class BPRSettings(NeuralSettings):
    """BPR-MF."""

    epochs: int = Field(20, ge=1, description="times that fit goes through the events")
    batch: int = Field(1024, ge=1, description="predictions in a step")
    lr: float = Field(3e-3, gt=0, description="highest rate of a lesson")
    weight_decay: float = Field(0.1, ge=0)
    negatives: int = Field(4, ge=1, description="items not taken that each one taken is compared with")


class BPRNetwork(Network):
    """Vectors of users and items, and items' biases."""

    def __init__(self, settings: BPRSettings, seed: int) -> None:
        super().__init__()
        self.user = Table("users", settings.width, seed=seed, number=0, scale=INIT)
        self.item = Table("items", settings.width, seed=seed, number=1, scale=INIT)
        self.bias = Table("items", 1, seed=seed, number=2, scale=0.0)

    def forward(self, users: Tensor, rows: Tensor) -> Tensor:
        """Scores of item rows [m, c], a row a user [m]."""
        vectors = self.user(users)[:, :, None]
        scores: Tensor = (self.item(rows) @ vectors + self.bias(rows))[..., 0]
        return scores


class BPRMF(ProductModel):
    """Matrix factorisation that learns an order (Rendle et al., UAI 2009)."""

    name = "matrix-factorisation"
    Settings: ClassVar[type[Section]] = BPRSettings
    settings: BPRSettings
    network: BPRNetwork

    def build(self) -> BPRNetwork:
        return BPRNetwork(self.settings, self.seed)

    def steps(self, lesson: Lesson) -> list[Step]:
        free = NotTaken(lesson, self.n_items)
        examples = lesson.examples(self.settings.batch)
        return [partial(self._loss, lesson, free, rows, number) for number, rows in enumerate(examples)]

    def _loss(self, lesson: Lesson, free: NotTaken, rows: I64, number: int) -> Tensor:
        users = lesson.events.user[rows].astype(np.int64)
        taken = lesson.events.item[rows].astype(np.int64)[:, None]
        others = free.draw(users, self.settings.negatives, lesson.rng(1, number))
        scores = self.network(self.tensor(users), self.tensor(np.concatenate((taken, others), 1) + 1))
        return bpr(scores[:, :1], scores[:, 1:])

    def settle(self) -> None:
        self._users = with_the_mean(self.network.user.weight)

    def item_side(self) -> tuple[Tensor, Tensor]:
        return self.network.item.weight[1:], self.network.bias.weight[1:, 0]

    def query_side(self, queries: Queries) -> Tensor:
        return self._users[self.tensor(user_rows(queries, self.n_users))]


def user_rows(queries: Queries, n_users: int) -> I64:
    """Row of each user in a table that ends with a row for those who are not known, int64 [n]."""
    known = (queries.user >= 0) & (queries.user < n_users)
    return np.where(known, queries.user, n_users).astype(np.int64)


def with_the_mean(table: Tensor) -> Tensor:
    """The table, and a row more: the mean of its rows, 0 where there are none."""
    mean = table.mean(0, keepdim=True) if len(table) else table.new_zeros(1, table.shape[1])
    return torch.cat((table, mean))
