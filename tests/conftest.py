"""Brokers for the tests that need one, started once a session; topic names that no other test uses.

Real Kafka runs where Java and Maven are; `HEADRACE_TEST_KAFKA=0` leaves it out, `=1` insists on it.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterator

import pytest

from stream_app.brokers.broker import Broker, EmbeddedBroker, KafkaBroker
from stream_app.brokers.kafka_jars import KafkaUnavailableError, find_java, kafka_jars
from stream_app.settings import TopicSettings


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, but for two that kafka-python gives when it is imported on Python 3.11."""
    config.addinivalue_line("filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning")


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[EmbeddedBroker]:
    """The embedded broker, shared by all tests; one that kills its broker starts one of its own."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_available() -> None:
    """Skip where real Kafka can't run, or was not asked for."""
    wish = os.environ.get("HEADRACE_TEST_KAFKA", "")
    if wish == "0":
        pytest.skip("HEADRACE_TEST_KAFKA=0")
    try:
        kafka_jars(find_java())
    except KafkaUnavailableError as error:
        if wish == "1":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka_broker(kafka_available: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:  # noqa: ARG001
    """A real Apache Kafka, shared by all tests; one that kills its broker starts one of its own."""
    with KafkaBroker(tmp_path_factory.mktemp("kafka"), heap="384m") as broker:
        yield broker


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each broker in turn: the test runs on the embedded one and on real Kafka."""
    shared: Broker = request.getfixturevalue(f"{request.param}_broker")
    return shared


@pytest.fixture
def topics_of(request: pytest.FixtureRequest) -> Callable[..., TopicSettings]:
    """`topics_of(inputs=1)`: topic settings whose names no other test (and no other call) uses."""
    test = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:60]

    def names(inputs: int = 1) -> TopicSettings:
        prefix = f"{test}.{uuid.uuid4().hex[:8]}"
        return TopicSettings(
            events=tuple(f"{prefix}.events{number or ''}" for number in range(inputs)),
            items=f"{prefix}.items",
            recommendations=f"{prefix}.recommendations",
            dead_letters=f"{prefix}.events.dlq",
            models=f"{prefix}.models",
            control=f"{prefix}.control",
        )

    return names
