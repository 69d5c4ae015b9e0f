"""The compiled co-visitation of a few items, for tests, and what a dict of dicts makes of the same events."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import numpy as np

from models.config import CovisitSettings
from models.kernels import kernel
from models.online import covisit, covisit_readings, covisit_rows, covisit_sums
from models.online.covisit import Rates
from models.online.covisit_readings import Readings
from models.online.covisit_rows import Covisit

SETTINGS = CovisitSettings()
SLOTS = 60
FLAG = 2


@kernel
def learn(
    c: Any, r: Any, slot: Any, history: Any, n: Any, weight: Any, dirty: Any, flag: Any, probe: Any
) -> Any:
    return covisit.learn(c, r, slot, history, n, weight, dirty, flag, probe)


@kernel
def read(
    c: Any, r: Any, history: Any, n: Any, slots: Any, in_use: Any, mass: Any, total: Any,
    coefficient: Any, base: Any, sums: Any, stamp: Any, mark: Any, touched: Any,
) -> Any:  # fmt: skip
    covisit_readings.coefficients(c, r, history, n, coefficient, base)
    found = covisit_sums.accumulate(
        c, history, min(n, r.any_items), r.second_items,
        coefficient, sums, in_use, stamp, mark, touched,
    )  # fmt: skip
    covisit_readings.finish(c, r, slots, len(slots), mass, total, base, sums.of, stamp, mark)
    return found


@kernel
def share(
    c: Any, r: Any, history: Any, n: Any, in_use: Any, mass: Any, total: Any, coefficient: Any, base: Any,
    sums: Any, stamp: Any, mark: Any, touched: Any, blocked: Any, available: Any, allowed: Any, shares: Any,
) -> Any:  # fmt: skip
    covisit_readings.coefficients(c, r, history, n, coefficient, base)
    found = covisit_sums.accumulate(
        c, history, min(n, r.any_items), r.second_items,
        coefficient, sums, in_use, stamp, mark, touched,
    )  # fmt: skip
    return covisit_readings.finish_and_share(
        c, r, touched, found, mass, total, base, sums.of, blocked, mark, available, allowed, shares
    )  # fmt: skip


@kernel
def forget(c: Any, gone: Any) -> Any:
    covisit_rows.forget(c, gone)


@kernel
def strongest_kernel(
    c: Any, r: Any, history: Any, n: Any, items: Any, coefficient: Any, strength: Any, out: Any
) -> Any:
    covisit_readings.strongest(c, r, history, n, items, len(items), coefficient, strength, out)


def strongest(matrix: Matrix, history: Any, n: int, items: list[int]) -> list[int]:
    """Position in the history of the loudest item for each of `items`."""
    out = np.zeros(len(items), np.int32)
    strongest_kernel(
        matrix.c, matrix.r, history, n, np.array(items, np.int32), matrix.coefficient,
        np.ones(len(items), np.float32), out,
    )  # fmt: skip
    return out.tolist()


class Matrix:
    """The compiled model; `in_use` says how many items there are, of which the first SLOTS have events."""

    def __init__(self, settings: CovisitSettings = SETTINGS, in_use: int = SLOTS) -> None:
        self.settings, self.in_use = settings, in_use
        self.rates: Rates = covisit.rates(settings)
        self.r: Readings = covisit_readings.readings(settings)
        self.c: Covisit = covisit_rows.create(in_use)
        self.dirty = np.zeros(in_use, np.uint8)
        self.mark = 0
        self.stamp = np.zeros(in_use, np.int32)
        self.sums = covisit_sums.new_sums(in_use)
        self.coefficient = np.zeros((50, covisit_rows.LANES), np.float32)

    def learn(self, slot: int, history: list[int], weight: float = 1.0) -> float:
        self.c = covisit_rows.with_room(self.c, covisit.needs(self.settings))
        h = np.array([*history, -1], np.int32)
        mass = learn(
            self.c,
            self.rates,
            slot,
            h,
            len(history),
            weight,
            self.dirty,
            FLAG,
            np.zeros((2, 100), np.int64),
        )
        return float(mass)

    def rows(self, slot: int) -> dict[int, list[float]]:
        keys, weights = covisit_rows.row(self.c, slot)
        assert len(set(keys.tolist())) == len(keys)
        return {int(k): w for k, w in zip(keys, weights[:, :2].tolist(), strict=True)}

    def read(self, history: list[int], mass: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], set[int]]:
        """Readings of every slot [SLOTS, LANES], and the slots that were neighbours."""
        self.mark += 1
        touched, base = np.zeros(self.in_use, np.int32), np.zeros(covisit_rows.LANES, np.float32)
        h = np.array([*history, -1], np.int32)
        found = read(
            self.c, self.r, h, len(history), np.arange(SLOTS, dtype=np.int32), self.in_use, mass, mass.sum(),
            self.coefficient, base, self.sums, self.stamp, self.mark, touched,
        )  # fmt: skip
        return self.sums.of[:SLOTS].copy(), set(touched[:found].tolist())

    def shares(self, history: list[int], mass: Any, blocked: set[int], gone: set[int]) -> dict[int, float]:
        """Of the neighbours that may be shown, the shares of all readings added up."""
        self.mark += 1
        touched, allowed = np.zeros((2, self.in_use), np.int32)
        base, shares = np.zeros(covisit_rows.LANES, np.float32), np.zeros(self.in_use, np.float32)
        marks, available = np.zeros(self.in_use, np.int32), np.ones(self.in_use, np.uint8)
        marks[list(blocked)], available[list(gone)] = self.mark, 0
        h = np.array([*history, -1], np.int32)
        n = share(
            self.c, self.r, h, len(history), self.in_use, mass, mass.sum(), self.coefficient, base, self.sums,
            self.stamp, self.mark, touched, marks, available, allowed, shares,
        )  # fmt: skip
        return dict(zip(allowed[:n].tolist(), shares[:n].tolist(), strict=True))


Pairs = dict[tuple[int, int], np.ndarray[Any, Any]]


def plain(events: list[tuple[int, list[int], float]], settings: CovisitSettings = SETTINGS) -> Pairs:
    """A[a, b] of both matrices, by the definition at the head of the module."""
    a: Pairs = defaultdict(lambda: np.zeros(2))
    for item, history, weight in events:
        for m in range(2):
            for g, other in enumerate(history[: settings.window[m]]):
                if other != item and other >= 0:
                    gain = weight * settings.decay[m] ** g
                    a[other, item][m] += gain
                    a[item, other][m] += settings.back[m] * gain
    return a


def traffic(n: int = 300, seed: int = 0) -> list[tuple[int, list[int], float]]:
    rng = random.Random(seed)
    return [
        (
            rng.randrange(SLOTS),
            [rng.randrange(-1, SLOTS) for _ in range(rng.randrange(50))],
            rng.choice([1.0, 0.5]),
        )
        for _ in range(n)
    ]
