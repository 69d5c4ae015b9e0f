"""Two towers: a user's vector and an item's vector, each by a network of its own, and their product.

Huang et al.: Learning Deep Structured Semantic Models for Web Search using Clickthrough Data, CIKM 2013; trained by a
softmax over the items of the batch, corrected for how likely each was to be in it (Yi et al.: Sampling-Bias-Corrected
Neural Modeling for Large Corpus Item Recommendations, RecSys 2019). An item is its own vector plus what its content
says: words and categories (hashed, TF-IDF) and a ready-made embedding, projected. In training the own vector is left
out now and then (Volkovs, Yu and Poutanen: DropoutNet, NIPS 2017), so that content learns to speak for an item alone:
a new item with content is scored before its first click. A user is the mean of the items that they took.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models.base import F64, I64
from models.config import Fraction, Section
from models.family.contract import Queries
from models.family.parts.item_content import ItemContent, described
from models.family.parts.losses import in_batch_softmax
from models.family.parts.mean_history import before
from models.family.parts.padded import known_rows
from models.family.parts.tables import Table, fresh_rows
from models.family.parts.training import Lesson, Network, NeuralSettings, ProductModel, Step
from models.training.dropout import KeyedDropout

INIT = 0.1
"""Standard deviation of initial embeddings."""


class TwoTowerSettings(NeuralSettings):
    """The two towers."""

    length: int = Field(50, ge=1, description="events of a user whose mean is taken")
    hidden: int = Field(128, ge=2, description="width of the towers' inner layer")
    buckets: int = Field(4096, ge=1, description="that tokens are hashed into")
    content_only: Fraction = Field(
        0.2, description="share of a step's items that are shown by their content alone"
    )


class Tower(nn.Module):
    """x → x + what a network of one inner layer makes of it."""

    def __init__(self, width: int, hidden: int, dropout: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), dropout, nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.layers(x)
        return y


class TwoTowerNetwork(Network):
    """Items and what is known of them → vectors of items, and of users who took them.

    An item's vector before its tower has one more number, which the tower does not see: its bias.
    """

    def __init__(self, settings: TwoTowerSettings, content: ItemContent, seed: int) -> None:
        super().__init__()
        self.content, self.content_only = content, settings.content_only
        d = settings.width
        self.item = Table("items", d + 1, seed=seed, number=0, scale=INIT)
        self.token = nn.Parameter(torch.from_numpy(fresh_rows(seed, 1, 0, settings.buckets, d + 1, INIT)))
        given = content.vectors.shape[1]
        self.given = nn.Parameter(torch.from_numpy(fresh_rows(seed, 2, 0, given, d + 1, INIT)))
        self.dropout = KeyedDropout(settings.dropout, self.noise)
        self.of_user = Tower(d, settings.hidden, self.dropout)
        self.of_item = Tower(d, settings.hidden, self.dropout)

    def embed(self, rows: I64) -> Tensor:
        """Own vector and content of each item row, added, [n, width + 1]."""
        device = self.token.device
        known = self.content.take(rows)
        said = known.described()
        own = self.item(torch.from_numpy(rows).to(device))
        if self.training:
            hidden = self.noise.draw(len(rows)).numpy() < round(256 * self.content_only)
            own = own * torch.from_numpy((~(hidden & said)).astype(np.float32)).to(device)[:, None]
        words = functional.embedding_bag(
            torch.from_numpy(known.buckets).to(device),
            self.token,
            torch.from_numpy(known.starts[:-1]).to(device),
            mode="sum",
            per_sample_weights=torch.from_numpy(known.weights).to(device),
        )
        embedded: Tensor = own + words + torch.from_numpy(known.vectors).to(device) @ self.given
        return embedded

    def users(self, embedded: Tensor, histories: Tensor) -> Tensor:
        """Vectors of users [n, width]; histories are places in `embedded` [n, length], 0 for "nothing" there."""
        mean = functional.embedding_bag(histories, embedded[:, :-1], mode="mean", padding_idx=0)
        vectors: Tensor = self.of_user(mean)
        return vectors

    def items(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [n, width] and biases [n] of items."""
        return self.of_item(embedded[:, :-1]), embedded[:, -1]


class TwoTower(ProductModel):
    """A user tower over the history, an item tower over id and content (Huang et al. 2013, Yi et al. 2019)."""

    name = "two-tower"
    uses_content = True
    Settings: ClassVar[type[Section]] = TwoTowerSettings
    settings: TwoTowerSettings
    network: TwoTowerNetwork

    def build(self) -> TwoTowerNetwork:
        return TwoTowerNetwork(self.settings, described(self.content, self.settings.buckets), self.seed)

    def steps(self, lesson: Lesson) -> list[Step]:
        share = np.bincount(lesson.events.item, minlength=self.n_items) / max(len(lesson.events), 1)
        return [partial(self._loss, lesson, share, rows) for rows in lesson.examples(self.settings.batch)]

    def _loss(self, lesson: Lesson, share: F64, events: I64) -> Tensor:
        histories = before(lesson, events, self.settings.length)
        targets = lesson.events.item[events].astype(np.int64) + 1
        # Row 0 comes first: it is the "nothing" of the histories among the rows of this step, too.
        rows, place = np.unique(np.concatenate(([0], histories.ravel(), targets)), return_inverse=True)
        embedded = self.network.embed(rows)
        h = self.network.users(embedded, self.tensor(place[1 : 1 + histories.size].reshape(histories.shape)))
        distinct, at = np.unique(place[1 + histories.size :], return_inverse=True)
        vectors, bias = self.network.items(embedded[self.tensor(distinct)])
        chance = in_a_batch(share[rows[distinct] - 1], len(events))
        return in_batch_softmax(h, vectors, bias, self.tensor(chance.astype(np.float32)), self.tensor(at))

    def settle(self) -> None:
        self._embedded = self.network.embed(np.arange(self.n_items + 1))
        self._vectors, self._bias = self.network.items(self._embedded[1:])

    def item_side(self) -> tuple[Tensor, Tensor]:
        return self._vectors, self._bias

    def query_side(self, queries: Queries) -> Tensor:
        histories = known_rows(queries, self.n_items, self.settings.length)
        h: Tensor = self.network.users(self._embedded, self.tensor(histories))
        return h


def in_a_batch(share: F64, batch: int) -> F64:
    """The chance of items to be among `batch` events, of which each is the item with this probability.

    >>> in_a_batch(np.array([0.0, 0.5, 1.0]), 2).tolist()
    [0.0, 0.75, 1.0]
    """
    chance: F64 = 1.0 - (1.0 - share) ** batch
    return chance
