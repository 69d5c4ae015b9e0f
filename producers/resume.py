"""What of a run was acknowledged, in a small file, so that the run can go on where it stopped.

In: what the broker acknowledged, in order within a partition. Out: a JSON file, and what of the log came
after it. Never claims a row that was not acknowledged; what was written after the last save (a kill -9 came
between) is found by reading the end of the log (`written_since`).
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import UnsupportedCodecError
from platformdirs import user_state_path

from stream_app.errors import HeadraceError
from stream_app.events import Event
from stream_app.settings import BrokerSettings

READ_TIMEOUT_S = 15.0


class ResumeError(HeadraceError):
    """A run can't be gone on with."""


class Mark(msgspec.Struct):
    """The last row of a partition up to which all were acknowledged (or refused for good), and its offset."""

    row: int = -1
    offset: int = -1


class RunState(msgspec.Struct, kw_only=True):
    """The file. `selection` names the rows of the run (from, to, limit): another one is another run."""

    sha256: str
    run_id: str
    topic: str
    partitions: int
    selection: str
    marks: dict[int, Mark] = {}
    items_sent: bool = False
    finished: bool = False

    def mark(self, partition: int) -> Mark:
        return self.marks.setdefault(partition, Mark())


def default_folder() -> Path:
    """Where the files lie: the user's state folder."""
    return user_state_path("headrace") / "replays"


def path_of(folder: Path, sha256: str, run_id: str) -> Path:
    return folder / f"{sha256[:16]}-{run_id}.json"


def save(path: Path, state: RunState) -> None:
    """All of the file or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(state))
    Path(scratch).replace(path)


def load(folder: Path, sha256: str, run_id: str | None) -> RunState:
    """The state of a run of these data: of `run_id`, or the newest.

    Raises ResumeError when there is none.
    """
    if run_id is not None:
        paths = [path_of(folder, sha256, run_id)]
    else:
        paths = sorted(folder.glob(f"{sha256[:16]}-*.json"), key=lambda p: p.stat().st_mtime)
    if not paths or not paths[-1].is_file():
        raise ResumeError(
            f"there is no run{f' {run_id}' if run_id else ''} of these events to resume in {folder}",
            "Start one without --resume.",
        )
    try:
        return msgspec.json.decode(paths[-1].read_bytes(), type=RunState)
    except msgspec.DecodeError as error:
        raise ResumeError(f"{paths[-1]} is not readable: {error}", "Delete it and start anew.") from error


def true_ends(consumer: KafkaConsumer, parts: list[TopicPartition]) -> dict[TopicPartition, int]:
    """The offset after the last record of each partition that the consumer is assigned.

    What a broker answers when it is asked is where we look from: the embedded one counts the last batch as one
    record. The high watermark that comes with a fetch is right on every broker.

    Raises ResumeError when no fetch is answered.
    """
    ends: dict[TopicPartition, int] = consumer.end_offsets(parts)
    for part in parts:
        consumer.seek(part, ends[part])
    waiting = {part for part in parts if ends[part] > 0}
    deadline = time.monotonic() + READ_TIMEOUT_S
    while waiting:
        consumer.poll(timeout_ms=20)
        for part in list(waiting):
            mark = consumer.highwater(part)
            if mark is not None:
                ends[part] = max(ends[part], mark)
                waiting.discard(part)
        if waiting and time.monotonic() > deadline:
            names = ", ".join(f"{part.topic}-{part.partition}" for part in sorted(waiting))
            raise ResumeError(f"the end of {names} can't be read within {READ_TIMEOUT_S:g} s", "Try again.")
    return ends


def written_since(broker: BrokerSettings, state: RunState) -> set[str]:
    """Ids of the events that the log holds after the marks: written, but perhaps not acknowledged to us.

    Raises ResumeError when the log ends before a mark: the topic is another one than the run wrote to.
    """
    found: set[str] = set()
    parts = [TopicPartition(state.topic, p) for p in range(state.partitions)]
    consumer = KafkaConsumer(
        bootstrap_servers=broker.url.split(","),
        bootstrap_timeout_ms=int(broker.connect_timeout_s * 1000),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
        **broker.security,
    )
    try:
        consumer.assign(parts)
        ends = true_ends(consumer, parts)
        starts = consumer.beginning_offsets(parts)
        for part in parts:
            mark = state.mark(part.partition)
            if ends[part] <= mark.offset:
                raise ResumeError(
                    f"{part.topic}-{part.partition} ends at offset {ends[part]}, but the run was "
                    f"acknowledged at {mark.offset}: this is not the topic that it wrote to",
                    "Start a new run, without --resume.",
                )
            consumer.seek(part, max(mark.offset + 1, starts[part]))
        decode = msgspec.json.Decoder(Event).decode
        while any(consumer.position(p) < ends[p] for p in parts):
            try:
                batches = consumer.poll(timeout_ms=int(READ_TIMEOUT_S * 1000))
            except UnsupportedCodecError as error:
                raise ResumeError(
                    f"{state.topic} can't be read to find out where the run stopped: {error}",
                    "Its records are compressed: install python-snappy and zstandard, or start a new run.",
                ) from error
            if not batches:
                raise ResumeError(
                    f"the end of {state.topic} can't be read within {READ_TIMEOUT_S:g} s", "Try again."
                )
            for records in batches.values():
                for record in records:
                    try:
                        event = decode(record.value or b"")
                    except msgspec.DecodeError:
                        continue  # not one of ours
                    if event.event_id is not None:
                        found.add(str(event.event_id))
        return found
    finally:
        consumer.close()
