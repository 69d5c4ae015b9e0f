"""What is an event, what is a dead letter, and that both ways of reading agree."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.randomness import hash64
from models.vocabulary import kind_of
from stream_app.batch import refusals
from stream_app.batch.careful import DAY_MS, CarefulReader, CheckedEvent
from stream_app.batch.decode import Decoded, EventDecoder, partition_key
from stream_app.batch.refusals import RecordError
from stream_app.errors import UsageError
from stream_app.settings import EventSettings

APPENDED = 1_700_000_000_000
GOOD: dict[str, Any] = {"v": 1, "user_id": "u1", "item_id": "i1", "type": "click", "ts": 1_600_000_000_000}


@dataclass
class Read:
    """A record as a consumer gives it."""

    value: bytes | None
    key: bytes | None = b"u1"
    topic: str = "events"
    partition: int = 0
    offset: int = 0
    timestamp: int = APPENDED
    timestamp_type: int = 1


def read(value: Any, *, settings: EventSettings | None = None, **fields: Any) -> Decoded:
    """Decode one record; a dict is sent as JSON, bytes as they are."""
    raw = json.dumps(value, ensure_ascii=False).encode() if isinstance(value, dict) else value
    return EventDecoder(settings or EventSettings(), ["events"]).decode([Read(raw, **fields)], 0)


def refusal(value: Any, **fields: Any) -> tuple[str, str]:
    decoded = read(value, **fields)
    assert len(decoded) == 0, "the record was accepted"
    (letter,) = decoded.dead_letters
    assert letter.detail
    return letter.reason, letter.field


def event(**changes: Any) -> dict[str, Any]:
    return {k: v for k, v in {**GOOD, **changes}.items() if v is not ...}


class TestWhatIsAccepted:
    def test_a_plain_event_fills_every_column(self) -> None:
        decoded = read(event(event_id="e1", scenario="home", context={"a": [1]}, whatever=None))
        assert (decoded.user, decoded.item, decoded.kind) == (["u1"], ["i1"], [kind_of("click", "home")])
        assert decoded.ts == [1_600_000_000_000]
        assert math.isnan(decoded.value[0])
        assert decoded.event_ids().tolist() == [hash64("e1")]
        assert decoded.lane[0].name == "events-0"
        assert decoded.lane[0].key == partition_key("events", 0)
        assert not decoded.dead_letters

    @pytest.mark.parametrize("number", [7, 0, 10**30, 2**64, 10**255])
    def test_an_integer_id_becomes_its_decimal_string(self, number: int) -> None:
        decoded = read(event(user_id=number, item_id=number, event_id=number), key=str(number).encode())
        assert (decoded.user, decoded.item) == ([str(number)], [str(number)])
        assert decoded.event_ids().tolist() == [hash64(str(number))]

    @pytest.mark.parametrize("text", ["x" * 256, "é" * 128, "€" * 85, "😀" * 64, "\u0000", " ", '"'])
    def test_an_id_has_up_to_256_bytes_of_any_text(self, text: str) -> None:
        decoded = read(event(user_id=text, item_id=text, event_id=text), key=text.encode())
        assert (decoded.user, decoded.item) == ([text], [text])

    @pytest.mark.parametrize(
        ("value", "clamped"), [(0, 1.0), (-1e300, 1.0), (3.5, 3.5), (5, 5.0), (10**400, 5.0)]
    )
    def test_a_rating_is_clamped_to_the_scale(self, value: float, clamped: float) -> None:
        assert read(event(type="rating", value=value)).value == [clamped]

    @pytest.mark.parametrize("value", [None, ...])
    def test_a_rating_may_lack_its_value(self, value: Any) -> None:
        assert math.isnan(read(event(type="rating", value=value)).value[0])

    @pytest.mark.parametrize("raw", ["5", '"five"', "true", "[1]", "1e999", "null"])
    def test_the_value_of_another_type_is_ignored(self, raw: str) -> None:
        text = json.dumps(event(type="view"))[:-1] + f', "value": {raw}}}'
        decoded = read(text.encode())
        assert len(decoded) == 1
        assert math.isnan(decoded.value[0])

    @pytest.mark.parametrize("item", [..., None, 1.5, ""])
    def test_an_erase_needs_no_item(self, item: Any) -> None:
        decoded = read(event(type="erase", item_id=item))
        assert decoded.item == [""]
        assert decoded.erases == [0]

    @pytest.mark.parametrize("ts", [0, APPENDED, APPENDED + DAY_MS])
    def test_time_goes_from_1970_to_a_day_after_the_append(self, ts: int) -> None:
        assert read(event(ts=ts)).ts == [ts]

    def test_a_record_without_timestamp_is_judged_by_the_time_of_receipt(self) -> None:
        decoder = EventDecoder(EventSettings(), ["events"])
        raw = json.dumps(event(ts=DAY_MS + 5)).encode()
        assert len(decoder.decode([Read(raw, timestamp=-1)], 5.0)) == 1
        assert len(decoder.decode([Read(raw, timestamp=-1)], 4.0)) == 0

    def test_an_event_without_id_has_hash_0(self) -> None:
        assert read(event()).event_ids().tolist() == [0]
        assert read(event(event_id=None)).event_ids().tolist() == [0]

    def test_a_type_that_nobody_named_is_accepted(self) -> None:
        assert read(event(type="hover-über")).kind == ["hover-über"]

    def test_of_a_key_that_stands_twice_the_last_counts(self) -> None:
        raw = b'{"user_id": 1.5, "user_id": "u1", "item_id": "a", "item_id": "b", "type": "click", "ts": 1}'
        assert read(raw).item == ["b"]

    def test_white_space_around_the_object_is_json(self) -> None:
        assert len(read(b" \n" + json.dumps(event()).encode() + b"\r\n\t")) == 1

    def test_a_record_that_names_no_version_is_of_version_1(self) -> None:
        assert len(read(event(v=...))) == 1

    def test_offsets_and_lanes_follow_each_record(self) -> None:
        decoder = EventDecoder(EventSettings(), ["clicks", "ratings"])
        raw = json.dumps(event()).encode()
        records = [
            Read(raw, topic="ratings", partition=3, offset=8),
            Read(None, topic="ratings", partition=3, offset=9),
            Read(raw, topic="clicks", partition=3, offset=2),
        ]
        decoded = decoder.decode(records, 0)
        assert [lane.name for lane in decoded.lane] == ["ratings-3", "clicks-3"]
        assert [lane.topic_index for lane in decoded.lane] == [1, 0]
        assert decoded.offset == [8, 2]
        assert [letter.record.offset for letter in decoded.dead_letters] == [9]


class TestDeadLetters:
    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            (None, refusals.EMPTY),
            (b"", refusals.EMPTY),
            (b"   ", refusals.NOT_JSON),
            (b"{", refusals.NOT_JSON),
            (b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), refusals.NOT_JSON),
            (json.dumps(GOOD).encode() + b"{}", refusals.NOT_JSON),
            (json.dumps(GOOD).encode() + b"\0", refusals.NOT_JSON),
            (b'{"user_id": "\\ud800"}', refusals.NOT_JSON),
            (json.dumps({**GOOD, "extra": float("nan")}).encode(), refusals.NOT_JSON),
            (json.dumps({**GOOD, "type": "rating", "value": float("inf")}).encode(), refusals.NOT_JSON),
            (
                json.dumps(GOOD).encode()[:-1] + b',"extra":' + b"[" * 3000 + b"]" * 3000 + b"}",
                refusals.NOT_JSON,
            ),
            (json.dumps(GOOD).encode("utf-16"), refusals.NOT_UTF8),
            (json.dumps({**GOOD, "extra": "?"}).encode().replace(b"?", b"\xff"), refusals.NOT_UTF8),
            (json.dumps({**GOOD, "user_id": "?"}).encode().replace(b"?", b"\xed\xa0\x80"), refusals.NOT_UTF8),
            (b"[]", refusals.NOT_AN_OBJECT),
            (b"3", refusals.NOT_AN_OBJECT),
            (b"null", refusals.NOT_AN_OBJECT),
        ],
    )
    def test_what_is_no_json_object(self, raw: bytes | None, reason: str) -> None:
        assert refusal(raw) == (reason, "")

    @pytest.mark.parametrize("field", ["user_id", "item_id"])
    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (..., refusals.MISSING),
            (None, refusals.WRONG_TYPE),
            (1.0, refusals.WRONG_TYPE),
            (1e30, refusals.WRONG_TYPE),
            (True, refusals.WRONG_TYPE),
            ([], refusals.WRONG_TYPE),
            ({}, refusals.WRONG_TYPE),
            ("", refusals.ID_LENGTH),
            ("x" * 257, refusals.ID_LENGTH),
            ("é" * 129, refusals.ID_LENGTH),
            (10**256, refusals.ID_LENGTH),
        ],
    )
    def test_ids(self, field: str, value: Any, reason: str) -> None:
        assert refusal(event(**{field: value})) == (reason, field)

    @pytest.mark.parametrize("digits", [4299, 4301, 20_000])
    def test_an_integer_id_of_thousands_of_digits(self, digits: int) -> None:
        raw = json.dumps(event(item_id="?")).encode().replace(b'"?"', b"9" * digits)
        reason, field = refusal(raw)
        assert field == "item_id"
        assert reason in (refusals.ID_LENGTH, refusals.WRONG_TYPE)

    @pytest.mark.parametrize("value", [1.5, True, "", "x" * 257])
    def test_event_ids(self, value: Any) -> None:
        assert refusal(event(event_id=value))[1] == "event_id"

    @pytest.mark.parametrize(
        ("ts", "reason"),
        [
            (..., refusals.MISSING),
            (None, refusals.WRONG_TYPE),
            (1.6e12, refusals.WRONG_TYPE),
            ("1600000000000", refusals.WRONG_TYPE),
            (True, refusals.WRONG_TYPE),
            (-1, refusals.TS_RANGE),
            (APPENDED + DAY_MS + 1, refusals.TS_RANGE),
            (2**63, refusals.TS_RANGE),
            (10**40, refusals.TS_RANGE),
        ],
    )
    def test_times(self, ts: Any, reason: str) -> None:
        assert refusal(event(ts=ts)) == (reason, "ts")

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            (..., refusals.MISSING),
            (None, refusals.WRONG_TYPE),
            (1, refusals.WRONG_TYPE),
            ("", refusals.ID_LENGTH),
            ("x" * 257, refusals.ID_LENGTH),
        ],
    )
    def test_types(self, kind: Any, reason: str) -> None:
        assert refusal(event(type=kind)) == (reason, "type")

    @pytest.mark.parametrize("raw", ['"4"', "true", "[4]", "1e999", "-1e999"])
    def test_the_value_of_a_rating(self, raw: str) -> None:
        text = json.dumps(event(type="rating"))[:-1] + f', "value": {raw}}}'
        assert refusal(text.encode()) == (refusals.WRONG_TYPE, "value")

    @pytest.mark.parametrize(
        ("v", "reason"),
        [(2, refusals.WRONG_VERSION), (10**30, refusals.WRONG_VERSION), (0, refusals.WRONG_VERSION)]
        + [(v, refusals.WRONG_TYPE) for v in (None, 1.0, "1", True)],
    )
    def test_versions(self, v: Any, reason: str) -> None:
        assert refusal(event(v=v)) == (reason, "v")

    @pytest.mark.parametrize("key", [None, b"", b"u2", b'"u1"', b"u1 ", b"\xff"])
    def test_a_key_that_is_not_the_user(self, key: bytes | None) -> None:
        assert refusal(event(), key=key) == (refusals.MISROUTED, "user_id")

    def test_the_record_is_kept_as_it_was_read(self) -> None:
        record = Read(b"\xff\x00", key=b"\xfe")
        (letter,) = EventDecoder(EventSettings(), ["events"]).decode([record], 0).dead_letters
        assert letter.record is record
        assert "events-0 offset 0" in str(letter)


class TestOtherFieldNames:
    MAP = EventSettings(map={"user": "userId", "item": "movieId", "value": "stars", "ts": "when"})

    def test_are_read_by_the_map(self) -> None:
        raw = {"userId": 3, "movieId": "m", "stars": 9, "when": 5, "type": "rating"}
        decoded = read(raw, settings=self.MAP, key=b"3")
        assert (decoded.user, decoded.item, decoded.value, decoded.ts) == (["3"], ["m"], [5.0], [5])

    @pytest.mark.parametrize(("stars", "kind"), [(4, "rating"), (..., "click"), (None, "click"), ("4", None)])
    def test_without_types_a_value_makes_a_rating(self, stars: Any, kind: str | None) -> None:
        raw = {"userId": "u1", "movieId": "m", "when": 5} | ({} if stars is ... else {"stars": stars})
        assert read(raw, settings=self.MAP).kind == ([kind] if kind else [])

    def test_a_dead_letter_names_the_field_as_it_stands_in_the_record(self) -> None:
        assert refusal({"userId": "u1", "when": 5}, settings=self.MAP) == (refusals.MISSING, "movieId")

    @pytest.mark.parametrize("mapping", [{"usr": "x"}, {"user": "x", "item": "x"}, {"user": "ts"}])
    def test_a_map_that_makes_no_sense_is_refused_at_once(self, mapping: dict[str, str]) -> None:
        with pytest.raises(UsageError, match=r"events\.map"):
            EventDecoder(EventSettings(map=mapping), ["events"])

    @pytest.mark.parametrize(
        ("unit", "ts", "wanted"),
        [
            ("s", 12, 12_000),
            ("s", 12.3456, 12_346),
            ("iso", "1970-01-02", DAY_MS),
            ("iso", "1970-01-01T00:00:01.5Z", 1500),
            ("iso", "1970-01-01 02:00:00+02:00", 0),
        ],
    )
    def test_units_of_time(self, unit: str, ts: Any, wanted: int) -> None:
        assert read(event(ts=ts), settings=EventSettings(ts_unit=unit)).ts == [wanted]

    @pytest.mark.parametrize(
        ("unit", "ts", "reason"),
        [
            ("s", "12", refusals.WRONG_TYPE),
            ("s", 1e308, refusals.WRONG_TYPE),
            ("s", True, refusals.WRONG_TYPE),
            ("s", APPENDED, refusals.TS_RANGE),
            ("iso", 12, refusals.WRONG_TYPE),
            ("iso", "yesterday", refusals.WRONG_TYPE),
            ("iso", "1969-12-31T23:59:59Z", refusals.TS_RANGE),
            ("iso", "9999-12-31T23:59:59-14:00", refusals.TS_RANGE),
        ],
    )
    def test_times_that_are_wrong_in_a_unit(self, unit: str, ts: Any, reason: str) -> None:
        assert refusal(event(ts=ts), settings=EventSettings(ts_unit=unit)) == (reason, "ts")


class TestScenarios:
    @pytest.mark.parametrize("scenario", [None, "", ...])
    def test_nowhere_in_particular(self, scenario: Any) -> None:
        assert read(event(scenario=scenario)).kind == ["click"]

    def test_an_integer_counts_as_its_decimal_string(self) -> None:
        assert read(event(scenario=12)).kind == [kind_of("click", "12")]

    @pytest.mark.parametrize("scenario", [1.5, True, ["home"], {"at": "home"}])
    def test_anything_else_is_a_dead_letter(self, scenario: Any) -> None:
        assert refusal(event(scenario=scenario)) == (refusals.WRONG_TYPE, "scenario")

    def test_is_not_read_under_a_map_that_does_not_name_it(self) -> None:
        settings = EventSettings(map={"user": "user_id"})
        assert read(event(scenario={"of": "theirs"}), settings=settings).kind == ["click"]
        settings = EventSettings(map={"user": "user_id", "scenario": "place"})
        assert read(event(scenario=[], place="home"), settings=settings).kind == [kind_of("click", "home")]

    def test_what_stands_between_type_and_scenario_is_in_neither(self) -> None:
        assert read(event(type="a\x1fb")).kind == ["a b"]
        assert read(event(scenario="a\x1fb")).kind == [kind_of("click", "a b")]

    def test_a_rating_and_an_erase_stay_what_they_are(self) -> None:
        rating = read(event(type="rating", value=9, scenario="home"))
        assert (rating.kind, rating.value) == ([kind_of("rating", "home")], [5.0])
        erase = read(event(type="erase", scenario="home"))
        assert (erase.kind, erase.erases) == (["erase"], [0])


class TestContext:
    """One field of it stands for a scenario that an event does not name."""

    SETTINGS = EventSettings(context="device")

    def kind(self, settings: EventSettings = SETTINGS, **fields: Any) -> str:
        (kind,) = read(event(**fields), settings=settings).kind
        return kind

    def test_is_read_where_no_scenario_is_named(self) -> None:
        assert self.kind(context={"device": "tv", "hour": [7]}) == kind_of("click", "tv")
        assert self.kind(context={"device": 12}) == kind_of("click", "12")
        assert self.kind(context={"device": "tv"}, scenario="home") == kind_of("click", "home")
        assert self.kind(context={"device": "tv"}, scenario="") == kind_of("click", "tv")
        assert self.kind(context={"device": "é" * 100}) == kind_of("click", "é" * 100)

    @pytest.mark.parametrize("context", [None, {}, {"device": None}, {"device": ""}, {"hour": 7}])
    def test_may_say_nothing(self, context: Any) -> None:
        assert self.kind(context=context) == "click"

    def test_is_not_looked_at_unasked(self) -> None:
        for context in ({"device": "tv"}, {"device": []}, 7):
            assert self.kind(EventSettings(), context=context) == "click"

    @pytest.mark.parametrize(
        ("context", "field"),
        [
            ("tv", "context"),
            ([], "context"),
            ({"device": True}, "context.device"),
            ({"device": []}, "context.device"),
        ],
    )
    def test_of_another_type_is_a_dead_letter(self, context: Any, field: str) -> None:
        assert refusal(event(context=context), settings=self.SETTINGS) == (refusals.WRONG_TYPE, field)

    def test_too_long_is_a_dead_letter(self) -> None:
        reason = refusal(event(context={"device": "x" * 257}), settings=self.SETTINGS)
        assert reason == (refusals.ID_LENGTH, "context.device")

    def test_under_a_map_has_the_name_that_it_gives_or_is_not_read(self) -> None:
        unnamed = EventSettings(context="device", map={"user": "user_id"})
        assert self.kind(unnamed, context={"device": "tv"}) == "click"
        named = EventSettings(context="device", map={"user": "user_id", "context": "env"})
        assert self.kind(named, env={"device": "tv"}, context={"device": "radio"}) == kind_of("click", "tv")

    def test_does_not_take_the_careful_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        decoder = EventDecoder(self.SETTINGS, ["events"])
        monkeypatch.setattr(decoder.careful, "read", None)
        decoded = decoder.decode([Read(json.dumps(event(context={"device": "tv"})).encode())], 0)
        assert decoded.kind == [kind_of("click", "tv")]


# -- properties ----------------------------------------------------------------------------------------------
ids = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=70), st.integers(), st.floats(), st.none(), st.booleans()
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
events = st.fixed_dictionaries(
    {
        "user_id": ids,
        "item_id": ids,
        "type": st.sampled_from(["click", "rating", "erase", "x"]) | anything,
        "ts": st.integers(-1, APPENDED + 2 * DAY_MS) | anything,
    },
    optional={
        "v": st.sampled_from([1, 1, 2, None, "1"]),
        "event_id": ids,
        "value": anything,
        "scenario": ids | anything,
        "context": st.dictionaries(st.just("device") | st.text(max_size=3), ids, max_size=2) | anything,
        "extra": anything,
    },
)


def columns_of(decoded: Decoded) -> CheckedEvent:
    return CheckedEvent(
        decoded.user[0], decoded.item[0], decoded.kind[0], decoded.value[0], decoded.ts[0],
        decoded.id_hash[0].hex(),
    )  # fmt: skip


def carefully(settings: EventSettings, record: Read) -> CheckedEvent | RecordError:
    try:
        return CarefulReader(settings).read(record, record.timestamp)
    except RecordError as error:
        return error


@given(events, st.sampled_from(["plain", "mapped"]), st.sampled_from(["", "device"]))
@hypothesis_settings(deadline=None)
def test_both_ways_of_reading_agree(sent: dict[str, Any], kind: str, context: str) -> None:
    settings = EventSettings(map={"value": "value"} if kind == "mapped" else {}, context=context)
    user = sent["user_id"]
    record = Read(json.dumps(sent).encode(), key=str(user).encode("utf-8", "replace"))
    decoded = EventDecoder(settings, ["events"]).decode([record], 0)
    careful = carefully(settings, record)
    if isinstance(careful, RecordError):
        (letter,) = decoded.dead_letters
        assert (letter.reason, letter.field) == (careful.reason, careful.field)
        return
    assert not decoded.dead_letters
    found = columns_of(decoded)
    assert found[:3] == careful[:3]
    assert found.ts == careful.ts
    assert found.value == careful.value or (math.isnan(found.value) and math.isnan(careful.value))
    assert decoded.event_ids()[0] == (0 if careful.event_id is None else hash64(careful.event_id))


@given(st.binary(max_size=80) | st.none(), st.binary(max_size=4) | st.none())
@hypothesis_settings(deadline=None)
def test_no_bytes_raise_and_none_are_lost(value: bytes | None, key: bytes | None) -> None:
    decoded = EventDecoder(EventSettings(), ["events"]).decode([Read(value, key=key)], 0)
    assert len(decoded) + len(decoded.dead_letters) == 1


@given(st.binary(max_size=12), st.integers(0, 200))
@hypothesis_settings(deadline=None)
def test_an_event_with_bytes_overwritten_is_read_or_refused(junk: bytes, at: int) -> None:
    raw = bytearray(json.dumps(event(event_id="e", value=3)).encode())
    raw[at : at + len(junk)] = junk
    decoded = EventDecoder(EventSettings(), ["events"]).decode([Read(bytes(raw))], 0)
    assert len(decoded) + len(decoded.dead_letters) == 1


def test_plain_events_do_not_need_the_careful_way(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = EventDecoder(EventSettings(), ["events"])
    monkeypatch.setattr(decoder.careful, "read", None)
    sent = [event(), event(item_id=3, event_id="e"), event(type="rating", value=7), event(item_id="é")]
    decoded = decoder.decode([Read(json.dumps(e, ensure_ascii=False).encode()) for e in sent], 0)
    assert len(decoded) == len(sent)
