"""A small world with a known right answer: groups of items, users who belong to one, and an order in a group.

In: sizes and a seed. Out: who likes what at each moment of the stream. Never makes a record.

Items of a group stand on a ring. Who has taken an item mostly takes one of the next three on the ring, else
a popular one of the group (long tail), now and then a popular one of any group; one that they had is passed
over for the next, until they had all. So a recommender that has learned lists the group's items for a user,
and the ring's next ones first.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

STEPS = (0.6, 0.85, 1.0)
"""Cumulative chances of the first, second and third next item on the ring."""

HOT_SHARE = 0.3
"""Chance that a draw by popularity takes the group's newest item, while that is young."""

HOT_FOR = 0.02
"""How long an item is young, as a share of the stream."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What kind of world: the defaults give a long tail and slow change.

    Attributes:
        groups: latent groups; items are dealt out to them in turn.
        tail: Zipf exponent of popularity in a group; 0 makes all items alike.
        user_tail: Zipf exponent of the users' activity; the higher, the longer a few histories.
        follow: share of events that follow the ring; the rest is drawn by popularity.
        noise: share of events outside the user's group.
        session: mean number of events that a user has in a row.
        active: users whose sessions are interleaved at any moment.
        bursts: new items appear in this many lots; 0 spreads them evenly.
    """

    groups: int = 10
    tail: float = 1.0
    user_tail: float = 0.8
    follow: float = 0.6
    noise: float = 0.1
    session: float = 8.0
    active: int = 20
    bursts: int = 0


class World:
    """Users `u0`…, items `i0`…; moments are event numbers of the stream, 0 to `events`."""

    def __init__(
        self, users: int, items: int, events: int, *, drift: float, new_items: float, shape: Shape, seed: int
    ) -> None:
        if items < shape.groups:
            raise ValueError(f"{items} items can't make {shape.groups} groups")
        draw = random.Random(f"world/{seed}").random
        self.users, self.items, self.events = users, items, events
        self.shape, self._drift = shape, drift
        groups = shape.groups
        self._ring = [list(range(group, items, groups)) for group in range(groups)]
        self._ranked = [_shuffled(ring, draw) for ring in self._ring]
        self._rank_chance = [_cumulative(len(ring), shape.tail) for ring in self._ring]
        self._user_chance = _cumulative(users, shape.user_tail)
        self._home = [int(draw() * groups) for _ in range(users)]
        self._move: dict[int, tuple[int, int]] = {}
        for user in range(users):
            if draw() < drift and groups > 1:
                other = (self._home[user] + 1 + int(draw() * (groups - 1))) % groups
                self._move[user] = (int(draw() * events), other)
        self._birth = [0] * items
        late = int(items * new_items)
        if items - late < groups:
            raise ValueError(f"{late} of {items} items are new; each of the {groups} groups needs an old one")
        for n in range(late):
            lot = n * shape.bursts // late if shape.bursts else n
            self._birth[items - late + n] = (lot + 1) * events // ((shape.bursts or late) + 1)
        self._by_birth = [sorted(ring, key=self._birth.__getitem__) for ring in self._ring]
        self._births = [[self._birth[i] for i in ring] for ring in self._by_birth]

    # What tests ask

    def group_of(self, user: str, number: int) -> int:
        """The group that a user belongs to when event `number` is made; users of no group give -1."""
        index = _index(user, "u")
        if not 0 <= index < self.users:
            return -1
        moved_at, other = self._move.get(index, (self.events + 1, -1))
        return other if number >= moved_at else self._home[index]

    def group_of_item(self, item: str) -> int:
        return _index(item, "i") % self.shape.groups

    def relevant(self, user: str, number: int) -> set[str]:
        """Ids of the items that are right for a user when event `number` is made."""
        group = self.group_of(user, number)
        return set() if group < 0 else {f"i{i}" for i in self._ring[group] if self._birth[i] <= number}

    def births(self) -> dict[int, list[int]]:
        """Event number → the items that appear with it."""
        lots: dict[int, list[int]] = {}
        for item, birth in enumerate(self._birth):
            lots.setdefault(birth, []).append(item)
        return lots

    # What the stream is made of

    def draw_user(self, draw: random.Random) -> int:
        """A user, by activity."""
        return bisect_right(self._user_chance, draw.random())

    def draw_item(
        self, user: int, last: int | None, had: set[int], number: int, draw: random.Random
    ) -> tuple[int, bool]:
        """The item of a user's next event, and whether it is of the user's group.

        `last` is the last item that the user took at home, `had` all that they took.
        """
        home = self.group_of(f"u{user}", number)
        if draw.random() < self.shape.noise:
            group = int(draw.random() * self.shape.groups)
            return self._popular(group, had, number, draw), group == home
        if last is not None and last % self.shape.groups == home and draw.random() < self.shape.follow:
            step = bisect_right(STEPS, draw.random()) + 1
            return self._first_new(self._ring[home], last // self.shape.groups + step, had, number), True
        return self._popular(home, had, number, draw), True

    def _popular(self, group: int, had: set[int], number: int, draw: random.Random) -> int:
        """An item of a group by popularity, which drifts through the group and favours the newest."""
        ranked = self._ranked[group]
        at = bisect_right(self._births[group], number) - 1
        birth = self._births[group][at]
        if 0 < birth >= number - HOT_FOR * self.events and draw.random() < HOT_SHARE:
            newest = self._by_birth[group][at]
            if newest not in had:
                return newest
        shift = int(self._drift * len(ranked) * number / max(1, self.events))
        first = bisect_right(self._rank_chance[group], draw.random())
        return self._first_new(ranked, first + shift, had, number)

    def _first_new(self, circle: list[int], start: int, had: set[int], number: int) -> int:
        """The first item from `start` on that was born and not yet had; if all were had, the first born."""
        first_born = -1
        for at in range(start, start + len(circle)):
            item = circle[at % len(circle)]
            if self._birth[item] <= number:
                if item not in had:
                    return item
                if first_born < 0:
                    first_born = item
        return first_born


def _shuffled(items: list[int], draw: Callable[[], float]) -> list[int]:
    """Fisher and Yates' shuffle, written out: only `random()` is promised to stay the same for a seed."""
    out = list(items)
    for i in range(len(out) - 1, 0, -1):
        j = int(draw() * (i + 1))
        out[i], out[j] = out[j], out[i]
    return out


def _cumulative(n: int, exponent: float) -> list[float]:
    """Cumulative chances of ranks 0 … n-1 under Zipf's law; the last is above any draw."""
    weights = [(rank + 1) ** -exponent for rank in range(n)]
    total = sum(weights)
    chances = [c / total for c in accumulate(weights)]
    chances[-1] = 2.0
    return chances


def _index(name: str, kind: str) -> int:
    number = name.removeprefix(kind)
    return int(number) if name != number and number.isdigit() else -1
