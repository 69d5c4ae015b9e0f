"""Who may work: the one worker of a group that Kafka gives the single partition of `control`.

In: what a Faust app is assigned. Out: `held`, and a way to wait for a change. Never reads a record of
`control` (`followers` does), and never touches the state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import faust

log = logging.getLogger(__name__)

REBALANCE_S = 1.0
"""How long a join waits for members that don't answer, such as one that was killed."""
SESSION_S = 6.0
"""After this long without a heartbeat a standby takes over; brokers refuse less."""
HEARTBEAT_S = 0.25
REQUEST_S = 20.0

EMBEDDED_CLUSTER = "tansu_cluster"
EMBEDDED_SESSION_S = 2.0
"""The embedded broker takes less, and makes every join wait for half of it."""


class Lease:
    """The lease of a group.

    While members come and go Kafka takes every partition back before it gives it out again. In between the
    lease is not `held` but `unsettled`: work pauses, and nothing is closed, since most often it comes back at
    once."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.held = False
        self.unsettled = True
        self._said_standby = False
        self._changed = asyncio.Condition()

    def attach(self, app: faust.App, topic: str) -> None:
        """Make the app ask for the lease: an agent on the topic, and ears for what is assigned."""

        async def agent(stream: Any) -> None:
            async for _ in stream:
                continue

        app.agent(app.topic(topic, key_serializer="raw", value_serializer="raw"), name="lease")(agent)

        async def assigned(_app: faust.App, partitions: Iterable[Any], **_: Any) -> None:
            await self.settle(any(at.topic == topic for at in partitions))

        async def revoked(_app: faust.App, _partitions: Iterable[Any], **_: Any) -> None:
            await self.unsettle()

        app.on_partitions_assigned.connect(assigned, weak=False)
        app.on_partitions_revoked.connect(revoked, weak=False)

    async def settle(self, held: bool) -> None:
        """Kafka has decided: the lease is ours, or another worker's."""
        async with self._changed:
            if held and not self.held:
                log.info("this worker has the lease of group %r", self.group)
                self._said_standby = False
            elif not held and not self._said_standby:
                log.info(
                    "another worker of group %r has the lease: this one waits as a standby, and takes over "
                    "when that one ends",
                    self.group,
                )
                self._said_standby = True
            self.held, self.unsettled = held, False
            self._changed.notify_all()

    async def unsettle(self) -> None:
        """Kafka has taken all partitions back, and will say who gets them."""
        async with self._changed:
            self.held, self.unsettled = False, True
            self._changed.notify_all()

    async def wait_held(self) -> None:
        """Until the lease is ours."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.held)

    async def wait_settled(self) -> bool:
        """Until Kafka has decided; whether the lease is ours."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self.unsettled)
            return self.held
