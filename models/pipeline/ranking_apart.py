"""Asymmetric MF learns a batch in a thread of its own, where nothing reads it before the batch is over.

In: a batch as the event loop takes it, in which no list is made and no blend is taught. Out: the factors and flags that
the event loop would have made of it, bit for bit: each step depends on the history of its user and on which items had
events before it, and both are known from the batch alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from models.base import DUPLICATE, F32, I32, I64, U8
from models.kernels import kernel
from models.online import asymmetric_mf
from models.pipeline.fixed import Fixed
from models.pipeline.stream import Columns
from models.randomness import mix
from models.state import totals
from models.state.catalogue import HEAD, OUTPUT
from models.state.learned import State


class _Scratch(NamedTuple):
    history: I32  # [50] slots
    user: F32  # [d]
    gradient: F32  # [d]
    drawn: I32  # [negatives + 1]
    logit: F32


@kernel
def learn_batch(
    state: State, fixed: Fixed, x: _Scratch, c: Columns, slot_of: I32, born: I64, used: int, dirty: U8
) -> None:
    """Every event of the batch, in order.

    Args:
        born: [S] a copy of when items had their first event, before the batch; it is kept up to date here.
        used: item slots in use before the batch.
        dirty: [S] gets the flags of what changed.
    """
    for e in range(len(c.user)):
        if c.history.status[e] == DUPLICATE:
            continue
        slot = slot_of[c.item[e]]
        used = max(used, slot + 1)
        if c.weight[e] != 0.0:
            n = c.history.b_n[e]
            for k in range(n):
                x.history[k] = slot_of[c.history.b_items[e, k]]
            asymmetric_mf.learn(
                state.amf, fixed.amf, slot, used, born, x.history, n, c.weight[e],
                mix(c.key[e] ^ mix(np.uint64(c.offset[e]) ^ fixed.seed)),
                x.user, x.gradient, x.drawn, x.logit, dirty, HEAD, OUTPUT,
            )  # fmt: skip
        born[slot] = 0


class RankingApart:
    """The thread, and its buffers."""

    def __init__(self, fixed: Fixed, factors: int) -> None:
        negatives = fixed.amf.negatives + 1
        self._fixed = fixed
        self._scratch = _Scratch(
            np.zeros(50, np.int32), np.zeros(factors, np.float32), np.zeros(factors, np.float32),
            np.zeros(negatives, np.int32), np.zeros(negatives, np.float32),
        )  # fmt: skip
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ranking")

    @contextmanager
    def beside(self, state: State, columns: Columns, slot_of: I32) -> Iterator[None]:
        """Learn the batch while the body runs, which must not touch the factors; what changed is marked after it."""
        items = state.items
        dirty: U8 = np.zeros(len(items.dirty), np.uint8)
        used = int(state.totals[totals.SLOTS_USED])
        done = self._thread.submit(
            learn_batch, state, self._fixed, self._scratch, columns, slot_of, items.born.copy(), used, dirty
        )
        try:
            yield
        finally:
            done.result()
            np.bitwise_or(items.dirty, dirty, out=items.dirty)
