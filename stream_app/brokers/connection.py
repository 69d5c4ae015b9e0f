"""Connecting to the broker: tried for a while, then refused in words for people.

In: settings, and an aiokafka client that was made from them and not started. Out: the options of such a client; the
started client. Never retries what can't get better (a refused log-in).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, Protocol

from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    KafkaError,
    SaslAuthenticationFailed,
)
from aiokafka.helpers import create_ssl_context

from stream_app.errors import HeadraceError
from stream_app.settings import BrokerSettings

_HOPELESS = (AuthenticationFailedError, AuthenticationMethodNotSupported, SaslAuthenticationFailed)
RETRY_S = 0.2


class BrokerUnreachableError(HeadraceError):
    """No broker, or one that lets us not in."""


class MissingTopicError(HeadraceError):
    """A topic that is needed does not exist."""


class Client(Protocol):
    """A consumer, a producer or an admin client."""

    def start(self) -> Awaitable[None]: ...


def client_options(broker: BrokerSettings) -> dict[str, Any]:
    """Keyword arguments of an aiokafka client: address, log-in, and a TLS context out of file names."""
    options: dict[str, Any] = {"bootstrap_servers": broker.url, **broker.security}
    files = {name: options.pop(f"ssl_{name}", None) for name in ("cafile", "certfile", "keyfile")}
    password = options.pop("ssl_password", None)
    check_hostname = options.pop("ssl_check_hostname", "true").lower() not in ("false", "0", "no")
    if options.get("security_protocol", "PLAINTEXT") in ("SSL", "SASL_SSL"):
        options["ssl_context"] = create_ssl_context(**files, password=password)
        options["ssl_context"].check_hostname = check_hostname
    return options


async def start_client(client: Client, broker: BrokerSettings) -> None:
    """Start a client, trying for `broker.connect_timeout_s`.

    Raises:
        BrokerUnreachableError: nobody answers, or the log-in is refused.
    """
    clock = asyncio.get_running_loop()
    deadline = clock.time() + broker.connect_timeout_s
    while True:
        try:
            await client.start()
            return
        except _HOPELESS as error:
            raise BrokerUnreachableError(
                f"the broker at {broker.url} refuses the log-in: {error}",
                "See [broker.security]: security_protocol, sasl_mechanism, user name and password.",
            ) from error
        except (KafkaError, OSError) as error:
            if clock.time() >= deadline:
                raise BrokerUnreachableError(
                    f"no Kafka broker answers at {broker.url} after {broker.connect_timeout_s:g} s: {error}",
                    "Start one (`headrace broker`) or name the right one with --broker HOST:PORT.",
                ) from error
            await asyncio.sleep(RETRY_S)


def check_topics(wanted: Iterable[str], existing: Iterable[str], broker: BrokerSettings) -> None:
    """Raise MissingTopicError, naming every topic that is wanted and does not exist."""
    missing = sorted(set(wanted) - set(existing))
    if missing:
        names = ", ".join(repr(name) for name in missing)
        raise MissingTopicError(
            f"at {broker.url} there is no topic {names}",
            f"Create headrace's topics: headrace topics create --broker {broker.url}",
        )
