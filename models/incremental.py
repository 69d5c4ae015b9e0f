"""Users' vectors kept up to date one event at a time.

In: one new event for each of some users, or whole stored sequences on a miss. Out: their vectors. Never the
only holder of anything: whatever it forgets is computed again from the stored sequence.

Each user in the cache has a ring of `band` rotated keys and values in every layer: the event at position p of
the user's sequence lies at p mod band. Keys are rotated by their absolute position, so nothing is moved or
rotated again when an event is added, and banded attention over the ring is what the whole model computes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.base import F32, I64, Bool
from models.encode import Events, encode
from models.transformer import PERIOD, CausalTransformer, KeysValues, Layer

NOWHERE = -1


def _zeros(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Zeros whose memory is taken when it is written: filling a gigabyte would hold a worker up for half a second."""
    if device.type == "cpu":
        return torch.from_numpy(np.zeros(shape, np.float32))
    return torch.zeros(shape, device=device)


class IncrementalEncoder:
    """A bounded cache of users, the least recently used forgotten first.

    Users are told apart by a slot, any whole number from 0 up. The slots of one call must differ.
    """

    def __init__(self, model: CausalTransformer, capacity: int, scale: tuple[float, float]) -> None:
        """A cache for `capacity` users on the model's device; ratings are on the scale from low to high."""
        if capacity < 1:
            raise ValueError(f"the encoder must hold at least 1 user, not {capacity}")
        config, device = model.config, model.item.device
        self.model, self.capacity, self.scale = model, capacity, scale
        shape = (capacity, 2, config.heads, model.band, config.d_model // config.heads)
        self._rings = [_zeros(shape, device) for _ in range(config.layers)]
        self._vectors = torch.zeros((capacity, config.d_model), device=device)
        self._length = np.zeros(capacity, np.int64)
        self._used = np.zeros(capacity, np.int64)
        self._slot = np.full(capacity, NOWHERE, np.int64)
        self._place = np.full(1024, NOWHERE, np.int64)
        self._clock = 0

    def has(self, slots: I64) -> Bool:
        """Which of the users are in the cache, bool [m]."""
        held: Bool = self._places(slots) >= 0
        return held

    def invalidate(self, slots: I64) -> None:
        """Forget these users."""
        places = self._places(slots)
        places = places[places >= 0]
        self._place[self._slot[places]] = NOWHERE
        self._slot[places] = NOWHERE
        self._used[places] = 0

    def vector(self, slots: I64) -> F32:
        """The users' vectors [m, d]; zero for one without events."""
        return self._vectors[self._at(self._known(slots))].cpu().numpy()

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
            of = self._at(places[owner[run][chosen]])
            index = self._at(position[run][chosen] % self.model.band)
            picked = self._at(chosen)
            for ring, pair in zip(self._rings, layers, strict=True):
                ring[of, :, :, index] = torch.stack(pair, 1)[picked]

        every = encode(self.model, events, offsets, self.scale, store)
        last = np.zeros((len(slots), self.model.config.d_model), np.float32)
        some = lengths > 0
        last[some] = every[offsets[1:][some] - 1]
        self._vectors[self._at(places)] = torch.from_numpy(last).to(self._vectors.device)
        self._length[places] = lengths
        return every

    def advance(self, slots: I64, events: Events) -> F32:
        """Append one event to each user's sequence; their vectors after it [m, d].

        Raises:
            KeyError: a user is not in the cache; `rebuild` them first.
        """
        places = self._known(slots)
        self._touch(places)
        model, position = self.model, self._length[places]
        device = self._vectors.device
        of, index = self._at(places), self._at(position % model.band)
        with torch.inference_mode():
            empty = torch.arange(model.band, device=device) > self._at(position)[:, None]
            mask = torch.zeros(empty.shape, device=device).masked_fill_(empty, -torch.inf)[:, None, None]
            turn = model.rotations[self._at(position % PERIOD)]
            x = model.embed(*torch.from_numpy(events.buckets(*self.scale)).to(device))
            for layer, ring in zip(model.layers, self._rings, strict=True):
                assert isinstance(layer, Layer)
                q, k, v = layer.project(x, turn)
                ring[of, :, :, index] = torch.stack((k, v), 1)
                keys, values = ring.index_select(0, of).unbind(1)
                attended = functional.scaled_dot_product_attention(
                    q[:, :, None], keys, values, attn_mask=mask
                )
                x = layer.finish(x, attended[:, :, 0])
            vectors: Tensor = model.norm(x)
            self._vectors[of] = vectors
        self._length[places] += 1
        return vectors.cpu().numpy()

    def _at(self, index: I64) -> Tensor:
        return torch.from_numpy(index).to(self._vectors.device)

    def _places(self, slots: I64) -> I64:
        """Where each user lies in the cache, int64 [m]; -1 for one that is not there."""
        if len(slots) and (highest := int(slots.max())) >= len(self._place):
            grown = np.full(max(highest + 1, 2 * len(self._place)), NOWHERE, np.int64)
            grown[: len(self._place)] = self._place
            self._place = grown
        return self._place[slots]

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
            oldest = np.argpartition(self._used, len(missing) - 1)[: len(missing)]
            evicted = self._slot[oldest]
            self._place[evicted[evicted >= 0]] = NOWHERE
            places[missing] = oldest
            self._slot[oldest] = slots[missing]
            self._place[slots[missing]] = oldest
            self._touch(oldest)
        return places
