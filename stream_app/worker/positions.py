"""Where reading starts, and which records are due: the arithmetic of offsets, without a broker.

In: stored offsets and topic ids, the topics as they are now, records as they come. Out: start offsets, the
records that are due, gaps; or a StateError with the ways out. Never talks to a broker and never guesses: what
doesn't fit together stops the worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiokafka import ConsumerRecord

from stream_app.store.state import Position
from stream_app.store.state_folder import StateError


@dataclass(frozen=True, slots=True)
class LogFacts:
    """The input topics as the broker shows them.

    Attributes:
        ids: topic → its id; a topic that was deleted and made anew has another one.
        begins: the first offset that there is, of every partition of every topic.
        ends: the offset after the last record.
    """

    ids: Mapping[str, str]
    begins: Mapping[Position, int]
    ends: Mapping[Position, int]

    @property
    def partitions(self) -> int:
        """Partitions of each topic (`start_offsets` has checked that it is one number)."""
        return 1 + max(number for _, number in self.ends)


def start_offsets(
    directory: Path, stored: Mapping[Position, int], stored_ids: Mapping[str, str], now: LogFacts
) -> dict[Position, int]:
    """The offset to read first in each partition; the log's start where nothing is stored.

    Raises:
        StateError: the topics differ in their partitions; a topic is another one than the state was made
            from; partitions were added; a stored offset is outside of the log.
    """
    counts = {topic: sum(name == topic for name, _ in now.ends) for topic in now.ids}
    if len(set(counts.values())) > 1:
        raise StateError(
            f"the input topics have different numbers of partitions: {_listed(counts)}",
            "A user's events must come in the same partition of each. Make the topics with one number "
            "(`headrace topics create --partitions N`), or name only those that agree.",
        )
    for topic, topic_id in now.ids.items():
        if stored_ids.get(topic, topic_id) != topic_id:
            raise StateError(
                f"topic {topic!r} was deleted and made anew: the state in {directory} is of the one "
                f"with id {stored_ids[topic]}, and now it has id {topic_id}",
                f"Is this the right broker? {_NEW_STATE}",
            )
    known = {topic for topic, _ in stored}
    for (topic, number), offset in now.begins.items():
        if topic in known and (topic, number) not in stored:
            had = sum(name == topic for name, _ in stored)
            raise _partitions_added(topic, had, counts[topic])
        at = stored.get((topic, number), offset)
        end = now.ends[topic, number]
        if at > end:
            raise StateError(
                f"{topic}-{number}: the state in {directory} stands at offset {at}, beyond the end of the "
                f"log at {end}: the log has lost records that the state has learned from, or it is another log",
                f"Is this the right broker? {_NEW_STATE}",
            )
        if at < offset:
            raise StateError(
                f"{topic}-{number}: the state in {directory} stands at offset {at}, before the start of the "
                f"log at {offset}: {offset - at} records were deleted before they were read",
                f"Longer retention prevents it. {_NEW_STATE}",
            )
    return {at: stored.get(at, begin) for at, begin in now.begins.items()}


def check_unchanged(before: LogFacts, now: LogFacts) -> None:
    """Raise StateError when, under a running worker, a topic was made anew or got more partitions."""
    for topic, topic_id in before.ids.items():
        if now.ids.get(topic, topic_id) != topic_id:
            raise StateError(
                f"topic {topic!r} was deleted and made anew while the worker ran (id {topic_id}, now "
                f"{now.ids[topic]})",
                f"What was committed stays. {_NEW_STATE}",
            )
        had, has = (sum(name == topic for name, _ in facts.ends) for facts in (before, now))
        if has > had:
            raise _partitions_added(topic, had, has)


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets `first` to `last` of a partition that did not come although the one after them did."""

    at: Position
    first: int
    last: int


class Expected:
    """The next offset of each partition, moved by the records that come."""

    def __init__(self, starts: Mapping[Position, int]) -> None:
        self.offsets = dict(starts)

    def due(self, at: Position, records: Sequence[ConsumerRecord]) -> tuple[list[ConsumerRecord], list[Gap]]:
        """Records from the expected offset on, in order, and the gaps between them; moves the expectation."""
        expected = self.offsets[at]
        if records and records[0].offset == expected and records[-1].offset == expected + len(records) - 1:
            self.offsets[at] = expected + len(records)
            return list(records), []
        due, gaps = [], []
        for record in records:
            if record.offset < expected:
                continue
            if record.offset > expected:
                gaps.append(Gap(at, expected, record.offset - 1))
            due.append(record)
            expected = record.offset + 1
        self.offsets[at] = expected
        return due, gaps


def refuse_gap(gap: Gap, begin: int) -> None:
    """Raise StateError unless the broker still holds the gap's first offset.

    A broker that starts at or before the gap and yet answers with what follows says itself that nothing is
    left in between: compaction took the records, or they were transaction markers or aborted. One that starts
    after the gap's first offset has deleted records before they were read."""
    if begin > gap.first:
        topic, number = gap.at
        raise StateError(
            f"{topic}-{number}: offsets {gap.first} to {gap.last} were deleted before they were read",
            f"Nothing of this batch was written. Longer retention prevents it. {_NEW_STATE}",
        )


_NEW_STATE = (
    "To go on with the log as it is, start over in a new --state-dir (what is in the log is learned again); "
    "the old folder stays as it is."
)


def _partitions_added(topic: str, had: int, has: int) -> StateError:
    return StateError(
        f"topic {topic!r} had {had} partitions and now has {has}: users have moved to other partitions",
        "Their rows and their order would be torn apart. Make a new topic with the new number, replay into "
        "it, and start over in a new --state-dir.",
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{topic} {count}" for topic, count in counts.items())
