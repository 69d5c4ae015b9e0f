from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from stream_app.brokers.broker import (
    HOST,
    Broker,
    BrokerError,
    EmbeddedBroker,
    KafkaBroker,
    answers,
    check_port_is_free,
    free_port,
)
from stream_app.errors import HeadraceError

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def own_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """A broker that is not started, and that the test may kill."""
    if request.param == "embedded":
        own: Broker = EmbeddedBroker()
    else:
        request.getfixturevalue("kafka_available")
        own = KafkaBroker(tmp_path / "kafka", heap="256m")
    yield own
    own.kill()


def listening(pid: int) -> set[str]:
    """Addresses that a process listens on."""
    connections = psutil.Process(pid).net_connections("inet")
    return {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}


def test_a_started_broker_answers_and_a_stopped_one_does_not(own_broker: Broker) -> None:
    with own_broker:
        assert answers(HOST, own_broker.port)
        pid = own_broker.pid
    assert not answers(HOST, own_broker.port)
    assert not psutil.pid_exists(pid)


def test_it_listens_on_loopback_only(broker: Broker) -> None:
    assert {ip.removeprefix("::ffff:") for ip in listening(broker.pid)} == {HOST}


def test_a_killed_broker_starts_again_on_its_port() -> None:
    own_broker = EmbeddedBroker().start()
    address, pid = own_broker.address, own_broker.pid
    own_broker.kill()
    assert not psutil.pid_exists(pid)
    with own_broker:
        assert own_broker.address == address
        assert answers(HOST, own_broker.port)


def test_a_port_in_use_is_named_with_a_way_out() -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=f"{HOST}:{port}.*in use(.|\n)*another port"):
            EmbeddedBroker(port).start()


def test_a_port_beyond_the_range_is_an_error_for_people() -> None:
    with pytest.raises(BrokerError, match="70000"):
        check_port_is_free(70_000)


def test_a_free_port_is_never_one_that_an_outgoing_connection_gets() -> None:
    assert all(20_000 <= free_port() < 32_000 for _ in range(20))


def test_starting_twice_is_refused(embedded_broker: EmbeddedBroker) -> None:
    with pytest.raises(BrokerError, match="started already"):
        embedded_broker.start()
    assert answers(HOST, embedded_broker.port)


def test_a_broker_that_is_not_running_has_no_pid() -> None:
    with pytest.raises(BrokerError, match="not running"):
        _ = EmbeddedBroker().pid


def test_stopping_what_never_ran_does_nothing() -> None:
    broker = EmbeddedBroker()
    broker.stop()
    broker.kill()


def test_a_broker_that_ends_at_once_shows_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", "print('no memory left'); raise SystemExit(3)"]
    monkeypatch.setattr(EmbeddedBroker, "_command", lambda _: command)
    with pytest.raises(BrokerError, match=r"exit code 3(.|\n)*no memory left"):
        EmbeddedBroker().start()


def test_a_broker_that_never_answers_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = [sys.executable, "-c", "import signal; signal.pause()"]
    monkeypatch.setattr(EmbeddedBroker, "_command", lambda _: silent)
    monkeypatch.setattr(EmbeddedBroker, "start_timeout_s", 0.2)
    broker = EmbeddedBroker()
    with pytest.raises(BrokerError, match="did not answer"):
        broker.start()
    with pytest.raises(BrokerError, match="not running"):
        _ = broker.pid


def test_a_server_that_is_no_kafka_does_not_count_as_an_answer() -> None:
    with socket.create_server((HOST, 0)) as server:

        def hang_up() -> None:
            server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert not answers(HOST, server.getsockname()[1])
        thread.join()


def test_a_binary_named_by_hand_that_is_not_there_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALF_TANSU_BIN", "/nowhere/tansu")
    with pytest.raises(BrokerError, match=r"/nowhere/tansu(.|\n)*headrace broker --kafka"):
        EmbeddedBroker().start()


RUN_IN_FOREGROUND = """
import sys
from pathlib import Path
from stream_app.brokers.broker import EmbeddedBroker, KafkaBroker, run_foreground
broker = KafkaBroker(Path(sys.argv[1]), heap="256m") if len(sys.argv) > 1 else EmbeddedBroker()
run_foreground(broker, lambda line: print(line, broker.pid, flush=True))
"""


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def foreground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs a broker in the foreground, and the line that it said."""
    arguments = []
    if request.param == "kafka":
        request.getfixturevalue("kafka_available")
        arguments = [str(tmp_path / "kafka")]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN_IN_FOREGROUND, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    yield process, process.stdout.readline()
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("foreground", "number"),
    [
        ("embedded", signal.SIGINT),
        ("embedded", signal.SIGTERM),
        pytest.param("kafka", signal.SIGINT, marks=pytest.mark.kafka),
    ],
    indirect=["foreground"],
)
def test_in_the_foreground_it_says_one_line_and_ends_cleanly_at_a_signal(
    foreground: tuple[subprocess.Popen[str], str], number: signal.Signals
) -> None:
    process, line = foreground
    *words, pid = line.split()
    assert " ".join(words[:3]) == "broker ready at"
    assert answers(*_host_and_port(words[3]))
    process.send_signal(number)
    assert process.wait() == 0
    assert process.stdout is not None
    assert process.stdout.read() == ""
    assert not psutil.pid_exists(int(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only")
def test_a_broker_dies_with_a_parent_that_is_killed(foreground: tuple[subprocess.Popen[str], str]) -> None:
    process, line = foreground
    broker = psutil.Process(int(line.split()[-1]))
    process.kill()
    process.wait()
    broker.wait(timeout=30)


@pytest.mark.parametrize("foreground", ["embedded"], indirect=True)
def test_in_the_foreground_a_broker_that_dies_is_an_error(
    foreground: tuple[subprocess.Popen[str], str],
) -> None:
    process, line = foreground
    os.kill(int(line.split()[-1]), signal.SIGKILL)
    assert process.wait() == 1


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


@pytest.mark.kafka
@pytest.mark.usefixtures("kafka_available")
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_kafka_keeps_acknowledged_records_over_a_restart(tmp_path: Path, end: str) -> None:
    broker = KafkaBroker(tmp_path / "kafka", heap="256m").start()
    try:
        with KafkaAdminClient(bootstrap_servers=broker.address) as admin:
            one = {"num_partitions": 1, "replication_factor": 1}
            admin.create_topics({"kept": one}, wait_for_metadata=True)
        producer = KafkaProducer(bootstrap_servers=broker.address, acks="all")
        sent = [producer.send("kept", str(number).encode()) for number in range(1000)]
        assert [record.get(30).offset for record in sent] == list(range(1000))
        producer.close()
        address = broker.address
        getattr(broker, end)()

        broker.start()
        assert broker.address == address
        consumer = KafkaConsumer(
            "kept", bootstrap_servers=address, auto_offset_reset="earliest", group_id=None
        )
        assert [int(next(consumer).value) for _ in range(1000)] == list(range(1000))
        consumer.close()
    finally:
        broker.kill()


@pytest.mark.kafka
def test_a_second_kafka_on_the_same_folder_is_refused(kafka_broker: KafkaBroker) -> None:
    settings = (kafka_broker.directory / "server.properties").read_bytes()
    with pytest.raises(BrokerError, match="Another Kafka runs on"):
        KafkaBroker(kafka_broker.directory).start()
    assert (kafka_broker.directory / "server.properties").read_bytes() == settings
    assert answers(HOST, kafka_broker.port)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HeadraceError, match=r"Can't write to Kafka's folder .*file"):
        KafkaBroker(tmp_path / "file" / "kafka").start()
