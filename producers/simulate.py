"""Seeded traffic with a planted structure, and disturbances that are off by default.

In: sizes, fractions, a seed. Out: `Made` records, the same to the byte for the same arguments, and a
`Ledger` of what a reader should make of them. Never reads a clock: event time is counted from `start_ms`.

Only `random.Random(text).random()` is drawn from, whose sequence Python promises to keep.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec

from producers.broken import KINDS, break_record
from producers.planted import Shape, World
from stream_app.events import Item

START_MS = 1_704_067_200_000
"""2024-01-01T00:00:00Z, the event time of the first record."""

LATE_FROM_MS, LATE_TO_MS = 3_600_000, 30 * 86_400_000
REPEATABLE = 16
"""A duplicate repeats one of the user's last 16 events: well inside the window of ids that a worker keeps."""

LARGEST_EVERY = 200
"""One in so many broken records is of the largest size."""

Kind = Literal["valid", "duplicate", "late", "bot", "broken", "item"]


class Made(NamedTuple):
    """One record. `number` counts those of `events` from 0; an `item` has that of the event it precedes."""

    kind: Kind
    number: int
    key: bytes | None
    value: bytes | None
    broken: str


@dataclass(slots=True)
class Ledger:
    """What a reader that keeps the contract makes of the records so far.

    Attributes:
        records: of `events`; `items` of the catalogue.
        accepted: user → events accepted once each (bots and late ones included).
        duplicates, late, bots: how many there were.
        broken: kind → how many; each is a dead letter.
    """

    records: int = 0
    items: int = 0
    accepted: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    late: int = 0
    bots: int = 0
    broken: dict[str, int] = field(default_factory=dict)

    @property
    def events_accepted(self) -> int:
        return sum(self.accepted.values())

    @property
    def dead_letters(self) -> int:
        return sum(self.broken.values())


@dataclass(slots=True)
class _User:
    last: int | None = None
    sent: deque[bytes] = field(default_factory=lambda: deque(maxlen=REPEATABLE))
    had: set[int] = field(default_factory=set)


class _Users:
    """What was sent of each user, and their names in the order of their first event."""

    def __init__(self) -> None:
        self._states: dict[str, _User] = {}
        self.names: list[str] = []

    def of(self, name: str) -> _User:
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = _User()
            self.names.append(name)
        return state


class Simulation:
    """`events` records, reproducible, to be iterated with `records()`.

    Args:
        users, items, events: sizes; users are `u0`…, items `i0`…; `events` counts the records of all kinds.
        drift: share of the users who change their group once, and of a group that popularity moves through.
        new_items: share of the items that appear during the stream.
        bots, duplicates, late, broken: shares of the records that are random clicks of a few bots (`bot0`…),
            repeats (same bytes) of a user's recent event, events with an old time, breaches of the contract.
        seed, run_id: another seed is another stream; another run id repeats a stream as new events; of the
            same one only a user's last 64 events are known again.
        shape: what the world is like.
        step_ms: event time between two records.
        largest_bytes: size of the largest broken records; 0 for none.
        scenarios: so many places (`place 0`…), to which groups of items are dealt out in turn: an event names its
            item's. 0 for none.

    Raises ValueError for sizes below 1 or shares that don't add up.
    """

    def __init__(
        self,
        *,
        users: int = 1000,
        items: int = 1000,
        events: int = 100_000,
        drift: float = 0.0,
        new_items: float = 0.0,
        bots: float = 0.0,
        duplicates: float = 0.0,
        late: float = 0.0,
        broken: float = 0.0,
        seed: int = 0,
        run_id: str = "0",
        shape: Shape | None = None,
        start_ms: int = START_MS,
        step_ms: int = 50,
        largest_bytes: int = 0,
        scenarios: int = 0,
    ) -> None:
        shares = {
            "drift": drift,
            "new_items": new_items,
            "bots": bots,
            "duplicates": duplicates,
            "late": late,
            "broken": broken,
        }
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {share}")
        if bots + duplicates + late + broken > 1:
            raise ValueError("bots, duplicates, late and broken together are more than all records")
        if scenarios < 0:
            raise ValueError(f"scenarios must be 0 or more, not {scenarios}")
        for name, size in {"users": users, "items": items, "events": events}.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, not {size}")
        shape = shape or Shape(groups=max(1, min(10, items // 5)))
        self.world = World(users, items, events, drift=drift, new_items=new_items, shape=shape, seed=seed)
        self.users, self.items, self.events, self.seed, self.run_id = users, items, events, seed, run_id
        self._cuts = (
            broken,
            broken + duplicates,
            broken + duplicates + late,
            broken + duplicates + late + bots,
        )
        self._bot_names = [f"bot{n}" for n in range(max(1, users // 100))]
        self._start_ms, self._step_ms, self._largest = start_ms, step_ms, largest_bytes
        self._scenarios = scenarios
        self.ledger = Ledger()
        """Of the records made by the latest `records()`; complete when that is exhausted."""

    def relevant(self, user: str, number: int) -> set[str]:
        """Ids of the items that are right for a user when event `number` is made; empty for a bot."""
        return self.world.relevant(user, number)

    def group_of(self, user: str, number: int) -> int:
        """The user's group at that moment; -1 for a bot."""
        return self.world.group_of(user, number)

    def account(self) -> Ledger:
        """The ledger of the whole stream, made without sending it."""
        for _ in self.records():
            pass
        return self.ledger

    def records(self) -> Iterator[Made]:
        """The stream from its beginning; items stand before the event that they appear with."""
        self.ledger = ledger = Ledger()
        draw = random.Random(f"stream/{self.seed}")
        states = _Users()
        sessions = [self.world.draw_user(draw) for _ in range(self.world.shape.active)]
        births = self.world.births()
        for number in range(self.events):
            for item in births.get(number, ()):
                ledger.items += 1
                yield Made("item", number, f"i{item}".encode(), self._item(item), "")
            ledger.records += 1
            chance = draw.random()
            if chance >= self._cuts[3]:
                made = self._valid(number, "valid", sessions, states, draw)
            elif chance < self._cuts[0]:
                made = self._broken(number, sessions, draw)
            elif chance < self._cuts[1]:
                made = self._duplicate(number, states, draw) or self._valid(
                    number, "valid", sessions, states, draw
                )
            elif chance < self._cuts[2]:
                made = self._valid(number, "late", sessions, states, draw)
            else:
                made = self._bot(number, states, draw)
            self._count(made)
            yield made

    def _count(self, made: Made) -> None:
        ledger = self.ledger
        if made.kind == "broken":
            ledger.broken[made.broken] = ledger.broken.get(made.broken, 0) + 1
            return
        if made.kind == "duplicate":
            ledger.duplicates += 1
            return
        ledger.late += made.kind == "late"
        ledger.bots += made.kind == "bot"
        assert made.key is not None
        user = made.key.decode()
        ledger.accepted[user] = ledger.accepted.get(user, 0) + 1

    def _valid(
        self, number: int, kind: Kind, sessions: list[int], states: _Users, draw: random.Random
    ) -> Made:
        place = int(draw.random() * len(sessions))
        user = sessions[place]
        if draw.random() < 1 / self.world.shape.session:
            sessions[place] = self.world.draw_user(draw)
        name = f"u{user}"
        state = states.of(name)
        item, at_home = self.world.draw_item(user, state.last, state.had, number, draw)
        state.had.add(item)
        if kind == "valid" and at_home:
            state.last = item
        event = self._event(number, name, item, at_home, draw)
        if kind == "late":
            event["ts"] -= LATE_FROM_MS + int(draw.random() * (LATE_TO_MS - LATE_FROM_MS))
        return self._sent(kind, number, state, event)

    def _bot(self, number: int, states: _Users, draw: random.Random) -> Made:
        name = self._bot_names[int(draw.random() * len(self._bot_names))]
        born = int(draw.random() * self.items)
        event = self._event(number, name, born, True, draw) | {"type": "click"}
        event.pop("value", None)
        return self._sent("bot", number, states.of(name), event)

    def _duplicate(self, number: int, states: _Users, draw: random.Random) -> Made | None:
        """A repeat of one of a user's latest events; None while there is nothing to repeat."""
        if not states.names:
            return None
        user = states.names[int(draw.random() * len(states.names))]
        state = states.of(user)
        value = state.sent[int(draw.random() * len(state.sent))]
        return Made("duplicate", number, user.encode(), value, "")

    def _broken(self, number: int, sessions: list[int], draw: random.Random) -> Made:
        user = f"u{sessions[int(draw.random() * len(sessions))]}"
        event = self._event(number, user, int(draw.random() * self.items), True, draw)
        kinds = [kind for kind in KINDS if kind != "largest"]
        kind = kinds[int(draw.random() * len(kinds))]
        if self._largest and self.ledger.dead_letters % LARGEST_EVERY == 0:
            kind = "largest"
        key, value = break_record(kind, event, self._largest)
        return Made("broken", number, key, value, kind)

    def _event(self, number: int, user: str, item: int, at_home: bool, draw: random.Random) -> dict[str, Any]:
        """A sound event: what people like they rate high, buy or click; the rest they rate low or skip."""
        event: dict[str, Any] = {
            "v": 1,
            "event_id": f"s{self.seed}-{number}-{self.run_id}",
            "user_id": user,
            "item_id": f"i{item}",
            "type": "click",
            "ts": self._start_ms + number * self._step_ms,
        }
        if self._scenarios:
            event["scenario"] = f"place {item % self.world.shape.groups % self._scenarios}"
        chance = draw.random()
        if chance < 0.3:
            event["type"] = "rating"
            event["value"] = (4 if at_home else 1) + int(draw.random() * 2)
        elif chance < 0.5:
            event["type"] = "view"
        elif chance < 0.6:
            event["type"] = "purchase" if at_home else "skip"
        return event

    @staticmethod
    def _sent(kind: Kind, number: int, state: _User, event: dict[str, Any]) -> Made:
        value = msgspec.json.encode(event)
        state.sent.append(value)
        return Made(kind, number, event["user_id"].encode(), value, "")

    def _item(self, item: int) -> bytes:
        group = item % self.world.shape.groups
        return msgspec.json.encode(
            Item(item_id=f"i{item}", title=f"Item {item} of group {group}", categories=[f"group {group}"])
        )
