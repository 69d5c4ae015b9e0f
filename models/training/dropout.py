"""Dropout whose masks are keyed by (seed, step), not drawn from a running generator.

In: activations; a seed and a step number through `Noise.key`. Out: activations with some of them zeroed. Two
runs that key the same step drop the same activations, on every device, whatever either of them did before; and
where a batch is made of parts, each part's are the same whoever else is in the batch (`Noise.key_parts`).
Never touches torch's own generators.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class Noise:
    """Random bytes of one training step, shared by all dropout layers of a model."""

    def __init__(self) -> None:
        self._parts = [(np.random.SFC64(0), 1)]

    def key(self, seed: int, step: int) -> None:
        """Start the bytes of this step."""
        self._parts = [(np.random.SFC64([seed, step]), 1)]

    def key_parts(self, seed: int, step: int, parts: Sequence[tuple[int, int]]) -> None:
        """Start the bytes of a batch whose rows are of several parts: (number of the part, rows) of each."""
        self._parts = [(np.random.SFC64([seed, step, 2, part]), rows) for part, rows in parts]

    def draw(self, n: int) -> Tensor:
        """The next `n` bytes, uint8 [n]: so many from each part as it has rows."""
        each = n // sum(rows for _, rows in self._parts)
        drawn = [
            generator.random_raw(-(-each * rows // 8)).view(np.uint8)[: each * rows]
            for generator, rows in self._parts
        ]
        return torch.from_numpy(drawn[0] if len(drawn) == 1 else np.concatenate(drawn))


class KeyedDropout(nn.Module):
    """Zeroes a share `p` (rounded to 1/256) of the activations and scales the others up, in training only."""

    def __init__(self, p: float, noise: Noise) -> None:
        super().__init__()
        self.dropped = min(round(p * 256), 255)
        self.noise = noise

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.dropped == 0:
            return x
        kept = self.noise.draw(x.numel()).to(x.device).view(x.shape) >= self.dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - self.dropped))
