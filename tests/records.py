"""Records as a consumer gives them, for tests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

APPENDED = 1_700_000_000_000


def event(user: str, item: str | None = None, kind: str = "click", *, ts: int = 1, **more: Any) -> bytes:
    """The value of an event."""
    sent = {"v": 1, "user_id": user, "item_id": item, "type": kind, "ts": ts, **more}
    return json.dumps({name: value for name, value in sent.items() if value is not None}).encode()


def _user_of(value: bytes | None) -> bytes | None:
    try:
        return str(json.loads(value or b"null")["user_id"]).encode()
    except (ValueError, TypeError, KeyError):
        return None


@dataclass(slots=True)
class Read:
    """A record; its key is the user of its value unless another one is given."""

    value: bytes | None
    offset: int = 0
    topic: str = "events"
    partition: int = 0
    key: bytes | None = field(default=b"?")
    timestamp: int = APPENDED
    timestamp_type: int = 1

    def __post_init__(self) -> None:
        if self.key == b"?":
            self.key = _user_of(self.value)
