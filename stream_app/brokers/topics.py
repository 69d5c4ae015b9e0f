"""Headrace's topics on any broker: what each should be, created where missing, compared where there.

In: broker and topic settings. Out: a report, which prints as a table. Never changes or deletes a topic that
exists: what differs and matters is told, with the command that would change it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer
from kafka.errors import AuthorizationError, KafkaError, TopicAlreadyExistsError, for_code

from stream_app.brokers.kafka_admin import TopicRefusedError, connect, kafka_python_options, not_allowed
from stream_app.brokers.topic_facts import (
    CREATE_TIME,
    LOG_APPEND_TIME,
    TIMESTAMPS,
    TopicFacts,
    offset_ranges,
    read_facts,
    topic_ids,
)
from stream_app.brokers.topic_report import DAY_MS, TopicReport
from stream_app.settings import BrokerSettings, TopicSettings

__all__ = ["TopicReport", "create", "describe", "offset_ranges", "read_facts", "topic_ids"]

EVENTS_KEPT_MS = 7 * DAY_MS
DEAD_LETTERS_KEPT_MS = 30 * DAY_MS
LARGEST_REPLICATION = 3

CLEANUP, RETENTION, LARGEST = "cleanup.policy", "retention.ms", "max.message.bytes"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a topic should be: `partitions` None follows what was asked for."""

    name: str
    partitions: int | None
    settings: Mapping[str, str]


def plans(topics: TopicSettings) -> list[Plan]:
    """What each topic should be, and in the comments why."""
    record = str(topics.max_message_bytes)
    # Replayed events are decades old: by their own time retention would delete them at once.
    append_time = {TIMESTAMPS: LOG_APPEND_TIME}
    events = {CLEANUP: "delete", RETENTION: str(EVENTS_KEPT_MS), LARGEST: record, **append_time}
    # A reader that was away as long as events are kept must still meet the tombstones.
    compacted = {CLEANUP: "compact", "delete.retention.ms": str(EVENTS_KEPT_MS)}
    # What a user asked to erase must not stay in a segment that is never compacted.
    erasable = {"max.compaction.lag.ms": str(DAY_MS)}
    # An event and the headers that say what is wrong with it fit, whatever its size.
    dead = {
        CLEANUP: "delete",
        RETENTION: str(DEAD_LETTERS_KEPT_MS),
        LARGEST: str(2 * topics.max_message_bytes),
    }
    return [
        *(Plan(name, None, events) for name in topics.events),
        Plan(topics.items, None, {**compacted, LARGEST: record}),
        Plan(topics.recommendations, None, {**compacted, **append_time, **erasable, LARGEST: record}),
        Plan(topics.dead_letters, 1, dead),
        Plan(topics.models, 1, compacted),
        Plan(topics.control, 1, compacted),
    ]


def create(
    broker: BrokerSettings, topics: TopicSettings, partitions: int, replication: int | None = None
) -> TopicReport:
    """Create the topics that are missing; leave the others as they are.

    Args:
        partitions: of events, items and recommendations; the others have one.
        replication: copies of each record; None for 3, or as many as there are brokers.

    Raises:
        BrokerUnreachableError: no broker answers, or it refuses the log-in.
        TopicRefusedError: the broker refuses a topic.
    """
    wanted = plans(topics)
    before = read_facts(broker, [plan.name for plan in wanted])
    missing = [plan for plan in wanted if plan.name not in before]
    with connect(broker) as admin:
        cluster = admin.describe_cluster()
        copies = replication or min(LARGEST_REPLICATION, len(cluster["brokers"]))
        _create(admin, broker, {plan.name: _request(plan, partitions, copies) for plan in missing})
        append_time = _acts_on_log_append_time(admin, broker, copies) if missing else None
    return _report(
        broker, topics, partitions, created=tuple(plan.name for plan in missing), append_time=append_time
    )


def describe(broker: BrokerSettings, topics: TopicSettings) -> TopicReport:
    """The topics as they are, and what is not as headrace would make it. Raises as `create` does."""
    return _report(broker, topics, None)


def _report(
    broker: BrokerSettings,
    topics: TopicSettings,
    partitions: int | None,
    created: tuple[str, ...] = (),
    append_time: bool | None = None,
) -> TopicReport:
    wanted = plans(topics)
    found = read_facts(broker, [plan.name for plan in wanted])
    facts = {plan.name: found[plan.name] for plan in wanted if plan.name in found}
    missing = tuple(plan.name for plan in wanted if plan.name not in found)
    differences = [
        *_inputs_differ(topics, facts),
        *(
            line
            for plan in wanted
            if plan.name in facts
            for line in _differences(broker, plan, facts, partitions)
        ),
    ]
    notes = []
    if missing:
        notes.append(f"create what is missing with: headrace topics create --broker {broker.url}")
    if append_time is False:
        notes.append(
            f"this broker takes the setting {TIMESTAMPS}={LOG_APPEND_TIME} and ignores it (tried with a "
            "record in a topic of its own): freshness is measured on the worker's clock"
        )
    notes += [
        f"{name} is set to {LOG_APPEND_TIME}, but its newest record carries {CREATE_TIME}: the broker "
        "ignores the setting, or it was changed later"
        for name, topic in facts.items()
        if topic.settings.get(TIMESTAMPS) == LOG_APPEND_TIME and topic.timestamps == CREATE_TIME
    ]
    return TopicReport(broker.url, facts, created, missing, tuple(differences), tuple(notes), append_time)


def _request(plan: Plan, partitions: int, copies: int) -> dict[str, Any]:
    # With three copies a write that two have taken survives the loss of any one broker.
    safety = {"min.insync.replicas": "2"} if copies >= LARGEST_REPLICATION else {}
    return {
        "num_partitions": plan.partitions or partitions,
        "replication_factor": copies,
        "configs": {**plan.settings, **safety},
    }


def _create(admin: Any, broker: BrokerSettings, requests: Mapping[str, Mapping[str, Any]]) -> None:
    if not requests:
        return
    answer = admin.create_topics(dict(requests), raise_errors=False)
    for topic in answer["topics"]:
        error = for_code(topic["error_code"])
        if topic["error_code"] == 0 or error is TopicAlreadyExistsError:
            continue
        if issubclass(error, AuthorizationError):
            raise not_allowed(broker, f"create topic {topic['name']!r}")
        raise TopicRefusedError(
            f"the broker at {broker.url} did not create topic {topic['name']!r}: "
            f"{topic.get('error_message') or error.__name__}",
            "Change what it complains about (--partitions, --replication, names in [topics]) and try again; "
            "topics that were created stay.",
        )
    try:
        admin.wait_for_topics(list(requests))
    except KafkaError as error:
        raise TopicRefusedError(
            f"the broker at {broker.url} took the topics but does not show them: {error}",
            "Is every broker of the cluster up? `headrace topics describe` shows when they are there.",
        ) from error


def _acts_on_log_append_time(admin: Any, broker: BrokerSettings, copies: int) -> bool | None:
    """Whether a record of 1970 gets the broker's time, tried in a topic of its own; None: not allowed."""
    name = f"headrace.probe.{uuid.uuid4().hex}"
    plan = Plan(name, 1, {TIMESTAMPS: LOG_APPEND_TIME})
    try:
        _create(admin, broker, {name: _request(plan, 1, copies)})
    except TopicRefusedError:
        return None
    producer = KafkaProducer(acks="all", enable_idempotence=False, **kafka_python_options(broker))
    try:
        written = producer.send(name, b"probe", timestamp_ms=1).get(timeout=broker.connect_timeout_s)
        return bool(written.timestamp != 1)
    except KafkaError:
        return None
    finally:
        producer.close()
        admin.delete_topics([name], raise_errors=False)


def _inputs_differ(topics: TopicSettings, facts: Mapping[str, TopicFacts]) -> list[str]:
    counts = {name: facts[name].partitions for name in topics.events if name in facts}
    if len(set(counts.values())) < 2:
        return []
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    return [f"the input topics differ in their partitions ({listed}): a worker refuses to read them together"]


def _differences(
    broker: BrokerSettings, plan: Plan, facts: Mapping[str, TopicFacts], partitions: int | None
) -> list[str]:
    topic = facts[plan.name]
    asked = plan.partitions or partitions
    found = []
    if asked and topic.partitions != asked:
        why = "its records have one order only in one partition" if plan.partitions else "left as it is"
        found.append(f"{plan.name} has {topic.partitions} partitions, not {asked}: {why}")
    for key, should in plan.settings.items():
        is_ = topic.settings.get(key)
        if key in _WHY and is_ is not None and not _as_good(key, is_, should):
            found.append(
                f"{plan.name} has {key}={is_}, not {should}: {_WHY[key]}. To change it: kafka-configs.sh "
                f"--bootstrap-server {broker.url} --alter --topic {plan.name} --add-config {key}={should}"
            )
    return found


_WHY = {
    CLEANUP: "records vanish that are needed, or stay that should go",
    TIMESTAMPS: "freshness is then measured on the worker's clock, and old events may be deleted at once",
    LARGEST: "a record of the largest size does not fit",
    RETENTION: "a worker that is away for longer loses events",
}


def _as_good(key: str, is_: str, should: str) -> bool:
    if key in (LARGEST, RETENTION):
        return int(is_) >= int(should) or (key == RETENTION and int(is_) == -1)
    return is_ == should
