"""The causal banded Transformer over a user's events.

In: events as flat columns (item row, action row, value bucket, gap bucket), the events of one user next to
each other, users told apart by a segment number. Out: a query vector in item space after each event. Never
samples, trains, or knows an item's id.

Pre-norm decoder (Vaswani et al. 2017; Xiong et al. 2020) with rotary positions (Su et al. 2021) over event
embeddings, tied to the output table as in SASRec (Kang & McAuley 2018). Attention is *banded*: the event at
position p sees p-band+1 … p. After all layers a vector therefore depends on the last `reach` events and on
nothing older, and with `band_for(length, layers)` the `length` events stored for a user determine it exactly,
including the time gap of the oldest event that matters (its predecessor is still stored).

Rotary angles are whole multiples of 2π / PERIOD, so positions may be taken modulo PERIOD: a user's millionth
event is encoded as precisely as the first.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.base import F32, I64
from models.config import TransformerSettings
from models.training.dropout import KeyedDropout, Noise

PERIOD = 4096
WIDER = 2
"""Width of the feed-forward layer in multiples of the model's."""
INIT = 0.02
"""Standard deviation of initial embeddings."""
GAPS = 34
"""Gap buckets: 0 for a user's first event, 1 for under a second, then one per doubling."""
LEVELS = 10
"""Value buckets: 0 for no value, 1 to LEVELS evenly over the rating scale."""

KeysValues = tuple[Tensor, Tensor]


def band_for(length: int, layers: int) -> int:
    """The widest band for which `length` stored events determine a user's vector.

    `layers` layers of this band reach back `layers * (band - 1) + 1` events; one more is stored, because the
    time gap of the oldest of them is counted from its predecessor.

    >>> band_for(100, 2), band_for(100, 4), band_for(100, 1)
    (50, 25, 99)
    """
    return (length - 2) // layers + 1


def gap_buckets(gaps: I64) -> I64:
    """Bucket of the time since the user's previous event, in ms; below 0 stands for "there is none".

    >>> gap_buckets(np.array([-1, 0, 999, 1000, 2000, 4_000, 10**15])).tolist()
    [0, 1, 1, 2, 3, 4, 33]
    """
    seconds = np.maximum(gaps, 0) // 1000
    doubled = np.frexp(seconds.astype(np.float64))[1].astype(np.int64)  # 0 → 0, 1 → 1, 2..3 → 2, 4..7 → 3
    return np.where(gaps < 0, 0, np.minimum(1 + doubled, GAPS - 1))


def value_buckets(values: F32, low: float, high: float) -> I64:
    """Bucket of a rating on the scale from `low` to `high`; NaN stands for "none".

    >>> value_buckets(np.array([np.nan, 1, 3, 5], np.float32), 1.0, 5.0).tolist()
    [0, 1, 6, 10]
    """
    share = (np.nan_to_num(values, nan=low).astype(np.float64) - low) / max(high - low, 1e-9)
    level = 1 + np.floor(np.clip(share, 0.0, 1.0) * (LEVELS - 1) + 0.5).astype(np.int64)
    return np.where(np.isnan(values), 0, level)


def rotations(head_dim: int, band: int) -> Tensor:
    """Unit complex numbers [PERIOD, head_dim // 2]; wavelengths from 2π to eight bands, geometrically."""
    fastest, slowest = PERIOD / (2 * math.pi), max(PERIOD / (8 * band), 1.0)
    steps = torch.linspace(0, 1, head_dim // 2, dtype=torch.float64)
    turns = (fastest * (slowest / fastest) ** steps).round()
    angles = torch.arange(PERIOD, dtype=torch.float64)[:, None] * turns * (2 * math.pi / PERIOD)
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Rotate [n, …, head_dim] by `turn` [n, head_dim // 2]; neighbouring coordinates form a pair."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    turn = turn.reshape(len(turn), *([1] * (x.dim() - 2)), -1)
    return torch.view_as_real(pairs * turn).flatten(-2)


class Layer(nn.Module):
    """Attention and feed-forward with their norms; attention itself is handed in, as training, blocks and
    single events look keys and values up differently."""

    def __init__(self, d: int, heads: int, dropout: float, noise: Noise) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.norm2 = nn.LayerNorm(d)
        self.up = nn.Linear(d, WIDER * d)
        self.down = nn.Linear(WIDER * d, d)
        self.dropout = KeyedDropout(dropout, noise)

    def project(self, x: Tensor, turn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries, rotated keys and values, each [n, heads, head_dim]."""
        n, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(n, 3, self.heads, d // self.heads)
        qk = rotate(qkv[:, :2], turn)
        return qk[:, 0], qk[:, 1], qkv[:, 2]

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The residual stream [n, d] after this layer, from what attention gave [n, heads, head_dim]."""
        x = x + self.dropout(self.out(attended.flatten(1)))
        after: Tensor = x + self.dropout(self.down(functional.gelu(self.up(self.norm2(x)))))
        return after


class EventEncoder(nn.Module):
    """Query vectors from events whose items have vectors already; action row 0 stands for what was not learned."""

    rotations: Tensor
    window: Tensor

    def __init__(self, config: TransformerSettings, n_actions: int, band: int) -> None:
        super().__init__()
        self.config, self.band = config, band
        d = config.d_model
        self.action = nn.Parameter(torch.randn(n_actions + 1, d) * INIT)
        self.value = nn.Parameter(torch.randn(LEVELS + 1, d) * INIT)
        self.gap = nn.Parameter(torch.randn(GAPS, d) * INIT)
        self.noise = Noise()
        self.dropout = KeyedDropout(config.dropout, self.noise)
        self.layers = nn.ModuleList(
            Layer(d, config.heads, config.dropout, self.noise) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(d)
        turns = rotations(d // config.heads, band)
        back = band + torch.arange(band)[:, None] - torch.arange(2 * band)
        self.register_buffer("rotations", turns, persistent=False)
        self.register_buffer("window", (back >= 0) & (back < band), persistent=False)

    @property
    def reach(self) -> int:
        """How many events, the newest included, a vector depends on."""
        return self.config.layers * (self.band - 1) + 1

    @property
    def n_actions(self) -> int:
        return len(self.action) - 1

    def describe(self, items: Tensor, actions: Tensor, values: Tensor, gaps: Tensor) -> Tensor:
        """Event embeddings [n, d]: item vectors [n, d], and for the rest rows and buckets, int64 [n]."""
        x = items + functional.embedding(actions, self.action)
        x = x + functional.embedding(values, self.value) + functional.embedding(gaps, self.gap)
        embedded: Tensor = self.dropout(x)
        return embedded

    def attend(
        self,
        x: Tensor,
        segments: Tensor,
        positions: Tensor,
        keep: list[KeysValues] | None = None,
    ) -> Tensor:
        """Query vectors [n, d], one after each event.

        Args:
            x: event embeddings [n, d].
            segments: users told apart, int64 [n]: equal for the (adjacent) events of one user, at least 0.
            positions: index of the event in its user's sequence, int64 [n].
            keep: receives the rotated keys and the values of each layer, [n, heads, head_dim] each.
        """
        n, band = len(segments), self.band
        blocks = -(-n // band)
        spare = blocks * band - n
        mine = functional.pad(segments, (0, spare), value=-1).view(blocks, band)
        seen = torch.cat((functional.pad(mine[:-1], (0, 0, 1, 0), value=-2), mine), 1)
        mask = (self.window & (mine[:, :, None] == seen[:, None, :]))[:, None]
        mask = torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, -torch.inf)
        turn = self.rotations[positions % PERIOD]
        for layer in self.layers:
            assert isinstance(layer, Layer)
            q, k, v = layer.project(x, turn)
            if keep is not None:
                keep.append((k, v))
            x = layer.finish(x, banded_attention(q, k, v, mask, spare))
        query: Tensor = self.norm(x)
        return query


class CausalTransformer(EventEncoder):
    """Query vectors for users, item vectors and biases for the tied softmax.

    Item row 0 stands for whatever the model has not learned.
    """

    def __init__(self, config: TransformerSettings, n_items: int, n_actions: int, band: int) -> None:
        item = torch.randn(n_items + 1, config.d_model) * INIT
        super().__init__(config, n_actions, band)
        self.item = nn.Parameter(item)
        self.bias = nn.Parameter(torch.zeros(n_items + 1))

    @property
    def n_items(self) -> int:
        return len(self.item) - 1

    def item_vectors(self) -> Tensor:
        """The vectors of all rows [n_items + 1, d]: embedded on the way in, scored on the way out."""
        return self.item

    def embed(self, rows: Tensor, actions: Tensor, values: Tensor, gaps: Tensor) -> Tensor:
        """Event embeddings [n, d]; all arguments int64 [n]."""
        return self.describe(functional.embedding(rows, self.item_vectors()), actions, values, gaps)

    def forward(
        self,
        events: Tensor,
        segments: Tensor,
        positions: Tensor,
        keep: list[KeysValues] | None = None,
    ) -> Tensor:
        """Query vectors [n, d], one after each event (see `attend`).

        Args:
            events: item rows, action rows, value buckets and gap buckets, int64 [4, n].
        """
        return self.attend(self.embed(*events), segments, positions, keep)


def banded_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, spare: int) -> Tensor:
    """Attention of each block of `band` events over itself and the block before it.

    q, k, v are [n, heads, head_dim]; mask is additive, [blocks, 1, band, 2 * band]; `spare` events fill the
    last block. Costs n * 2 * band, however the n events are divided among users.
    """
    blocks, _, band, _ = mask.shape
    n, heads, size = q.shape

    def blocked(x: Tensor) -> Tensor:
        return functional.pad(x, (0, 0, 0, 0, 0, spare)).view(blocks, band, heads, size)

    def with_previous(x: Tensor) -> Tensor:
        own = blocked(x)
        return torch.cat((functional.pad(own[:-1], (0, 0, 0, 0, 0, 0, 1, 0)), own), 1).transpose(1, 2)

    attended = functional.scaled_dot_product_attention(
        blocked(q).transpose(1, 2), with_previous(k), with_previous(v), attn_mask=mask
    )
    return attended.transpose(1, 2).reshape(blocks * band, heads, size)[:n]
