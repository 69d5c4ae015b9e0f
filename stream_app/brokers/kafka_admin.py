"""An admin client of any broker, and its failures in words for people.

In: broker settings, TLS and SASL passed through. Out: a connected kafka-python admin client. Never waits longer
than `broker.connect_timeout_s` for a broker, and never leaves a connection open.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import AuthorizationError, KafkaError, SaslAuthenticationFailedError
from kafka.net.compat import KafkaNetClient

from stream_app.brokers.broker import answers
from stream_app.brokers.connection import BrokerUnreachableError
from stream_app.errors import HeadraceError
from stream_app.settings import BrokerSettings

RETRY_S = 0.1
PROBE_S = 2.0


class TopicRefusedError(HeadraceError):
    """A topic can't be created, or the broker won't let us see it; the message says what to do."""


@contextlib.contextmanager
def connect(broker: BrokerSettings) -> Iterator[Any]:
    """An admin client, closed at the end; failures to connect and refusals are put into words."""
    _wait_for_an_answer(broker)
    made: list[KafkaNetClient] = []

    def network(**options: Any) -> KafkaNetClient:
        made.append(KafkaNetClient(**options))
        return made[-1]

    try:
        admin = KafkaAdminClient(
            bootstrap_timeout_ms=int(broker.connect_timeout_s * 1000),
            kafka_client=network,
            **kafka_python_options(broker),
        )
    except SaslAuthenticationFailedError as error:
        raise _log_in_refused(broker, error) from error
    except (KafkaError, OSError, ValueError) as error:
        for client in made:
            client.close()
        raise _unreachable(broker, error) from error
    with in_words(broker):
        try:
            yield admin
        finally:
            admin.close()


@contextlib.contextmanager
def in_words(broker: BrokerSettings) -> Iterator[None]:
    """Whatever kafka-python raises, as an error for people."""
    try:
        yield
    except SaslAuthenticationFailedError as error:
        raise _log_in_refused(broker, error) from error
    except AuthorizationError as error:
        raise not_allowed(broker, str(error)) from error
    except KafkaError as error:
        raise BrokerUnreachableError(
            f"the broker at {broker.url} stopped answering: {error}", "Try again when it is well."
        ) from error


def kafka_python_options(broker: BrokerSettings) -> dict[str, Any]:
    """Keyword arguments of a kafka-python client."""
    options: dict[str, Any] = {"bootstrap_servers": broker.url.split(","), **broker.security}
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = options["ssl_check_hostname"].lower() not in ("false", "0", "no")
    return options


def not_allowed(broker: BrokerSettings, what: str) -> TopicRefusedError:
    """The error for a refusal by the broker's access rules."""
    user = broker.security.get("sasl_plain_username", "this user")
    return TopicRefusedError(
        f"the broker at {broker.url} does not allow {user} to do this: {what}",
        "Grant DESCRIBE, DESCRIBE_CONFIGS, READ and WRITE on headrace's topics, and CREATE to create them.",
    )


def _log_in_refused(broker: BrokerSettings, error: KafkaError) -> BrokerUnreachableError:
    return BrokerUnreachableError(
        f"the broker at {broker.url} refuses the log-in: {error}",
        "See [broker.security]: security_protocol, sasl_mechanism, user name and password.",
    )


def _wait_for_an_answer(broker: BrokerSettings) -> None:
    """Try each address until one answers; kafka-python leaves a socket behind for each refused try."""
    deadline = time.monotonic() + broker.connect_timeout_s
    while complaints := _complaints(broker):
        if time.monotonic() > deadline:
            raise BrokerUnreachableError(
                f"no Kafka broker answered within {broker.connect_timeout_s:g} s: {'; '.join(complaints)}",
                "Start one (`headrace broker`) or name the right one with --broker HOST:PORT.",
            )
        time.sleep(RETRY_S)


def _complaints(broker: BrokerSettings) -> list[str]:
    """What is wrong with each address; nothing when one of them is good."""
    plain = broker.security.get("security_protocol", "PLAINTEXT") == "PLAINTEXT"
    found = []
    for address in broker.url.split(","):
        host, _, port = address.strip().rpartition(":")
        if not host or not port.isdecimal():
            found.append(f"{address!r} is not HOST:PORT")
            continue
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_S).close()
        except socket.gaierror:
            found.append(f"the host name in {address} is unknown")
        except (OSError, OverflowError) as error:
            found.append(f"{address}: {getattr(error, 'strerror', None) or error}")
        else:
            if not plain or answers(host.strip("[]"), int(port), PROBE_S):
                return []
            found.append(
                f"{address} is open, but does not answer as Kafka does with security_protocol PLAINTEXT"
            )
    return found


def _unreachable(broker: BrokerSettings, error: Exception) -> BrokerUnreachableError:
    """The error for a broker that was there, but did not let a client in."""
    security = broker.security
    protocol = security.get("security_protocol", "PLAINTEXT")
    as_whom = f" as {security['sasl_plain_username']!r}" if "sasl_plain_username" in security else ""
    return BrokerUnreachableError(
        f"{broker.url} is open, but no log-in with security_protocol {protocol}{as_whom} succeeded within "
        f"{broker.connect_timeout_s:g} s: {error}",
        "See [broker.security]: security_protocol, sasl_mechanism, user name and password, ssl_cafile.",
    )
