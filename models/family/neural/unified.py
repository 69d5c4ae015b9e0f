"""The unified sequence model: one backbone that retrieves and re-ranks, over all kinds of events.

In: what users did (item, action, value, time, scenario), and what is known of the items. Out: scores of all items for
a history; which action and which value would come with an item. The backbone is the one that the worker re-ranks with
(`models.sequence.transformer`: causal, banded, rotary).

An item's vector is v = id + Σ_m σ(w_m · c_m + b_m) c_m over what describes it: c_1 the sum of its hashed tokens'
vectors, c_2 a projection of its ready-made embedding (text, image, audio). Content is projected into the space of the
ids and gated, as in gated multimodal units (Arevalo et al., ICLR Workshop 2017), so that an item can be scored before
its first event. The loss is that of all sequence models (`models.family.parts.sequential`), plus those of two more
heads on the same vectors (multi-task learning: Caruana, Machine Learning 28, 1997). Candidates don't see each other: a
score is a product of two vectors.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from models.base import F32, I32, I64
from models.config import Section, TransformerSettings
from models.family.contract import NOBODY, ActionModel, Content, Queries, RatingModel
from models.family.parts.item_content import ItemContent, described
from models.family.parts.sequential import INIT, SequentialSettings, next_item_loss
from models.family.parts.tables import Table
from models.family.parts.training import Lesson, Network, ProductModel, Step
from models.sequence.encode import Events
from models.sequence.transformer import LEVELS, EventEncoder, band_for, value_buckets
from models.training.event_log import MAX_ACTIONS, Sequences
from models.training.windows import Windows, batch_of, grouped, plan

MAX_SCENARIOS = 64
"""Scenarios told apart; all further ones count as the last of these. Scenario 0, "not given", has the zero vector."""


class UnifiedSettings(SequentialSettings):
    """The unified model."""

    width: int = Field(64, ge=8, le=512, description="a multiple of twice the number of heads")
    layers: int = Field(2, ge=1, le=4)
    heads: int = Field(2, ge=1, le=16)
    lr: float = Field(1e-3, gt=0)
    context: int = Field(
        24, ge=0, description="events read, but not predicted, before a window that is not full"
    )
    action_share: float = Field(0.1, ge=0, description="weight of the loss of the next action")
    value_share: float = Field(0.1, ge=0, description="weight of the loss of the next value")
    low: float = Field(1.0, description="lowest rating; where nobody says, that of the settings of events")
    high: float = Field(5.0, description="highest rating; where nobody says, that of the settings of events")
    buckets: int = Field(1 << 14, ge=2, description="of hashed tokens of the content")

    @model_validator(mode="after")
    def _heads_turn_pairs(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width ({self.width}) must be a multiple of twice the number of heads ({self.heads})"
            )
        return self

    @model_validator(mode="after")
    def _a_scale(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class UnifiedNetwork(Network):
    """Events → query vectors; item rows → item vectors."""

    def __init__(self, settings: UnifiedSettings, seed: int, content: Content | None) -> None:
        super().__init__()
        d = settings.width
        config = TransformerSettings(
            d_model=d, layers=settings.layers, heads=settings.heads, dropout=settings.dropout
        )
        self.encoder = EventEncoder(config, MAX_ACTIONS, band_for(2 * settings.length, settings.layers))
        self.noise = self.encoder.noise
        self.item = Table("items", d, seed=seed, number=0, scale=INIT)
        self.bias = Table("items", 1, seed=seed, number=1, scale=0.0)
        self.scenario = nn.Parameter(torch.zeros(MAX_SCENARIOS, d))
        self.described: ItemContent = described(content, settings.buckets)
        self.tokens = nn.Parameter(torch.randn(settings.buckets if content is not None else 0, d) * INIT)
        given = self.described.vectors.shape[1]
        self.projection = nn.Parameter(torch.randn(d, given) / max(given, 1) ** 0.5 * INIT)
        self.gate_tokens, self.gate_vectors = nn.Linear(d, 1), nn.Linear(d, 1)
        self.next_action = nn.Linear(d, MAX_ACTIONS + 1)
        self.next_value = nn.Linear(d, LEVELS + 1)

    def item_vectors(self, rows: I64 | None = None) -> Tensor:
        """Vectors of these item rows, or of all, [n, d]."""
        if rows is None:
            rows = np.arange(len(self.item.weight))
        device = self.item.weight.device
        vectors: Tensor = self.item(torch.from_numpy(rows).to(device))
        if not len(self.tokens) and not self.projection.shape[1]:
            return vectors
        known = self.described.take(rows)
        parts = []
        if len(self.tokens) and len(known.buckets):
            summed = functional.embedding_bag(
                torch.from_numpy(known.buckets).to(device),
                self.tokens,
                torch.from_numpy(known.starts[:-1]).to(device),
                mode="sum",
                per_sample_weights=torch.from_numpy(known.weights).to(device),
            )
            parts.append((self.gate_tokens, summed))
        if self.projection.shape[1]:
            given = torch.from_numpy(known.vectors).to(device)
            parts.append((self.gate_vectors, functional.linear(given, self.projection)))
        for gate, part in parts:
            vectors = vectors + torch.sigmoid(gate(part)) * part
        return vectors

    def forward(
        self, items: Tensor, buckets: Tensor, scenarios: Tensor, segments: Tensor, at: Tensor
    ) -> Tensor:
        """Query vectors [n, d], one after each event, of item vectors [n, d] and the rest as int64.

        buckets [3, n] are actions, values and gaps; segments, positions: see `EventEncoder.attend`.
        """
        x = self.encoder.describe(items, *buckets)
        return self.encoder.attend(
            x + functional.embedding(scenarios, self.scenario, padding_idx=0), segments, at
        )


class Unified(ProductModel, RatingModel, ActionModel):
    """Causal attention, items of id and gated content, three tasks (Vaswani et al. 2017; Arevalo et al. 2017)."""

    name = "unified"
    uses_content = True
    Settings: ClassVar[type[Section]] = UnifiedSettings
    settings: UnifiedSettings
    network: UnifiedNetwork

    def build(self) -> UnifiedNetwork:
        return UnifiedNetwork(self.settings, self.seed, self.content)

    def steps(self, lesson: Lesson) -> list[Step]:
        events, settings = lesson.events, self.settings
        sequences = Sequences(
            number=lesson.number,
            item=events.item,
            action=np.minimum(events.action, MAX_ACTIONS - 1).astype(np.uint8),
            value=events.value,
            weight=np.ones(len(events), np.float32),
            gap=_gaps(events.ts, lesson.starts),
            starts=lesson.starts,
        )
        rng = lesson.rng(0)
        windows = plan(
            sequences,
            lesson.new_from,
            lesson.predictions,
            lesson.replay,
            settings.length,
            settings.context,
            rng,
        )
        scenario = np.minimum(events.scenario, MAX_SCENARIOS - 1).astype(np.int64)
        return [
            partial(self._step, lesson, sequences, scenario, group, number)
            for number, group in enumerate(grouped(windows, settings.batch))
        ]

    def _step(
        self, lesson: Lesson, events: Sequences, scenario: I64, windows: Windows, number: int
    ) -> Tensor:
        batch = batch_of(events, windows)
        assert batch is not None  # all events weigh the same here
        network = self.network
        buckets, follow = (self._buckets(events, at) for at in (batch.events, batch.targets))
        targets = follow[0]
        vectors = network.item_vectors()
        h = network(
            functional.embedding(self.tensor(buckets[0]), vectors),
            self.tensor(buckets[1:]),
            self.tensor(scenario[batch.events]),
            self.tensor(batch.segments),
            torch.arange(len(batch.events), device=self.device),
        )[self.tensor(batch.sources)]
        bias = network.bias.weight[:, 0]
        loss = next_item_loss(self.settings, lesson, number, h, vectors, bias, targets)
        if self.settings.action_share and (events.action != events.action[0]).any():
            action = functional.cross_entropy(network.next_action(h), self.tensor(follow[1]))
            loss = loss + self.settings.action_share * action
        rated = np.flatnonzero(follow[2])
        if self.settings.value_share and len(rated):
            at = self.tensor(rated)
            taken = functional.embedding(self.tensor(targets[rated]), vectors)
            value = functional.cross_entropy(network.next_value(h[at] * taken), self.tensor(follow[2][rated]))
            loss = loss + self.settings.value_share * value
        return loss

    def _buckets(self, events: Sequences, at: I64) -> I64:
        """Rows and buckets of some events, int64 [4, n]."""
        action = events.action[at].astype(np.int32) + 1
        some = Events(events.item[at] + 1, action, events.value[at], events.gap[at])
        return some.buckets(self.settings.low, self.settings.high)

    def settle(self) -> None:
        self._vectors = self.network.item_vectors()
        low, high = self.settings.low, self.settings.high
        given = self.kept.value[~np.isnan(self.kept.value)]
        bucket = value_buckets(given, low, high) - 1
        counts = np.bincount(bucket, minlength=LEVELS)
        mean = np.bincount(bucket, given, minlength=LEVELS) / np.maximum(counts, 1)
        # A level stands for the mean of its ratings: on a scale of five the middle of no level is 3.
        self._levels = np.where(counts > 0, mean, np.linspace(low, high, LEVELS)).astype(np.float32)
        self._rates = bool(self.settings.value_share) and len(given) > 0

    def item_side(self) -> tuple[Tensor, Tensor]:
        return self._vectors[1:], self.network.bias.weight[1:, 0]

    def actions(self, queries: Queries) -> F32:
        if not self.settings.action_share:
            return np.full((len(queries), MAX_ACTIONS), np.nan, np.float32)
        with torch.inference_mode():
            logits = self.network.next_action(self.query_side(queries))[:, 1:]
            found: F32 = torch.softmax(logits, 1).cpu().numpy()
        return found

    def rating(self, queries: Queries, of: I64, item: I32) -> F32:
        """The expected rating after the query's history; NaN where no rating taught the model."""
        if not self._rates:
            return np.full(len(of), np.nan, np.float32)
        rows = np.where(item < self.n_items, item + 1, 0).astype(np.int64)
        with torch.inference_mode():
            h = self.query_side(queries)[self.tensor(of)]
            taken = functional.embedding(self.tensor(rows), self._vectors)
            shares = torch.softmax(self.network.next_value(h * taken)[:, 1:], 1)
            found: F32 = (shares @ self.tensor(self._levels)).cpu().numpy()
        return found

    def query_side(self, queries: Queries) -> Tensor:
        """The query vectors [n, d]; zero for an empty history."""
        shown = queries.items != NOBODY
        sizes = shown.sum(1)
        starts = np.concatenate(([0], np.cumsum(sizes)))
        item = queries.items[shown]
        events = Events(
            np.where(item < self.n_items, item + 1, 0).astype(np.int32),
            (np.minimum(queries.actions[shown], MAX_ACTIONS - 1) + 1).astype(np.int32),
            queries.values[shown],
            _gaps(queries.ts[shown], starts),
        )
        asked = torch.zeros(len(queries), self.settings.width, device=self.device)
        if not len(events):
            return asked
        h = self.network(
            functional.embedding(self.tensor(events.rows.astype(np.int64)), self._vectors),
            self.tensor(events.buckets(self.settings.low, self.settings.high)[1:]),
            self.tensor(np.minimum(queries.scenarios[shown], MAX_SCENARIOS - 1).astype(np.int64)),
            self.tensor(np.repeat(np.arange(len(queries)), sizes)),
            self.tensor(np.arange(len(events)) - np.repeat(starts[:-1], sizes)),
        )
        there = np.flatnonzero(sizes)
        asked[self.tensor(there)] = h[self.tensor(starts[1:][there] - 1)]
        return asked


def _gaps(ts: I64, starts: I64) -> I64:
    """Ms since the event before, of runs that begin at `starts`; -1 at the beginning of each."""
    gaps = np.maximum(np.diff(ts, prepend=0), 0)
    gaps[starts[:-1][starts[:-1] < len(ts)]] = -1
    return gaps
