"""SASRec: self-attention over what a user took, in order.

Kang and McAuley: Self-Attentive Sequential Recommendation, ICDM 2018; trained as later work found that it should be:
with the cross-entropy over all items, or many of them, in place of one negative (Klenitskiy and Vasilev: Turning Dross
Into Gold Loss, RecSys 2023), or with gBCE (Petrov and Macdonald: gSASRec, RecSys 2023). Beside the paper: norms come
before the layers (Xiong et al., ICML 2020), and an item has a bias.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from models.config import Section
from models.family.parts.sequential import INIT, Sequential, SequentialNetwork, SequentialSettings
from models.training.dropout import KeyedDropout, Noise


class SASRecSettings(SequentialSettings):
    """SASRec."""

    layers: int = Field(2, ge=1)
    heads: int = Field(1, ge=1, description="width must be a multiple of it")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of the number of heads ({self.heads})")
        return self


class Block(nn.Module):
    """One layer: each event looks at those up to itself, then goes through a small network on its own."""

    def __init__(self, d: int, heads: int, dropout: float, noise: Noise) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        self.dropout = KeyedDropout(dropout, noise)

    def forward(self, x: Tensor) -> Tensor:
        n, length, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [n, heads, length, d / heads]
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.dropout(self.out(seen.transpose(1, 2).reshape(n, length, d)))
        after: Tensor = x + self.dropout(self.down(functional.gelu(self.up(self.norm2(x)))))
        return after


class SASRecNetwork(SequentialNetwork):
    """Item rows [n, length] → query vectors [n, length, width]."""

    def __init__(self, settings: SASRecSettings, seed: int) -> None:
        d = settings.width
        super().__init__(d, seed)
        self.position = nn.Parameter(torch.randn(settings.length, d) * INIT)
        self.dropout = KeyedDropout(settings.dropout, self.noise)
        self.blocks = nn.ModuleList(
            Block(d, settings.heads, settings.dropout, self.noise) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(d)

    def forward(self, rows: Tensor) -> Tensor:
        x = self.dropout(self.item(rows) + self.position[: rows.shape[1]])
        for block in self.blocks:
            x = block(x)
        query: Tensor = self.norm(x)
        return query


class SASRec(Sequential):
    """The next item by self-attention over the history (Kang and McAuley, ICDM 2018)."""

    name = "sasrec"
    Settings: ClassVar[type[Section]] = SASRecSettings
    settings: SASRecSettings

    def build(self) -> SASRecNetwork:
        return SASRecNetwork(self.settings, self.seed)
