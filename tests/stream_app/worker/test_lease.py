from __future__ import annotations

import asyncio
import logging

import pytest

from stream_app.worker.lease import Lease


def test_a_worker_that_is_given_the_lease_stops_waiting() -> None:
    async def run() -> bool:
        lease = Lease("group")
        waiting = asyncio.create_task(lease.wait_held())
        await lease.settle(True)
        await asyncio.wait_for(waiting, 5)
        return lease.held

    assert asyncio.run(run())


def test_a_standby_says_so_once_however_often_the_group_changes(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        lease = Lease("group")
        for _ in range(3):
            await lease.unsettle()
            await lease.settle(False)

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    assert [record.message for record in caplog.records if "standby" in record.message] == [
        "another worker of group 'group' has the lease: this one waits as a standby, and takes over when that one ends"
    ]


@pytest.mark.parametrize("again", [True, False])
def test_while_the_group_changes_nobody_holds_the_lease_until_it_is_settled(again: bool) -> None:
    async def run() -> tuple[bool, bool]:
        lease = Lease("group")
        await lease.settle(True)
        await lease.unsettle()
        before = lease.held
        settled = asyncio.create_task(lease.wait_settled())
        await lease.settle(again)
        return before, await asyncio.wait_for(settled, 5)

    assert asyncio.run(run()) == (False, again)
