"""Dropout whose masks are keyed by (seed, step), not drawn from a running generator.

In: activations; a seed and a step number through `Noise.key`. Out: activations with some of them zeroed. Two
runs that key the same step drop the same activations, on every device, whatever either of them did before.
Never touches torch's own generators.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Noise:
    """Random bytes of one training step, shared by all dropout layers of a model."""

    def __init__(self) -> None:
        self._generator = np.random.SFC64(0)

    def key(self, seed: int, step: int) -> None:
        """Start the bytes of this step."""
        self._generator = np.random.SFC64([seed, step])

    def draw(self, n: int) -> Tensor:
        """The next `n` bytes, uint8 [n]."""
        words = self._generator.random_raw(-(-n // 8))
        return torch.from_numpy(words.view(np.uint8)[:n])


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
