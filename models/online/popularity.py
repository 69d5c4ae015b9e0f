"""Popularity with several half-lives, counted in accepted events.

Instead of decaying every item at every event, an event at clock n adds 2^((n - base) / half-life): the ranking and
the shares are those of decayed counts. Before the numbers grow too large all are scaled by 2^-512, which is exact
(forward decay: Cormode, Shkapenyuk, Srivastava, Xu, ICDE 2009).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models import selection
from models.base import F64, I32, I64, U8, U64
from models.kernels import inner, kernel, part

RESCALE_HALF_LIVES = 512
TINY = 2.0**-500
TOP = 256
PRIOR = 20.0
"""Events in a scenario from which on its own popularity counts for more than that of everywhere."""


class Popularity(NamedTuple):
    """P half-lives, S item slots."""

    mass: F64  # [S, P], in units of 2^(base / half-life); a half-life after the other in memory
    total: F64  # [P]
    base: I64  # [P] clock that the units count from
    epochs: I32  # [P] rescalings so far
    half_lives: I64  # [P], 0 for no decay
    top: I32  # [P, TOP] slots of the most popular items, best first, -1 fills


def create(half_lives: tuple[int, ...], slots: int) -> Popularity:
    """Empty counts for `slots` items."""
    p = len(half_lives)
    return Popularity(
        mass=np.zeros((slots, p), order="F"),
        total=np.zeros(p),
        base=np.zeros(p, np.int64),
        epochs=np.zeros(p, np.int32),
        half_lives=np.asarray(half_lives, np.int64),
        top=np.full((p, TOP), -1, np.int32),
    )


@part
def learn(pop: Popularity, slot: int, weight: float, clock: int) -> bool:
    """Count one event of an item; True when every item's numbers were rescaled."""
    rescaled = False
    for p in range(len(pop.total)):
        rescaled = count(pop, p, slot, weight, clock) or rescaled
    return rescaled


@part
def count(pop: Popularity, p: int, slot: int, weight: float, clock: int) -> bool:
    """Count one event of an item in one column; True when every item's numbers in it were rescaled."""
    life = pop.half_lives[p]
    gain, rescaled = weight, False
    if life > 0:
        while clock - pop.base[p] >= RESCALE_HALF_LIVES * life:
            rescale(pop.mass[:, p])
            pop.total[p] *= 2.0**-RESCALE_HALF_LIVES
            pop.base[p] += RESCALE_HALF_LIVES * life
            pop.epochs[p] += 1
            rescaled = True
        gain = weight * 2.0 ** ((clock - pop.base[p]) / life)
    _rise(pop.mass[:, p], pop.top[p], slot, gain)
    pop.mass[slot, p] += gain
    pop.total[p] += gain
    return rescaled


@inner
def trust(here: Popularity, column: int, clock: int) -> float:
    """How far to trust what is popular in one scenario: n / (n + PRIOR) after n events there, decayed as they are."""
    life = here.half_lives[column]
    n = here.total[column]
    if life > 0:
        n *= 2.0 ** (-(clock - here.base[column]) / life)
    return n / (n + PRIOR)


@inner
def share(pop: Popularity, p: int, here: Popularity, column: int, trusted: float, slot: int) -> float:
    """An item's share of all events by half-life `p`, mixed with its share of those in a scenario.

    That is the posterior mean of its share there, with the other one as a prior worth `PRIOR` events
    (Dirichlet smoothing: Zhai, Lafferty, SIGIR 2001); `trusted` is of `trust`, 0 where no scenario is asked for.
    """
    everywhere = pop.mass[slot, p] / pop.total[p] if pop.total[p] > 0.0 else 0.0
    if trusted <= 0.0:
        return everywhere
    return trusted * (here.mass[slot, column] / here.total[column]) + (1.0 - trusted) * everywhere


@inner
def _first_below(mass: F64, top: I32, bound: float, equal: bool) -> int:
    """The first place of the top whose mass is below the bound, or `equal` to it."""
    low, high = 0, TOP
    while low < high:
        middle = (low + high) // 2
        slot = top[middle]
        if slot < 0 or mass[slot] < bound or (equal and mass[slot] == bound):
            high = middle
        else:
            low = middle + 1
    return low


@inner
def _rise(mass: F64, top: I32, slot: int, gain: float) -> None:
    """Move an item up in the top before its mass grows by `gain`; no other item's rank can change."""
    new = _first_below(mass, top, mass[slot] + gain, False)
    old = _first_below(mass, top, mass[slot], True)
    while old < TOP and top[old] >= 0 and top[old] != slot and mass[top[old]] == mass[slot]:
        old += 1
    if old == TOP or top[old] != slot:
        old = TOP - 1
        if new == TOP:
            return
    for at in range(old, new, -1):
        top[at] = top[at - 1]
    if new <= old:
        top[new] = slot


@kernel
def rescale(mass: F64) -> None:
    """Scale masses by 2^-512; what is lost in the noise becomes 0."""
    for j in range(len(mass)):
        value = mass[j] * 2.0**-RESCALE_HALF_LIVES
        mass[j] = value if value > TINY else 0.0


@kernel(allocates=True)
def find_top(pop: Popularity, slots: int) -> None:
    """Find the most popular items of each half-life anew, as after an eviction."""
    for p in range(len(pop.total)):
        if pop.total[p] == 0.0:
            pop.top[p] = -1
            continue
        order = np.argsort(-pop.mass[:slots, p], kind="mergesort")
        for j in range(TOP):
            pop.top[p, j] = order[j] if j < slots and pop.mass[order[j], p] > 0.0 else -1


@inner
def exact_top(
    pop: Popularity, p: int, slots: int, blocked: I32, mark: int, order: U64, available: U8, out: I32, mass_of: F64
) -> int:  # fmt: skip
    """Fill `out` with the most popular items of a half-life that are not blocked, best first; how many they are.

    Beyond the stored top every item is looked at, for users who had nearly all of it, or where its last one ties with
    the k-th. Ties go to the lower item id; `mass_of` [k] is filled with the masses.
    """
    mass, filled, k = pop.mass[:, p], 0, len(out)
    for j in range(TOP):
        slot = pop.top[p, j]
        if slot < 0 or mass[slot] <= 0.0 or (filled == k and mass[slot] < mass_of[k - 1]):
            return filled
        if blocked[slot] != mark and available[slot] != 0:
            filled = selection.offer(out, mass_of, filled, slot, mass[slot], order)
    filled = 0
    for slot in range(slots):
        if mass[slot] > 0.0 and blocked[slot] != mark and available[slot] != 0:
            filled = selection.offer(out, mass_of, filled, slot, mass[slot], order)
    return filled
