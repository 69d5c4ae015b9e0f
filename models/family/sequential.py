"""What models of the next item in a sequence have in common: how they are taught, and asked.

In: a network that turns item rows into query vectors, one after each event. Out: scores, as products of query vectors
and the same item vectors that the network reads. Attention (`sasrec`) and recurrence (`recurrent`) are such networks.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial

import torch
from pydantic import Field
from torch import Tensor

from models.base import I64
from models.family.contract import Queries
from models.family.losses import softmax
from models.family.padded import Windowed, asked_rows
from models.family.tables import Table
from models.family.training import Lesson, Network, NeuralSettings, ProductModel, Step

INIT = 0.02
"""Standard deviation of initial embeddings."""


class SequentialSettings(NeuralSettings):
    """What all models of the next item can be told."""

    length: int = Field(100, ge=2, description="events of a user that are looked at")
    negatives: int = Field(512, ge=1, description="items beside the targets that a step compares")


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
        return self.loss(lesson, vectors[self.tensor(batch.predicts)], batch.targets, number)

    def loss(self, lesson: Lesson, h: Tensor, targets: I64, number: int) -> Tensor:
        """The loss of query vectors [m, width] before events with these item rows [m], in the step of this number."""
        return softmax(
            h,
            self.network.item.weight,
            self.network.bias.weight[:, 0],
            targets,
            sampled=self.settings.negatives,
            seed=self.seed,
            step=lesson.step_key(number),
        )

    def item_side(self) -> tuple[Tensor, Tensor]:
        return self.network.item.weight[1:], self.network.bias.weight[1:, 0]

    def query_side(self, queries: Queries) -> Tensor:
        rows, newest = asked_rows(queries, self.n_items, self.settings.length)
        h: Tensor = self.network(self.tensor(rows))
        return h[torch.arange(len(rows)), self.tensor(newest)]
