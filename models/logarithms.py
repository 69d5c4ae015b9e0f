"""Natural logarithms of many numbers at once, in a quarter of the time that as many calls of a library take.

In: float32 in a buffer. Out: their logarithms in the same place, the same bits on every machine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.base import F32, I32
from models.kernels import inner

TINIEST = np.float32(np.finfo(np.float32).tiny)
"""The smallest number that is not too small to have all its digits."""
ROOT = np.float32(0.5**0.5)
P0, P1, P2, P3, P4, P5, P6, P7, P8 = (
    np.float32(p)
    for p in (
        7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
        -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
    )
)  # fmt: skip
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
"""The logarithm of 2 in two parts: products of the first with an exponent are exact."""


class Logarithms(NamedTuple):
    """Buffers for `C` numbers at most."""

    value: F32  # [C]
    word: I32  # [C] the same memory: the bits of each value
    part: F32  # [C] its mantissa, in [.5, 1)
    part_word: I32  # [C] the bits of that
    exponent: F32  # [C]


def new_logarithms(most: int) -> Logarithms:
    """Buffers for so many numbers."""
    value, part, exponent = np.zeros((3, most), np.float32)
    return Logarithms(value, value.view(np.int32), part, part.view(np.int32), exponent)


@inner
def logarithms(c: Logarithms, n: int) -> None:
    """Turn the first n of `c.value`, which must be normal positive numbers, into their natural logarithms.

    They are right to 1e-7 and 1.5e-7 of themselves: the polynomial of `logf` in the Cephes library
    (S. L. Moshier), in loops without branches or calls, which become instructions on many values at once.
    """
    for j in range(np.uint64(n)):
        word = c.word[j]
        c.exponent[j] = (word >> 23) - 126
        c.part_word[j] = (word & 0x007FFFFF) | 0x3F000000
    for j in range(np.uint64(n)):
        m, e = c.part[j], c.exponent[j]
        low = m < ROOT
        e = e - np.float32(1.0) if low else e
        x = m + m - np.float32(1.0) if low else m - np.float32(1.0)
        z = x * x
        y = P0
        y = y * x + P1
        y = y * x + P2
        y = y * x + P3
        y = y * x + P4
        y = y * x + P5
        y = y * x + P6
        y = y * x + P7
        y = y * x + P8
        y = y * x * z + e * LN2_LOW - np.float32(0.5) * z
        c.value[j] = x + y + e * LN2_HIGH
