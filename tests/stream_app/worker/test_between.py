"""What waits between batches: refreshed lists go out once, in order, and never after something newer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from stream_app.worker.between import Between
from stream_app.worker.freshness import WorkerMetrics
from stream_app.worker.live_snapshot import Swap


class World:
    """Plays pipeline, followers and publisher."""

    def __init__(self, *users: str) -> None:
        self.sent: list[str] = []
        self.shown: list[str] = []
        self.swap: Any = Swap("1", None)
        pipeline = SimpleNamespace(
            recommender=SimpleNamespace(set_reranker=lambda *_: None),
            refresh=lambda some: [SimpleNamespace(user_id=user) for user in some],
            published=lambda lists: self.shown.extend(one.user_id for one in lists),
        )
        followers = SimpleNamespace(take_items=list, take_swap=self.take_swap)
        publisher = SimpleNamespace(recommendations=self.recommendations)
        self.between = Between(
            pipeline, followers, publisher, WorkerMetrics(), in_thread, items_from={}, refresh_users=100  # type: ignore[arg-type]
        )  # fmt: skip
        self.between.touched(users)

    def take_swap(self) -> Any:
        swap, self.swap = self.swap, None
        return swap

    async def recommendations(self, lists: Iterable[Any]) -> None:
        self.sent += [one.user_id for one in lists]

    async def refreshed(self) -> None:
        """A swap, after which everybody has a new list."""
        await self.between.apply()
        while self.between.refresh_is_due:
            assert await self.between.refresh()


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def test_refreshed_lists_go_out_after_the_commit_that_has_their_revisions() -> None:
    async def story() -> None:
        world = World("ann", "bob")
        await world.refreshed()
        await world.between.publish_refreshed()
        assert world.sent == world.shown == []
        world.between.commit_begins()
        await world.between.publish_refreshed()
        await world.between.publish_refreshed()
        assert sorted(world.sent) == ["ann", "bob"]
        assert world.shown == world.sent

    asyncio.run(story())


def test_a_list_that_waits_is_dropped_when_its_user_gets_another_or_is_erased() -> None:
    async def story(begun: bool) -> None:
        world = World("ann", "bob", "eve")
        await world.refreshed()
        if begun:
            world.between.commit_begins()
        world.between.touched(["ann"])
        world.between.erased("eve")
        world.between.commit_begins()
        await world.between.publish_refreshed()
        assert world.sent == world.shown == ["bob"]

    asyncio.run(story(begun=False))
    asyncio.run(story(begun=True))


def test_an_erased_user_is_not_refreshed_after_the_next_swap() -> None:
    async def story() -> None:
        world = World("ann", "bob")
        world.between.erased("ann")
        await world.refreshed()
        world.between.commit_begins()
        await world.between.publish_refreshed()
        assert world.sent == ["bob"]

    asyncio.run(story())
