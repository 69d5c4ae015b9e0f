"""Bad input, named: each gets one clear message that says what to do, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord
from kafka.admin import NewPartitions, NewTopic

from stream_app.brokers.broker import Broker, free_port
from stream_app.brokers.topic_facts import connect
from stream_app.errors import EXIT_FAILED, EXIT_USAGE
from stream_app.settings import TopicSettings
from stream_app.store.state_folder import FolderLock
from tests.integration.harness import Stage, Worker
from tests.integration.worker_main import POISON


@pytest.fixture
def stage(broker: Broker, topics_of: Callable[..., TopicSettings], tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(broker, topics_of(), tmp_path, partitions=2)
    yield stage
    stage.close()


@pytest.fixture
def kafka_stage(
    kafka_broker: Broker, topics_of: Callable[..., TopicSettings], tmp_path: Path
) -> Iterator[Stage]:
    stage = Stage(kafka_broker, topics_of(), tmp_path, partitions=2)
    yield stage
    stage.close()


def clicks(count: int, first: int = 0, users: int = 10) -> list[tuple[bytes, bytes]]:
    """Keys and values of events."""
    made = []
    for number in range(first, first + count):
        user = f"u{number % users}"
        event = {
            "user_id": user,
            "item_id": f"i{number % 7}",
            "type": "click",
            "ts": number,
            "event_id": f"e{number}",
        }
        made.append((user.encode(), json.dumps(event).encode()))
    return made


def refused(worker: Worker, *words: str, code: int = EXIT_FAILED) -> None:
    """The worker ends by itself, and its last words are these."""
    assert worker.wait() == code, worker.said
    message = worker.said[worker.said.index("error: ") :]
    for word in words:
        assert word in message
    assert "Traceback" not in worker.said


def run_once(stage: Stage, events: int) -> None:
    """A worker that accepts so many events in all, and is stopped."""
    worker = stage.worker()
    worker.until_events(events)
    assert worker.stop() == 0, worker.said


def test_no_broker(stage: Stage) -> None:
    port = free_port()
    worker = stage.worker(broker__url=f"127.0.0.1:{port}", broker__connect_timeout_s=1)
    refused(worker, f"127.0.0.1:{port}", "--broker HOST:PORT")


def test_missing_topics_are_all_named(stage: Stage) -> None:
    topics = stage.topics.model_dump(mode="json") | {"items": "no.items", "control": "no.control"}
    refused(stage.worker(topics=topics), "no topic 'no.control', 'no.items'", "headrace topics create")


def test_input_topics_with_different_numbers_of_partitions(stage: Stage) -> None:
    other = f"{stage.topics.events[0]}.three"
    with connect(stage.settings.broker) as admin:
        admin.create_topics([NewTopic(other, num_partitions=3, replication_factor=1)])
    topics = stage.topics.model_dump(mode="json") | {"events": [stage.topics.events[0], other]}
    refused(stage.worker(topics=topics), "different numbers of partitions", f"{other} 3", "topics create")


@pytest.mark.kafka
def test_partitions_added_while_the_worker_was_stopped(kafka_stage: Stage) -> None:
    kafka_stage.send(clicks(50))
    run_once(kafka_stage, 50)
    topic = kafka_stage.topics.events[0]
    with connect(kafka_stage.settings.broker) as admin:
        admin.create_partitions({topic: NewPartitions(total_count=3)})
    refused(kafka_stage.worker(), f"topic '{topic}' had 2 partitions and now has 3", "Make a new topic")
    assert sum(kafka_stage.accepted().values()) == 50


@pytest.mark.kafka
@pytest.mark.slow
def test_partitions_added_under_a_running_worker(kafka_stage: Stage) -> None:
    worker = kafka_stage.worker()
    worker.until_said("ready:")
    topic = kafka_stage.topics.events[0]
    with connect(kafka_stage.settings.broker) as admin:
        admin.create_partitions({topic: NewPartitions(total_count=3)})
    refused(worker, f"topic '{topic}' had 2 partitions and now has 3")


def test_a_topic_deleted_and_made_anew(stage: Stage) -> None:
    stage.send(clicks(50))
    run_once(stage, 50)
    topic = stage.topics.events[0]
    with connect(stage.settings.broker) as admin:
        admin.delete_topics([topic])
        stage.until_gone(topic)
        admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1)])
    stage.send(clicks(80))
    refused(stage.worker(), f"topic '{topic}' was deleted and made anew", "new --state-dir")
    assert sum(stage.accepted().values()) == 50


def test_a_stored_offset_beyond_the_end_of_the_log(stage: Stage) -> None:
    stage.send(clicks(50))
    run_once(stage, 50)
    stage.set_offset(stage.topics.events[0], 0, 1000)
    refused(stage.worker(), "stands at offset 1000, beyond the end of the log", "Is this the right broker?")


@pytest.mark.kafka
def test_a_stored_offset_before_the_start_of_the_log(kafka_stage: Stage) -> None:
    kafka_stage.send(clicks(50))
    run_once(kafka_stage, 50)
    kafka_stage.send(clicks(50, first=50))
    kafka_stage.delete_records_before_the_end(kafka_stage.topics.events[0])
    refused(kafka_stage.worker(), "before the start of the log", "records were deleted before they were read")


def test_two_workers_on_one_state_folder(stage: Stage) -> None:
    first = stage.worker()
    first.until_said("ready:")
    second = stage.worker(worker__web_port=free_port())
    refused(second, "in use by another process", f"pid {first.process.pid}", "--state-dir")
    assert first.process.is_alive()


def test_a_second_worker_of_the_group_waits_and_takes_over(stage: Stage, tmp_path: Path) -> None:
    stage.send(clicks(50))
    first = stage.worker()
    first.until_events(50)
    second = stage.worker(worker__web_port=free_port(), worker__state_dir=str(tmp_path / "other"))
    second.until_said("waits as a standby")
    assert "ready:" not in second.said
    first.kill()
    second.until_events(50)
    assert second.said.count("waits as a standby") == 1
    assert second.stop() == 0


def test_a_state_folder_that_is_locked_by_a_tool(stage: Stage) -> None:
    lock = FolderLock(stage.settings.worker.state_dir)
    refused(stage.worker(), "in use by another process")
    lock.release()


def test_cuda_asked_for_but_absent(stage: Stage, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    worker = stage.worker(
        worker__device="cuda", worker__snapshots=str(tmp_path), models__transformer__enabled=True
    )
    refused(worker, "PyTorch finds no CUDA device", "worker.device to auto or cpu", code=EXIT_USAGE)


def test_a_full_disk(stage: Stage) -> None:
    """The disk is "full" by a limit on the size of files, taken by the worker after its start."""
    stage.send(clicks(50))
    run_once(stage, 50)
    stage.send(clicks(3000, first=50, users=3000))
    worker = stage.worker(
        {"HEADRACE_TEST_FILE_BYTES": str(200_000)}, worker__commit_bytes=1 << 30, worker__commit_s=3
    )
    refused(worker, "is full", "Free some space and start again")
    run_once(stage, 3050)
    assert sum(stage.accepted().values()) == 3050


def headers(record: ConsumerRecord) -> dict[str, bytes]:
    return dict(record.headers)


def test_a_record_of_the_largest_size_is_dead_lettered_untouched(stage: Stage) -> None:
    largest = b'{"padding":"' + b"x" * (stage.settings.topics.max_message_bytes - 600)
    stage.send([(b"u1", largest), *clicks(10)])
    run_once(stage, 10)
    (letter,) = stage.records(stage.topics.dead_letters)
    assert (letter.key, letter.value) == (b"u1", largest)
    assert headers(letter)["reason"] == b"not_json"
    assert "truncated" not in headers(letter)


@pytest.mark.kafka
def test_a_dead_letter_that_its_topic_refuses_is_cut_and_says_so(kafka_stage: Stage) -> None:
    kafka_stage.limit_message_bytes(kafka_stage.topics.dead_letters, 100_000)
    broken = b"x" * 300_000
    kafka_stage.send([(b"u1", broken), *clicks(10)])
    run_once(kafka_stage, 10)
    (letter,) = kafka_stage.records(kafka_stage.topics.dead_letters)
    assert letter.value == broken[: 64 << 10]
    assert headers(letter)["length"] == b"300000"
    assert headers(letter)["truncated"] == b"true"
    assert len(headers(letter)["sha256"]) == 64


@pytest.mark.parametrize("way", ["raise", "exit"])
def test_a_record_that_breaks_the_pipeline_every_time_is_found_and_dead_lettered(
    stage: Stage, way: str
) -> None:
    poison = {"user_id": "u3", "item_id": POISON.decode(), "type": "click", "ts": 5}
    stage.send([*clicks(200), (b"u3", json.dumps(poison).encode()), *clicks(200, first=200)])
    broken = {"HEADRACE_TEST_POISON": way}
    restarts = stage.settings.worker.restarts_before_bisect
    # A commit of what lies before the record would be progress, and the starts would be counted anew.
    start = partial(stage.worker, broken, worker__commit_s=60.0)
    for _ in range(restarts):
        worker = start()
        assert worker.wait() != 0
        if way == "raise":
            assert "a model met a poisoned record" in worker.said
    # An exception is caught on the copy; a process that ends there needs one more start.
    if way == "exit":
        assert start().wait() != 0
    last = start()
    last.until_events(400)
    assert "tried one by one on a copy" in last.said
    assert last.stop() == 0, last.said
    (letter,) = stage.records(stage.topics.dead_letters)
    assert json.loads(letter.value) == poison
    assert headers(letter)["reason"] == b"pipeline_error"
    expected = b"ZeroDivisionError" if way == "raise" else b"the process died"
    assert expected in headers(letter)["detail"]
    assert stage.coverage().complete


def test_a_pipeline_that_breaks_at_every_record_dead_letters_none(stage: Stage) -> None:
    stage.send(clicks(100))
    broken = {"HEADRACE_TEST_POISON": "all"}
    for _ in range(stage.settings.worker.restarts_before_bisect):
        assert stage.worker(broken).wait() == 1
    last = stage.worker(broken)
    assert last.wait() == 1
    assert "a fault of the program or its settings, not of the records" in last.said
    assert stage.records(stage.topics.dead_letters) == []
    run_once(stage, 100)
    assert sum(stage.accepted().values()) == 100


def test_an_unknown_failpoint_is_refused(stage: Stage) -> None:
    refused(stage.worker({"HEADRACE_FAILPOINT": "9-after"}), "names no failpoint", code=EXIT_USAGE)


def test_a_port_that_is_taken(stage: Stage) -> None:
    port = int(stage.broker.address.rpartition(":")[2])
    worker = stage.worker(worker__web_port=port)
    refused(worker, f"can't serve the figures at 127.0.0.1:{port}", "its own port", code=EXIT_USAGE)
