"""What models of the next item in a sequence have in common: how they are taught, and asked.

In: a network that turns item rows into query vectors, one after each event. Out: scores, as products of query vectors
and the same item vectors that the network reads. Attention (`sasrec`) and recurrence (`recurrent`) are such networks;
`unified` has a network of its own, and their loss: the cross-entropy over all items or a sample of them, or gBCE
(Petrov and Macdonald: gSASRec, RecSys 2023).
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from models.base import I64
from models.config import Fraction
from models.family.contract import Queries
from models.family.parts.losses import gbce, softmax
from models.family.parts.padded import Windowed, asked_rows
from models.family.parts.tables import Table
from models.family.parts.training import Lesson, Network, NeuralSettings, ProductModel, Step

INIT = 0.02
"""Standard deviation of initial embeddings."""


class SequentialSettings(NeuralSettings):
    """What all models of the next item can be told."""

    length: int = Field(100, ge=2, description="events of a user that are looked at")
    loss: Literal["softmax", "gbce"] = Field(
        "softmax", description="cross-entropy over the items that a step compares, or gBCE of them"
    )
    negatives: int = Field(
        512,
        ge=1,
        description="items beside the targets that a step compares; as many as there are: full cross-entropy",
    )
    calibration: Fraction = Field(0.75, description="t of gBCE")


def next_item_loss(
    settings: SequentialSettings,
    lesson: Lesson,
    number: int,
    h: Tensor,
    table: Tensor,
    bias: Tensor,
    targets: I64,
) -> Tensor:
    """The loss of query vectors [m, d] before events with these item rows [m], in the step of this number.

    Args:
        table, bias: of all items, with row 0 for "nothing": [n_items + 1, d], [n_items + 1].
    """
    if settings.loss == "gbce":
        drawn = torch.from_numpy(lesson.rng(1, number).integers(1, len(table), settings.negatives))
        taken = torch.from_numpy(targets)
        return gbce(h, table, bias, taken.to(h.device), drawn.to(h.device), settings.calibration)
    return softmax(
        h,
        table,
        bias,
        targets,
        sampled=settings.negatives,
        seed=lesson.seed,
        step=lesson.step_key(number),
    )


class SequentialNetwork(Network):
    """Item rows [n, length] → query vectors [n, length, width]; an item has one vector on both ends, and a bias."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.item = Table("items", width, seed=seed, number=0, scale=INIT)
        self.bias = Table("items", 1, seed=seed, number=1, scale=0.0)

    @abstractmethod
    def forward(self, rows: Tensor) -> Tensor:
        """A query vector after each event, from it and those before it."""


class Sequential(ProductModel):
    """Predicts the next item from the items before it; the user's code does not matter."""

    settings: SequentialSettings
    network: SequentialNetwork

    def steps(self, lesson: Lesson) -> list[Step]:
        windows = Windowed(lesson, self.settings.length, self.settings.batch)
        return [partial(self._step, lesson, windows, number) for number in range(len(windows))]

    def _step(self, lesson: Lesson, windows: Windowed, number: int) -> Tensor:
        batch = windows.take(number)
        vectors: Tensor = self.network(self.tensor(batch.rows))
        h = vectors[self.tensor(batch.predicts)]
        table, bias = self.network.item.weight, self.network.bias.weight[:, 0]
        return next_item_loss(self.settings, lesson, number, h, table, bias, batch.targets)

    def item_side(self) -> tuple[Tensor, Tensor]:
        return self.network.item.weight[1:], self.network.bias.weight[1:, 0]

    def query_side(self, queries: Queries) -> Tensor:
        rows, newest = asked_rows(queries, self.n_items, self.settings.length)
        h: Tensor = self.network(self.tensor(rows))
        return h[torch.arange(len(rows)), self.tensor(newest)]
