"""The candidate tower of YouTube: the mean of what was watched, through a deep network, to a softmax over all items.

Covington, Adams and Sargin: Deep Neural Networks for YouTube Recommendations, RecSys 2016, section 3. The age of the
example is fed in training and is 0 when asked, so that the network knows the times it learned from from the present
(section 3.3). Features of users beside their history (searches, place) are not in the contract.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models.base import F32, I64
from models.config import Section
from models.family.contract import Queries
from models.family.parts.losses import softmax
from models.family.parts.mean_history import before
from models.family.parts.padded import known_rows
from models.family.parts.tables import Table
from models.family.parts.training import Lesson, Network, NeuralSettings, ProductModel, Step
from models.training.dropout import KeyedDropout

INIT = 0.1
"""Standard deviation of initial embeddings."""
DAY_MS = 86_400_000.0
AGES = 3
"""Forms in which the age is fed: itself, its square and its root (section 4.1)."""


class YouTubeSettings(NeuralSettings):
    """The candidate tower."""

    length: int = Field(50, ge=1, description="events of a user whose mean is taken")
    hidden: int = Field(128, ge=2, description="width of the first layer; the second has that of the vectors")
    negatives: int = Field(512, ge=1, description="items beside the targets that a step compares")


class YouTubeNetwork(Network):
    """Histories [n, length] and ages [n] → query vectors [n, width]."""

    def __init__(self, settings: YouTubeSettings, seed: int) -> None:
        super().__init__()
        self.watched = Table("items", settings.width, seed=seed, number=0, scale=INIT)
        self.item = Table("items", settings.width, seed=seed, number=1, scale=INIT)
        self.bias = Table("items", 1, seed=seed, number=2, scale=0.0)
        self.tower = nn.Sequential(
            nn.Linear(settings.width + AGES, settings.hidden),
            nn.ReLU(),
            KeyedDropout(settings.dropout, self.noise),
            nn.Linear(settings.hidden, settings.width),
            nn.ReLU(),
        )

    def forward(self, rows: Tensor, age: Tensor) -> Tensor:
        mean = functional.embedding_bag(rows, self.watched.weight, mode="mean", padding_idx=0)
        query: Tensor = self.tower(torch.cat((mean, torch.stack((age, age**2, age**0.5), 1)), 1))
        return query


class YouTubeDNN(ProductModel):
    """What is watched next, by a deep network over the mean of what was (Covington et al., RecSys 2016)."""

    name = "youtube-dnn"
    Settings: ClassVar[type[Section]] = YouTubeSettings
    settings: YouTubeSettings
    network: YouTubeNetwork

    def build(self) -> YouTubeNetwork:
        return YouTubeNetwork(self.settings, self.seed)

    def steps(self, lesson: Lesson) -> list[Step]:
        age = ages(lesson.events.ts)
        examples = lesson.examples(self.settings.batch)
        return [partial(self._loss, lesson, age, rows, number) for number, rows in enumerate(examples)]

    def _loss(self, lesson: Lesson, age: F32, rows: I64, number: int) -> Tensor:
        histories = before(lesson, rows, self.settings.length)
        h = self.network(self.tensor(histories), self.tensor(age[rows]))
        return softmax(
            h,
            self.network.item.weight,
            self.network.bias.weight[:, 0],
            lesson.events.item[rows].astype(np.int64) + 1,
            sampled=self.settings.negatives,
            seed=self.seed,
            step=lesson.step_key(number),
        )

    def item_side(self) -> tuple[Tensor, Tensor]:
        return self.network.item.weight[1:], self.network.bias.weight[1:, 0]

    def query_side(self, queries: Queries) -> Tensor:
        rows = self.tensor(known_rows(queries, self.n_items, self.settings.length))
        h: Tensor = self.network(rows, torch.zeros(len(rows), device=self.device))
        return h


def ages(ts: I64) -> F32:
    """How long before the newest event each took place, on a scale from 0 to 1: doublings of days, float32 [n].

    >>> ages(np.array([0, 3 * 86_400_000])).tolist(), ages(np.array([7])).tolist()
    ([1.0, 0.0], [0.0])
    """
    doublings = np.log2(1.0 + (ts.max(initial=0) - ts) / DAY_MS)
    scaled: F32 = (doublings / max(float(doublings.max(initial=0.0)), 1e-9)).astype(np.float32)
    return scaled
