"""The online models of items on their own, as river's recommenders: popularity, co-visitation, asymmetric MF.

In: events and questions, as `models.online.item_ranker` takes them. Out: scores. The update rules are those of
the kernels that the event loop runs (`models.pipeline.stream`), called here on tables of their own. The worker loads
none of this; the explicit factorisation is in `models.online.river_ranker`.
"""

from __future__ import annotations

import numpy as np

from models.base import F32, F64, I32, I64, U8, Arrays
from models.config import AsymmetricMFSettings, CovisitSettings
from models.kernels import kernel
from models.online import asymmetric_mf, covisit, covisit_readings, covisit_rows, covisit_sums, popularity
from models.online.item_ranker import FIRST_ROOM, Events, ItemRanker, Scores
from models.randomness import hash64, mix
from models.state import growth
from models.state.columns import grown
from models.state.sequences import HISTORY


class Popularity(ItemRanker):
    """The share of the decayed mass of events, the same for every user (see `models.online.popularity`).

    Args:
        half_life: in events; 0 for no decay.

    Examples:
        >>> model = Popularity()
        >>> model.learn_many(["ann", "bob", "bob"], ["Alien", "Alien", "Bambi"])
        >>> model.rank("eve", {"Bambi", "Alien"})
        ['Alien', 'Bambi']
    """

    def __init__(self, half_life: int = 0, seed: int = 0) -> None:
        super().__init__(seed)
        self.half_life = half_life
        self._table = popularity.create((half_life,), FIRST_ROOM)

    def _grow(self, room: int) -> None:
        self._table = growth.popularity_with(self._table, room)

    def _admit(self, item: str, slot: int) -> None: ...

    def _learn(self, events: Events) -> None:
        _learn_popularity(self._table, events)

    def _score(self, history: I32, slots: I32) -> Scores:  # noqa: ARG002
        mass: F64 = self._table.mass[slots, 0]
        total = float(self._table.total[0])
        return mass / total if total > 0.0 else mass

    def _learned(self) -> Arrays:
        table = self._table
        return {
            "mass": table.mass[: len(self._slots)].copy(),
            "total": table.total.copy(),
            "base": table.base.copy(),
        }


class CoVisitation(ItemRanker):
    """One reading of the item-item matrices (see `models.online.covisit`, `models.online.covisit_readings`).

    Args:
        reading: its name in the settings.
        settings: of the matrices and their readings.

    Examples:
        >>> model = CoVisitation()
        >>> model.learn_many(["ann", "ann", "bob"], ["Alien", "Aliens", "Alien"])
        >>> model.rank("bob", {"Bambi", "Aliens"})
        ['Aliens', 'Bambi']
    """

    def __init__(
        self, reading: str = "broad", settings: CovisitSettings | None = None, seed: int = 0
    ) -> None:
        super().__init__(seed)
        self.reading, self.settings = reading, settings
        given = CovisitSettings() if settings is None else settings
        names = [r.name for r in given.readings]
        if reading not in names:
            raise ValueError(f"there is no reading {reading!r}; there are {', '.join(names)}")
        self._rates, self._readings = covisit.rates(given), covisit_readings.readings(given)
        self._lane = int(self._readings.lanes[names.index(reading)])
        self._needed = covisit.needs(given)
        self._table = covisit_rows.create(FIRST_ROOM)
        self._popular = popularity.create((0,), FIRST_ROOM)
        self._dirty: U8 = np.zeros(FIRST_ROOM, np.uint8)

    def _grow(self, room: int) -> None:
        self._table = growth.covisit_with(self._table, room)
        self._popular = growth.popularity_with(self._popular, room)
        self._dirty = np.zeros(room, np.uint8)

    def _admit(self, item: str, slot: int) -> None: ...

    def _learn(self, events: Events) -> None:
        _learn_popularity(self._popular, events)
        probe, at = np.zeros((2, 2 * HISTORY), np.int64), 0
        while at < len(events.slot):
            self._table = covisit_rows.with_room(self._table, self._needed)
            at = _learn_covisit(self._table, self._rates, events, at, self._needed, self._dirty, probe)

    def _score(self, history: I32, slots: I32) -> Scores:
        used = len(self._slots)
        sums, stamp = covisit_sums.new_sums(used), np.zeros(used, np.int32)
        coefficient, base = (
            np.zeros((HISTORY, covisit_rows.LANES), np.float32),
            np.zeros(covisit_rows.LANES, np.float32),
        )
        _read_covisit(
            self._table, self._readings, history, slots, used, self._popular.mass[:, 0], self._popular.total[0],
            coefficient, base, sums, stamp, np.zeros(used, np.int32),
        )  # fmt: skip
        scores: F32 = sums.of[slots, self._lane]
        return scores

    def _learned(self) -> Arrays:
        used = len(self._slots)
        rows = [covisit_rows.row(self._table, slot) for slot in range(used)]
        return {
            "neighbours": np.concatenate([np.zeros(0, np.int32), *(keys for keys, _ in rows)]),
            "weights": np.concatenate(
                [np.zeros((0, 2), np.float32), *(weights[:, :2] for _, weights in rows)]
            ),
            "lengths": self._table.n[:used].copy(),
            "row_sum": self._table.row_sum[:used].copy(),
            "column_sum": self._table.column_sum[:used].copy(),
            "mass": self._popular.mass[:used].copy(),
        }


class AsymmetricMF(ItemRanker):
    """The item's logit for the decayed sum of what the user had (see `models.online.asymmetric_mf`).

    Args:
        settings: of the model.
        seed: of the first vectors and of the negatives.

    Examples:
        >>> model = AsymmetricMF(seed=7)
        >>> for n in range(30):
        ...     model.learn_many([f"{n}", f"{n}", f"-{n}", f"-{n}"], ["Alien", "Aliens", "Bambi", "Dumbo"])
        >>> model.learn_one("ann", "Alien")
        >>> model.rank("ann", {"Dumbo", "Aliens"})
        ['Aliens', 'Dumbo']
    """

    def __init__(self, settings: AsymmetricMFSettings | None = None, seed: int = 0) -> None:
        super().__init__(seed)
        self.settings = settings
        given = AsymmetricMFSettings() if settings is None else settings
        self._rates = asymmetric_mf.Rates(given.items, given.decay, given.negatives, given.lr)
        self._stream = np.uint64(hash64(f"seed {seed}"))
        self._table = asymmetric_mf.create(FIRST_ROOM, given.factors)
        self._born: I64 = np.full(FIRST_ROOM, -1, np.int64)
        self._dirty: U8 = np.zeros(FIRST_ROOM, np.uint8)
        self._known = np.zeros(1, np.int64)
        self._buffers = (
            np.zeros(given.factors, np.float32), np.zeros(given.factors, np.float32),
            np.zeros(given.negatives + 1, np.int32), np.zeros(given.negatives + 1, np.float32),
        )  # fmt: skip

    def _grow(self, room: int) -> None:
        self._table = grown(self._table, room)
        self._born = np.concatenate([self._born, np.full(room - len(self._born), -1, np.int64)])
        self._dirty = np.zeros(room, np.uint8)

    def _admit(self, item: str, slot: int) -> None:
        _initialise_ranking(self._table, slot, np.uint64(hash64(item)) ^ self._stream)

    def _learn(self, events: Events) -> None:
        _learn_ranking(
            self._table,
            self._rates,
            events,
            self._born,
            self._known,
            self._stream,
            *self._buffers,
            self._dirty,
        )

    def _score(self, history: I32, slots: I32) -> Scores:
        out = np.zeros(len(slots), np.float32)
        _score_ranking(self._table, self._rates, history, slots, np.zeros_like(self._buffers[0]), out)
        return out

    def _learned(self) -> Arrays:
        used = len(self._slots)
        return {name: column[:used].copy() for name, column in self._table._asdict().items()}


@kernel
def _learn_popularity(table: popularity.Popularity, events: Events) -> None:
    for e in range(len(events.slot)):
        if events.weight[e] > 0.0:
            popularity.learn(table, events.slot[e], events.weight[e], events.start + e)


@kernel
def _learn_covisit(
    table: covisit_rows.Covisit,
    rates: covisit.Rates,
    events: Events,
    at: int,
    needed: int,
    dirty: U8,
    probe: I64,
) -> int:
    """Learn events from row `at` on; the first one not learned, before which the table needs room."""
    for e in range(at, len(events.slot)):
        if len(table.keys) - table.header[0] < needed:
            return e
        if events.weight[e] > 0.0:
            covisit.learn(
                table,
                rates,
                events.slot[e],
                events.history[e],
                events.length[e],
                events.weight[e],
                dirty,
                1,
                probe,
            )
    return len(events.slot)


@kernel
def _read_covisit(
    table: covisit_rows.Covisit, readings: covisit_readings.Readings, history: I32, slots: I32, used: int, mass: F64,
    total: float, coefficient: F32, base: F32, sums: covisit_sums.Sums, stamp: I32, touched: I32,
) -> None:  # fmt: skip
    n = len(history)
    covisit_readings.coefficients(table, readings, history, n, coefficient, base)
    covisit_sums.accumulate(
        table, history, min(n, readings.any_items), readings.second_items,
        coefficient, sums, used, stamp, 1, touched,
    )  # fmt: skip
    covisit_readings.finish(table, readings, slots, len(slots), mass, total, base, sums.of, stamp, 1)


@kernel
def _initialise_ranking(table: asymmetric_mf.AsymmetricMF, slot: int, stream: np.uint64) -> None:
    asymmetric_mf.initialise(table, slot, mix(stream))


@kernel
def _learn_ranking(
    table: asymmetric_mf.AsymmetricMF, rates: asymmetric_mf.Rates, events: Events, born: I64, known: I64,
    seed: np.uint64, user: F32, gradient: F32, drawn: I32, logit: F32, dirty: U8,
) -> None:  # fmt: skip
    for e in range(len(events.slot)):
        slot = events.slot[e]
        known[0] = max(known[0], slot + 1)
        if events.weight[e] != 0.0:
            asymmetric_mf.learn(
                table, rates, slot, known[0], born, events.history[e], events.length[e], events.weight[e],
                mix(np.uint64(events.start + e) ^ seed), user, gradient, drawn, logit, dirty, 1, 1,
            )  # fmt: skip
        if born[slot] < 0:
            born[slot] = events.start + e


@kernel
def _score_ranking(
    table: asymmetric_mf.AsymmetricMF,
    rates: asymmetric_mf.Rates,
    history: I32,
    slots: I32,
    user: F32,
    out: F32,
) -> None:
    asymmetric_mf.user_vector(table, history, len(history), rates.items, rates.decay, user)
    for j in range(len(slots)):
        out[j] = asymmetric_mf.score(table, user, slots[j])
