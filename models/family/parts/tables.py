"""Tables of vectors, one row a user or item, that grow with the codes that are met.

In: how many rows are wanted. Out: a parameter of that many. A row begins small and random, keyed by (seed, table, row)
alone, so that it does not matter in how many steps a table grew. Never forgets a row.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.base import F32

WORDS = 4
"""64-bit words that Philox draws at a time: each row begins with a draw of its own."""


def fresh_rows(seed: int, table: int, start: int, stop: int, width: int, scale: float) -> F32:
    """Uniform rows `start` to `stop` of a table, with mean 0 and standard deviation `scale`, [stop - start, width].

    >>> one, two = fresh_rows(1, 0, 0, 9, 6, 0.1), fresh_rows(1, 0, 5, 9, 6, 0.1)
    >>> bool((one[5:] == two).all())
    True
    """
    draws = -(-width // WORDS)
    generator = np.random.Philox(key=np.array([seed, table], np.uint64))
    generator.advance(start * draws)
    words = generator.random_raw((stop - start) * draws * WORDS).reshape(stop - start, draws * WORDS)
    unit = (words[:, :width] >> np.uint64(11)).astype(np.float64) / 2.0**53
    rows: F32 = ((2.0 * unit - 1.0) * (np.sqrt(3.0) * scale)).astype(np.float32)
    return rows


class Table(nn.Module):
    """Vectors [rows, width].

    Args:
        of: whose; a table of items has row 0 for "nothing", and the row after its code for each item.
        number: tells the tables of a network apart.
        scale: standard deviation of fresh rows.
    """

    def __init__(
        self, of: Literal["users", "items"], width: int, *, seed: int, number: int, scale: float
    ) -> None:
        super().__init__()
        self.of, self.width, self.seed, self.number, self.scale = of, width, seed, number, scale
        self.weight = nn.Parameter(torch.zeros(0, width))

    def grow(self, n_users: int, n_items: int) -> None:
        """Make room for so many codes."""
        rows, held = (n_users if self.of == "users" else n_items + 1), len(self.weight)
        if rows > held:
            fresh = fresh_rows(self.seed, self.number, held, rows, self.width, self.scale)
            more = torch.from_numpy(fresh).to(self.weight.device)
            self.weight = nn.Parameter(torch.cat((self.weight.detach(), more)))

    def forward(self, rows: Tensor) -> Tensor:
        return functional.embedding(rows, self.weight)
