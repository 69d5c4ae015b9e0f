"""Records that break the wire contract, one way each.

In: the number of the record and a sound event. Out: key and value of a broken one, and the reason that a
dead letter should give. Never breaks a record in a way that a reader could accept.
"""

from __future__ import annotations

from typing import Any

import msgspec

DAY_MS = 86_400_000

KINDS = {
    "not_json": "not_json",
    "cut_short": "not_json",
    "not_an_object": "not_an_object",
    "not_utf8": "not_utf8",
    "no_value": "empty",
    "no_item": "missing",
    "no_type": "missing",
    "no_ts": "missing",
    "float_user": "wrong_type",
    "boolean_item": "wrong_type",
    "ts_as_text": "wrong_type",
    "value_as_text": "wrong_type",
    "empty_item": "id_length",
    "long_item": "id_length",
    "negative_ts": "ts_range",
    "far_future": "ts_range",
    "newer_version": "version",
    "other_key": "misrouted",
    "no_key": "misrouted",
    "largest": "not_json",
}
"""Kind → reason of the dead letter, in the words of the wire contract's reader."""

FAR_FUTURE_MS = 32_503_680_000_000


def break_record(kind: str, event: dict[str, Any], largest: int) -> tuple[bytes | None, bytes | None]:
    """Key and value of `event`, broken as `kind` says; `largest` is the size of the one of that name."""
    key: bytes | None = str(event["user_id"]).encode()
    changed = dict(event)
    encode = msgspec.json.encode
    match kind:
        case "not_json":
            return key, b"user clicked item"
        case "cut_short":
            return key, encode(event)[:-7]
        case "not_an_object":
            return key, encode([event])
        case "not_utf8":
            return key, encode(event).replace(b'"type"', b'"\xff\xfe":1,"type"')
        case "no_value":
            return key, None
        case "largest":
            return key, b'{"padding":"' + b"x" * (largest - 12)
        case "no_key":
            return None, encode(event)
        case "other_key":
            return b"someone-else", encode(event)
        case "no_item" | "no_type" | "no_ts":
            del changed[{"no_item": "item_id", "no_type": "type", "no_ts": "ts"}[kind]]
        case "float_user":
            changed["user_id"] = 1.5
        case "boolean_item":
            changed["item_id"] = True
        case "ts_as_text":
            changed["ts"] = "yesterday"
        case "value_as_text":
            changed |= {"type": "rating", "value": "five"}
        case "empty_item":
            changed["item_id"] = ""
        case "long_item":
            changed["item_id"] = "i" * 257
        case "negative_ts":
            changed["ts"] = -1
        case "far_future":
            changed["ts"] = FAR_FUTURE_MS
        case "newer_version":
            changed["v"] = 2
        case _:
            raise ValueError(f"no way of breaking a record is called {kind!r}")
    return key, encode(changed)
