from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from stream_app.brokers.broker import HOST, KafkaBroker, free_port
from stream_app.brokers.connection import BrokerUnreachableError
from stream_app.brokers.kafka_admin import TopicRefusedError, connect
from stream_app.brokers.topic_facts import topic_ids
from stream_app.brokers.topics import create, describe
from stream_app.settings import BrokerSettings, TopicSettings

TopicsOf = Callable[..., TopicSettings]


def ids_of(broker: BrokerSettings, names: Sequence[str]) -> dict[str, str]:
    return asyncio.run(topic_ids(broker.url, names, broker.security, broker.connect_timeout_s))


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:1", "127.0.0.1:1: Connection refused"),
        ("no-such-host.invalid:9092", "host name in no-such-host.invalid:9092 is unknown"),
        ("localhost", "'localhost' is not HOST:PORT"),
    ],
)
def test_without_a_broker_it_is_told_what_was_tried(address: str, told: str, topics_of: TopicsOf) -> None:
    broker = BrokerSettings(url=address, connect_timeout_s=0.2)
    with pytest.raises(BrokerUnreachableError) as caught:
        create(broker, topics_of(), partitions=1)
    assert told in str(caught.value)
    assert "within 0.2 s" in str(caught.value)
    assert "headrace broker" in str(caught.value)


def test_something_that_is_no_kafka_is_told(topics_of: TopicsOf) -> None:
    with socket.create_server((HOST, 0)) as server:
        broker = BrokerSettings(url=f"{HOST}:{server.getsockname()[1]}", connect_timeout_s=0.2)
        with pytest.raises(BrokerUnreachableError, match="is open, but does not answer as Kafka"):
            describe(broker, topics_of())


def test_a_failed_connection_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    with (
        pytest.raises(BrokerUnreachableError),
        connect(BrokerSettings(url=f"{HOST}:{free_port()}", connect_timeout_s=0.2)),
    ):
        pass
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert set(threading.enumerate()) <= before


class GuardedKafka(KafkaBroker):
    """A Kafka with a second door that asks for a password, and rules on who may do what."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, heap="256m")
        self.guarded_port = free_port()

    def _command(self) -> list[str]:
        command = super()._command()
        settings = self.directory / "server.properties"
        written = dict(line.split("=", 1) for line in settings.read_text().splitlines() if "=" in line)
        login = (
            "org.apache.kafka.common.security.plain.PlainLoginModule required "
            'user_reader="reader-secret" user_admin="admin-secret";'
        )
        added = {
            "listeners": f"{written['listeners']},GUARDED://{HOST}:{self.guarded_port}",
            "advertised.listeners": f"{written['advertised.listeners']},GUARDED://{HOST}:{self.guarded_port}",
            "listener.security.protocol.map": ",".join(
                [written["listener.security.protocol.map"], "GUARDED:SASL_PLAINTEXT"]
            ),
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.guarded.plain.sasl.jaas.config": login,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:admin",
        }
        with settings.open("a") as file:
            file.writelines(f"{key}={value}\n" for key, value in added.items())
        return command

    def settings(self, user: str, password: str) -> BrokerSettings:
        security = {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": user,
            "sasl_plain_password": password,
        }
        return BrokerSettings(url=f"{HOST}:{self.guarded_port}", security=security, connect_timeout_s=5)


@pytest.fixture(scope="module")
def guarded(kafka_available: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedKafka]:  # noqa: ARG001
    with GuardedKafka(tmp_path_factory.mktemp("guarded")) as broker:
        yield broker


@pytest.mark.kafka
def test_security_settings_are_passed_through(guarded: GuardedKafka, topics_of: TopicsOf) -> None:
    admin, topics = guarded.settings("admin", "admin-secret"), topics_of()
    assert len(create(admin, topics, partitions=1).created) == 6
    assert set(ids_of(admin, topics.events)) == set(topics.events)


@pytest.mark.kafka
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_wrong_password_is_told(guarded: GuardedKafka, topics_of: TopicsOf) -> None:
    wrong = guarded.settings("admin", "wrong").model_copy(update={"connect_timeout_s": 1.0})
    with pytest.raises(BrokerUnreachableError, match=r"SASL_PLAINTEXT as 'admin'(.|\n)*\[broker.security\]"):
        create(wrong, topics_of(), partitions=1)
    gc.collect()  # kafka-python leaves sockets behind: let them warn here


@pytest.mark.kafka
def test_a_user_without_rights_is_told_what_to_grant(guarded: GuardedKafka, topics_of: TopicsOf) -> None:
    topics = topics_of()
    create(guarded.settings("admin", "admin-secret"), topics, partitions=1)
    with pytest.raises(TopicRefusedError, match=r"does not allow reader(.|\n)*Grant DESCRIBE"):
        describe(guarded.settings("reader", "reader-secret"), topics)


@pytest.mark.kafka
def test_a_client_without_a_password_is_told_which_protocol_was_tried(
    guarded: GuardedKafka, topics_of: TopicsOf
) -> None:
    plain = BrokerSettings(url=f"{HOST}:{guarded.guarded_port}", connect_timeout_s=1)
    with pytest.raises(BrokerUnreachableError, match="security_protocol PLAINTEXT"):
        describe(plain, topics_of())
