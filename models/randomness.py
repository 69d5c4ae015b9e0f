"""Counter-based randomness: every draw is a pure function of (seed, where the event stands, number of the draw).

Nothing here keeps a generator that runs, so what is learned does not depend on where a batch was cut or on what
was drawn before. The mixer is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
OOPSLA 2014).
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from models.kernels import kernel

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


@kernel
def mix(x: np.uint64) -> np.uint64:
    """64 well-mixed bits of `x`."""
    z = np.uint64(x) + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    return z ^ (z >> np.uint64(31))


@kernel
def draw(stream: np.uint64, number: int) -> np.uint64:
    """The `number`-th 64 bits of a stream."""
    return mix(stream + np.uint64(number) * _GOLDEN)


@kernel
def uniform(stream: np.uint64, number: int) -> float:
    """The `number`-th float of a stream, in [0, 1)."""
    return float(draw(stream, number) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@kernel
def below(stream: np.uint64, number: int, n: int) -> int:
    """The `number`-th integer of a stream, in [0, n); the bias is below n / 2**32."""
    return int(((draw(stream, number) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@kernel
def normal(stream: np.uint64, number: int) -> float:
    """The `number`-th standard normal of a stream (Box-Muller)."""
    u = 1.0 - uniform(stream, 2 * number)
    v = uniform(stream, 2 * number + 1)
    return math.sqrt(-2.0 * math.log(u)) * math.cos(2.0 * math.pi * v)


def hash64(text: str) -> int:
    """64-bit hash of a string, the same on every machine and in every run; never 0."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") or 1
