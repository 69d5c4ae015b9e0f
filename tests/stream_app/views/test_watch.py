"""Behaviour of `recommend` and `watch`, on records that are put on the topics by hand."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from rich.console import Console

from producers.delivery import partition_of
from stream_app.brokers.broker import EmbeddedBroker
from stream_app.brokers.connection import BrokerUnreachableError, MissingTopicError
from stream_app.events import Because, Item, Recommendation, RecommendedItem
from stream_app.settings import Settings, TopicSettings, load
from stream_app.views.watch import Newest, Printer, learn_title, recommend

PARTITIONS = 3
encode = msgspec.json.encode


def made(user: str, revision: int, *items: str, sources: dict[str, int] | None = None) -> Recommendation:
    return Recommendation(
        user_id=user,
        revision=revision,
        items=[
            RecommendedItem(item_id=item, score=0.5, source="covisit", because=Because(item_id="seen"))
            for item in items
        ],
        sources=sources or {},
        events=revision,
        event_ts=0,
        published_ts=0,
        latency_ms=1.5,
        models={"transformer": "000007"},
        arm="",
        reason="event",
    )


def values(*records: Recommendation) -> list[tuple[bytes, bytes]]:
    return [(record.user_id.encode(), encode(record)) for record in records]


@pytest.fixture
def settings(embedded_broker: EmbeddedBroker, topics_of: Callable[..., TopicSettings]) -> Settings:
    names = topics_of()
    overrides = {f"topics.{name}": value for name, value in names.model_dump().items()}
    made = load({**overrides, "broker.url": embedded_broker.address, "broker.connect_timeout_s": 3})
    asyncio.run(create(made))
    return made


async def create(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker.url)
    await admin.start()
    topics = settings.topics
    names = (*topics.events, topics.items, topics.recommendations)
    await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
    await admin.close()


def send(
    settings: Settings, topic: str, records: list[tuple[bytes, bytes | None]], partition: int | None = None
) -> None:
    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.broker.url) as producer:
            # In one batch for each partition: a reader must not take a batch for a record.
            for key, value in records:
                await producer.send(topic, value, key=key, partition=partition)
            await producer.flush()

    asyncio.run(run())


class TestNewest:
    def test_the_highest_revision_counts_whatever_the_order(self) -> None:
        newest = Newest()
        for key, value in values(made("u", 2, "b"), made("u", 1, "a"), made("u", 3, "c")):
            newest.offer(key, value)
        assert newest.records["u"].items[0].item_id == "c"

    def test_of_equal_revisions_the_first_counts(self) -> None:
        newest = Newest()
        for key, value in values(made("u", 1, "first"), made("u", 1, "redone")):
            newest.offer(key, value)
        assert newest.records["u"].items[0].item_id == "first"

    def test_a_tombstone_forgets_the_user_so_that_revisions_may_start_anew(self) -> None:
        newest = Newest()
        newest.offer(*values(made("u", 9, "old"))[0])
        newest.offer(b"u", None)
        assert newest.records == {}
        assert newest.offer(*values(made("u", 1, "new"))[0]) is not None

    @pytest.mark.parametrize(
        "value", [b"", b"{", b"[]", b"{}", encode(made("u", 1)).replace(b'"v":1', b'"v":2')]
    )
    def test_what_is_no_recommendation_is_counted_and_passed_over(self, value: bytes) -> None:
        newest = Newest()
        assert newest.offer(b"u", value) is None
        assert newest.unreadable == 1

    def test_holds_no_more_users_than_its_limit(self) -> None:
        newest = Newest(limit=2)
        for key, value in values(*(made(f"u{n}", 1, "a") for n in range(5))):
            newest.offer(key, value)
        assert list(newest.records) == ["u3", "u4"]


class TestTitles:
    def test_a_later_record_without_a_title_keeps_the_known_one(self) -> None:
        known: dict[str, str] = {}
        learn_title(known, b"1", encode(Item(item_id="1", title="Fargo")))
        learn_title(known, b"1", encode(Item(item_id="1", price=3.0)))
        assert known == {"1": "Fargo"}

    def test_a_tombstone_takes_the_title_away_and_a_broken_record_does_not(self) -> None:
        known = {"1": "Fargo", "2": "Heat"}
        learn_title(known, b"1", None)
        learn_title(known, b"2", b"{")
        assert known == {"2": "Heat"}


class TestRecommend:
    def test_gives_the_newest_list_with_titles(self, settings: Settings) -> None:
        topics = settings.topics
        send(
            settings,
            topics.items,
            [
                (b"7", encode(Item(item_id=7, title="Heat"))),
                (b"seen", encode(Item(item_id="seen", title="Fargo"))),
            ],
        )
        send(
            settings,
            topics.recommendations,
            values(made("u", 1, "3"), made("other", 1, "5"), made("u", 2, "7", "8")),
        )
        answer = recommend(settings, "u")
        assert answer.record is not None
        assert answer.record.revision == 2
        assert [item.item_id for item in answer.items] == ["7", "8"]
        assert answer.titles == {"7": "Heat", "seen": "Fargo"}

    def test_finds_a_list_that_is_not_in_the_partition_of_the_hash(self, settings: Settings) -> None:
        elsewhere = (partition_of(b"u", PARTITIONS) + 1) % PARTITIONS
        send(settings, settings.topics.recommendations, values(made("u", 4, "3")), partition=elsewhere)
        answer = recommend(settings, "u")
        assert answer.record is not None
        assert answer.record.revision == 4

    def test_an_unknown_user_gets_what_is_popular_and_is_told_so(self, settings: Settings) -> None:
        def event(user: str, item: str, kind: str) -> tuple[bytes, bytes]:
            return user.encode(), encode({"v": 1, "user_id": user, "item_id": item, "type": kind, "ts": 1000})

        events = [event("a", "hit", "click"), event("b", "hit", "click"), event("c", "other", "click")]
        events += [event(user, "disliked", "dislike") for user in "abcde"]
        send(settings, settings.topics.events[0], [*events, (b"x", b"broken")])
        answer = recommend(settings, "stranger")
        assert answer.record is None
        assert [item.item_id for item in answer.items] == ["hit", "other"]
        assert "no list yet" in answer.note
        assert "popular" in answer.note

    def test_an_unknown_user_is_told_what_is_popular_where_they_are(self, settings: Settings) -> None:
        def event(user: str, item: str, scenario: str) -> tuple[bytes, bytes]:
            made = {
                "v": 1,
                "user_id": user,
                "item_id": item,
                "type": "click",
                "ts": 1000,
                "scenario": scenario,
            }
            return user.encode(), encode(made)

        hits = [event(user, "hit", "home") for user in "abc"]
        send(settings, settings.topics.events[0], [*hits, event("a", "tent", "shop")])
        answer = recommend(settings, "stranger", "shop")
        assert [(item.item_id, item.score) for item in answer.items] == [("tent", 1.0)]
        assert "popular in 'shop', over 1 recent events" in answer.note
        elsewhere = recommend(settings, "stranger", "cinema")
        assert [item.item_id for item in elsewhere.items] == ["hit", "tent"]
        assert "popular everywhere, since nothing happened in 'cinema' lately, over 4" in elsewhere.note

    def test_without_any_event_it_is_said_that_nothing_is_popular(self, settings: Settings) -> None:
        answer = recommend(settings, "stranger")
        assert answer.items == []
        assert "no events" in answer.note

    def test_a_missing_topic_is_named(self, settings: Settings) -> None:
        topics = settings.topics.model_copy(update={"recommendations": "nothing-here"})
        with pytest.raises(MissingTopicError, match="nothing-here"):
            recommend(settings.model_copy(update={"topics": topics}), "u")

    def test_no_broker_is_told_with_what_to_do(self) -> None:
        settings = load({"broker.url": "127.0.0.1:1", "broker.connect_timeout_s": 0.2})
        with pytest.raises(BrokerUnreachableError, match="headrace broker"):
            recommend(settings, "u")


class TestPrinter:
    def printer(self, user: str | None = None) -> tuple[Printer, io.StringIO]:
        out = io.StringIO()
        console = Console(file=out, width=100, force_terminal=False)
        return Printer(console, {"7": "Heat", "8": "Ran", "seen": "Fargo"}, user), out

    def test_one_user_is_shown_in_full_with_what_is_new(self) -> None:
        printer, out = self.printer("u")
        printer.begin(made("u", 1, "7"))
        printer.take(*values(made("u", 2, "7", "8"))[0])
        before, after = out.getvalue().split("revision 2")
        assert "new" not in before
        assert "Ran new" in after
        assert "Heat new" not in after
        assert 'because of "Fargo"' in after

    def test_other_users_and_older_revisions_are_not_shown(self) -> None:
        printer, out = self.printer("u")
        printer.begin(made("u", 5, "7"))
        shown = out.getvalue()
        printer.take(*values(made("v", 9, "8"))[0])
        printer.take(*values(made("u", 5, "8"))[0])
        assert out.getvalue() == shown

    def test_an_erased_user_is_told(self) -> None:
        printer, out = self.printer("u")
        printer.take(b"u", None)
        assert "erased" in out.getvalue()

    def test_more_than_ten_updates_in_a_second_are_counted_instead(self) -> None:
        printer, out = self.printer()
        printer.tick(1.0)
        for n in range(25):
            printer.take(*values(made(f"user{n}", 1, "7"))[0])
        printer.tick(1.5)
        assert out.getvalue().count("Heat") == 10
        printer.tick(2.5)
        assert "15 more" in out.getvalue()
        printer.take(*values(made("late", 1, "7"))[0])
        assert "late" in out.getvalue()
