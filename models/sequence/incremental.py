"""Users' vectors kept up to date one event at a time.

In: one new event for each of some users, or whole stored sequences on a miss. Out: their vectors. Never the
only holder of anything: whatever it forgets is computed again from the stored sequence.

Each user in the cache has a ring of `band` rotated keys and values in every layer: the event at position p of
the user's sequence lies at p mod band. Keys are rotated by their absolute position, so nothing is moved or
rotated again when an event is added, and banded attention over the ring is what the whole model computes.
Single events go through `models.sequence.advance` on the CPU, wherever the model is: a few dozen of them keep no GPU
busy. Whole sequences, as on a miss or after a swap, go through the model.
"""

from __future__ import annotations

import numpy as np
import torch

from models.base import F32, I32, I64, Bool
from models.sequence.advance import Scratch, Weights, advance, new_scratch, weights_of
from models.sequence.encode import Events, encode
from models.sequence.transformer import CausalTransformer, KeysValues

NOWHERE = -1


class IncrementalEncoder:
    """A bounded cache of users, the least recently used forgotten first.

    Attributes:
        place: where each user lies, by slot; below 0 for one that is not there.

    Users are told apart by a slot, any whole number from 0 up. The slots of one call differ, but for `advance`.
    """

    def __init__(self, model: CausalTransformer, capacity: int, scale: tuple[float, float]) -> None:
        """A cache for `capacity` users; ratings are on the scale from low to high."""
        if capacity < 1:
            raise ValueError(f"the encoder must hold at least 1 user, not {capacity}")
        config = model.config
        self.model, self.capacity, self.scale = model, capacity, scale
        shape = (capacity, config.layers, 2, config.heads, model.band, config.d_model // config.heads)
        # numpy takes memory when it is written: filling a gigabyte would hold a worker up for half a second
        self._rings = np.zeros(shape, np.float32)
        self._vectors = np.zeros((capacity, config.d_model), np.float32)
        self._weights, self._scratch = weights_of(model), new_scratch(model)
        self._length = np.zeros(capacity, np.int64)
        self._used = np.zeros(capacity, np.int64)
        self._slot = np.full(capacity, NOWHERE, np.int64)
        self._free = list(range(capacity - 1, -1, -1))
        self.place = np.full(1024, NOWHERE, np.int64)
        self._clock = 0

    def has(self, slots: I64) -> Bool:
        """Which of the users are in the cache, bool [m]."""
        held: Bool = self._places(slots) >= 0
        return held

    def invalidate(self, slots: I64) -> None:
        """Forget these users."""
        places = np.unique(self._places(slots))
        places = places[places >= 0]
        self.place[self._slot[places]] = NOWHERE
        self._slot[places] = NOWHERE
        self._free += places.tolist()

    def vector(self, slots: I64) -> F32:
        """The users' vectors [m, d]; zero for one without events."""
        return self._vectors[self._known(slots)]

    def rebuild(self, slots: I64, events: Events, offsets: I64) -> F32:
        """Take users in anew from their stored sequences; the vectors after each event [n, d].

        User i's events are `offsets[i]` to `offsets[i + 1]`, oldest first; there may be none. What is older
        than the model's reach changes nothing and costs time.
        """
        places = self._claim(slots)
        lengths = np.diff(offsets)
        owner = np.repeat(np.arange(len(slots)), lengths)
        position = np.arange(len(events)) - offsets[:-1][owner]
        kept = position >= lengths[owner] - self.model.band

        def store(start: int, layers: list[KeysValues]) -> None:
            run = slice(start, start + len(layers[0][0]))
            chosen = np.flatnonzero(kept[run])
            of, index = places[owner[run][chosen]], position[run][chosen] % self.model.band
            for layer, pair in enumerate(layers):
                self._rings[of, layer, :, :, index] = torch.stack(pair, 1).cpu().numpy()[chosen]

        every = encode(self.model, events, offsets, self.scale, store)
        last = np.zeros((len(slots), self.model.config.d_model), np.float32)
        some = lengths > 0
        last[some] = every[offsets[1:][some] - 1]
        self._vectors[places] = last
        self._length[places] = lengths
        return every

    def replay(self, slots: I64, events: Events, offsets: I64) -> None:
        """As `rebuild`, one event after the other: for a few events."""
        places = self._claim(slots)
        self._length[places] = 0
        self._vectors[places] = 0.0
        self.advance(np.repeat(slots, np.diff(offsets)), events)

    def advance(self, slots: I64, events: Events) -> tuple[F32, F32]:
        """Append events, in order, each to its user's sequence: the user's vector before and after it, [n, d] each.

        A user may come several times.

        Raises:
            KeyError: a user is not in the cache; `rebuild` them first.
        """
        places = self._known(slots)
        self._touch(places)
        before = np.empty((len(places), self.model.config.d_model), np.float32)
        after = np.empty_like(before)
        advance(
            self._weights, self._scratch, self._rings, self._vectors, self._length, places,
            events.buckets(*self.scale), before, after,
        )  # fmt: skip
        return before, after

    def parts(self, slots: I32) -> tuple[Weights, Scratch, F32, F32, I64]:
        """What `sequence.follow` works on, for users who are all in the cache: they are forgotten later for it."""
        self.touch(slots)
        return self._weights, self._scratch, self._rings, self._vectors, self._length

    def touch(self, slots: I64 | I32) -> None:
        """These users, who are all in the cache, are forgotten later than others."""
        self._touch(self.place[slots])

    def _places(self, slots: I64) -> I64:
        """Where each user lies in the cache, int64 [m]; -1 for one that is not there."""
        if len(slots) and (highest := int(slots.max())) >= len(self.place):
            grown = np.full(max(highest + 1, 2 * len(self.place)), NOWHERE, np.int64)
            grown[: len(self.place)] = self.place
            self.place = grown
        return self.place[slots]

    def _known(self, slots: I64) -> I64:
        places = self._places(slots)
        if len(places) and places.min() < 0:
            raise KeyError(f"{int((places < 0).sum())} of the users are not in the cache: rebuild them first")
        return places

    def _touch(self, places: I64) -> None:
        self._clock += 1
        self._used[places] = self._clock

    def _claim(self, slots: I64) -> I64:
        """A place for each user; those that already have one keep it."""
        if len(slots) > self.capacity:
            raise ValueError(f"{len(slots)} users do not fit into an encoder for {self.capacity}")
        places = self._places(slots)
        self._touch(places[places >= 0])
        missing = np.flatnonzero(places < 0)
        if len(missing):
            self._make_room(len(missing))
            taken = np.array([self._free.pop() for _ in missing], np.int64)
            places[missing] = taken
            self._slot[taken] = slots[missing]
            self.place[slots[missing]] = taken
            self._touch(taken)
        return places

    def _make_room(self, count: int) -> None:
        """Have `count` free places. To find who was used longest ago takes 1 ms: it is done for more than are needed,
        but not for users who were touched just now."""
        if (need := count - len(self._free)) <= 0:
            return
        held = np.flatnonzero(self._slot != NOWHERE)
        earlier = int(np.count_nonzero(self._used[held] < self._clock - 1))
        many = max(need, min(self.capacity // 16, earlier))
        oldest = held[np.argpartition(self._used[held], many - 1)[:many]]
        self.place[self._slot[oldest]] = NOWHERE
        self._slot[oldest] = NOWHERE
        self._free += oldest.tolist()
