"""Headrace's topics, printed for people.

In: facts about topics, what was created, what needs attention. Out: a table and the lines below it. Never
talks to a broker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stream_app.brokers.topic_facts import CREATE_TIME, LOG_APPEND_TIME, TIMESTAMPS, TopicFacts

DAY_MS = 86_400_000

_HEAD = ("topic", "partitions", "copies", "cleanup", "kept", "timestamps", "largest record", "records", "id")


@dataclass(frozen=True, slots=True)
class TopicReport:
    """The topics as they are; `str()` is a table, with everything that needs attention below it.

    Attributes:
        address: of the broker.
        topics: facts by topic, in headrace's order; missing ones are absent.
        created: names that were created now.
        missing: names that do not exist.
        differences: what is not as headrace would make it, and matters.
        notes: what the broker does not do, and what to do next.
        append_time: whether the broker acts on LogAppendTime, as a trial showed; None without a trial.
    """

    address: str
    topics: Mapping[str, TopicFacts]
    created: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    append_time: bool | None = None

    def __str__(self) -> str:
        table = [_HEAD, *(self._row(facts) for facts in self.topics.values())]
        widths = [max(len(row[column]) for row in table) for column in range(len(_HEAD))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table
        ]
        below = [
            *([f"created at {self.address}: {', '.join(self.created)}"] if self.created else []),
            *([f"missing at {self.address}: {', '.join(self.missing)}"] if self.missing else []),
            *(f"attention: {difference}" for difference in self.differences),
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(line.rstrip() for line in [*(lines if self.topics else []), *below])

    def _row(self, topic: TopicFacts) -> tuple[str, ...]:
        settings = topic.settings
        compact = settings.get("cleanup.policy") == "compact"
        return (
            topic.name,
            str(topic.partitions),
            str(topic.replication),
            settings.get("cleanup.policy", "not shown"),
            "newest of a key" if compact else _duration(settings.get("retention.ms")),
            self._timestamps(topic),
            _bytes(settings.get("max.message.bytes")),
            str(topic.records),
            topic.topic_id or "none",
        )

    def _timestamps(self, topic: TopicFacts) -> str:
        """What records carry where that was seen, else what is set."""
        if topic.timestamps is not None:
            return f"{topic.timestamps} (seen)"
        as_set = topic.settings.get(TIMESTAMPS)
        if as_set == LOG_APPEND_TIME and self.append_time is not None:
            return f"{LOG_APPEND_TIME if self.append_time else CREATE_TIME} (tried)"
        return f"{as_set} (as set)" if as_set else "not shown"


def _duration(milliseconds: str | None) -> str:
    if milliseconds is None:
        return "not shown"
    return "for ever" if int(milliseconds) < 0 else f"{int(milliseconds) / DAY_MS:g} days"


def _bytes(text: str | None) -> str:
    return "not shown" if text is None else f"{int(text):,} bytes"
