"""The order of the commit protocol's steps, with everything around it played by fakes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.state.sequences import MAX_BATCH
from stream_app.batch.pipeline import Processed
from stream_app.batch.refusals import DeadLetter
from stream_app.errors import HeadraceError
from stream_app.settings import load
from stream_app.worker import commits
from stream_app.worker.commits import Commits
from stream_app.worker.failpoints import Failpoints
from stream_app.worker.freshness import WorkerMetrics
from stream_app.worker.session import SOON, PipelineError, Session
from stream_app.worker.suspects import Marker


def record(offset: int, partition: int = 0) -> Any:
    return SimpleNamespace(topic="events", partition=partition, offset=offset, timestamp_type=0)


@dataclass
class World:
    """Plays reader, publisher, followers, store and pipeline; writes down what happens, in order.

    Between two polls go by `poll_s` on the commits' clock, and a write takes `write_s`.
    """

    batches: list[list[Any]]
    lag: int = 0
    room: int = 10**9
    dirty: int = 0
    breaks: Callable[[Any], bool] = lambda _record: False
    events: list[Any] = field(default_factory=list)
    offsets: dict[tuple[str, int], int] = field(default_factory=lambda: {("events", 0): 0})
    paused: bool = False
    owes_rows: bool = False
    has_lease: bool = True
    now: float = 0.0
    poll_s: float = 0.001
    write_s: float = 0.001
    in_hand: int = 0
    left_behind: list[Any] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    polled_at: list[float] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = self.room
        self.disk = asyncio.Event()
        self.disk.set()
        self.reader = SimpleNamespace(
            offsets=dict(self.offsets),
            poll=self.poll,
            lag=lambda: self.lag,
            facts=SimpleNamespace(ids={"events": "id"}),
            commit_group=self.commit_group,
        )
        self.publisher = SimpleNamespace(
            recommendations=self.recommendations,
            dead_letters=self.dead_letters,
            acknowledged=self.acknowledged,
            quiet=True,
        )
        recommender = SimpleNamespace(
            dirty_bytes=self.dirty,
            take_dirty=self.take_dirty,
            owes_rows=self.owes_rows,
            mark_clean=self.mark_clean,
            metrics=dict,
            users=(),
        )
        decoder = SimpleNamespace(decode=self.decode)
        self.pipeline = SimpleNamespace(process=self.process, recommender=recommender, decoder=decoder)
        self.store = SimpleNamespace(
            offsets={("events", 0): 0},
            announce=lambda changes: self.events.append("announced"),  # noqa: ARG005
            commit=self.commit,
        )
        self.followers = SimpleNamespace(paused=self.paused, check=lambda: None)
        self.between = SimpleNamespace(
            apply=self.nothing,
            touched=lambda users: list(users),
            erased=self.events.append,
            refresh_is_due=False,
            items_done={},
            commit_begins=lambda: None,
            publish_refreshed=self.publish_refreshed,
        )
        self.refreshed: list[str] = []

    async def nothing(self) -> None: ...

    async def publish_refreshed(self) -> bool:
        published, self.refreshed = self.refreshed, []
        self.events += published
        return bool(published)

    async def poll(self, limit: int) -> list[Any]:
        await asyncio.sleep(0)  # a write that can begin does so first
        self.limits.append(limit)
        self.polled_at.append(time.monotonic())
        self.now += self.poll_s
        records = self.batches.pop(0) if self.batches else []
        self.in_hand += len(records)
        return records

    def decode(self, records: Sequence[Any], received_ms: float) -> Any:
        self.events.append(("decoded", [r.offset for r in records]))
        return SimpleNamespace(records=records, received_ms=received_ms)

    def process(self, records: Sequence[Any], **options: Any) -> Processed:
        self.options.append(options)
        if any(map(self.breaks, records)):
            raise ZeroDivisionError("a model broke")
        taken = min(len(records), self.left)
        self.left -= taken
        self.in_hand -= taken
        self.events.append(("learned", [r.offset for r in records[:taken]]))
        return Processed(taken, counts=Counter())

    async def recommendations(self, _lists: Any) -> None:
        self.events.append("sent")

    async def dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        self.in_hand -= len(letters)
        self.events += [("dead", letter.record.offset, letter.reason) for letter in letters]

    async def acknowledged(self) -> None:
        self.events.append("acknowledged")

    async def lose_the_lease(self) -> None:
        self.has_lease = False

    def take_dirty(self, *, whole: bool) -> str:
        self.whole.append(whole)
        return "changes"

    def mark_clean(self) -> None:
        self.left = self.room
        self.events.append("clean")

    async def beside(self, function: Callable[..., Any], *arguments: Any) -> Any:
        await self.disk.wait()
        return function(*arguments)

    def commit(self, changes: Any, offsets: Mapping[Any, int], ids: Mapping[str, str]) -> int:
        assert (changes, ids) == ("changes", {"events": "id"})
        self.now += self.write_s
        self.events.append(("committed", offsets["events", 0]))
        return 100

    async def commit_group(self, offsets: Mapping[Any, int]) -> None:
        self.events.append(("told", offsets["events", 0]))


def hold_the_disk(world: World, *, until: Any) -> None:
    """No write ends before lists are sent after this event."""
    world.disk.clear()

    async def recommendations(_lists: Any) -> None:
        if until in world.events:
            world.disk.set()

    world.publisher.recommendations = recommendations


def run(world: World, directory: Path, marker: Marker | None = None, **settings: Any) -> list[Any]:
    """Let a session work until every batch was polled, then finish; what happened."""
    overrides = {
        "worker.commit_s": 1000,
        **{name.replace("__", "."): value for name, value in settings.items()},
    }
    if marker is None:
        marker = Marker(directory)
        marker.start(world.offsets)

    async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    async def work() -> None:
        settings, metrics, failpoints = load(overrides), WorkerMetrics(), Failpoints()
        commits = Commits(
            settings, world.store, world.pipeline.recommender, world.reader, world.publisher, world.between, marker,
            metrics, failpoints, in_thread, world.beside, lambda: world.now,
        )  # fmt: skip
        one = Session(
            settings, world.pipeline, world.reader, world.publisher, world.followers,
            world.between, commits, marker, metrics, failpoints, in_thread,
        )  # fmt: skip
        turns = 0

        def go_on() -> bool:
            nonlocal turns
            turns += 1
            left = bool(world.batches) or one._ahead.begun or world.in_hand > 0
            return world.has_lease and left and turns < 20

        await one.work(go_on)
        await one.finish()
        await one.close()
        world.left_behind = one.backlog

    asyncio.run(work())
    return world.events


def test_a_commit_waits_for_the_acknowledgements_and_a_batch_does_not(tmp_path: Path) -> None:
    world = World([[record(0), record(1)], [record(2)]])
    assert run(world, tmp_path) == [
        ("learned", [0, 1]), "sent", ("learned", [2]), "sent",
        "acknowledged", "announced", "clean", ("committed", 3), ("told", 3),
    ]  # fmt: skip


def test_the_first_thing_that_is_ever_committed_is_where_reading_began(tmp_path: Path) -> None:
    world = World([])
    world.store.offsets = {}
    assert run(world, tmp_path) == ["acknowledged", "announced", "clean", ("committed", 0), ("told", 0)]


def test_without_anything_new_nothing_is_committed(tmp_path: Path) -> None:
    assert run(World([[], []]), tmp_path) == []


def test_the_last_commit_leaves_no_rows_to_be_made_whole(tmp_path: Path) -> None:
    world = World([[record(0)], [record(1)], []])
    run(world, tmp_path, worker__commit_s=1e-9, worker__commit_share=1.0)
    assert world.whole == [False, False]
    world = World([[record(0)], [record(1)], []], owes_rows=True)
    events = run(world, tmp_path, worker__commit_s=1e-9, worker__commit_share=1.0)
    assert world.whole == [False, False, True]
    assert [event for event in events if event[0] == "committed"] == [
        ("committed", 1),
        *2 * [("committed", 2)],
    ]


def test_a_commit_is_due_when_its_time_has_come(tmp_path: Path) -> None:
    world = World([[record(0)], [record(1)], []])
    events = run(world, tmp_path, worker__commit_s=1e-9, worker__commit_share=1.0)
    assert [event for event in events if event[0] == "committed"] == [("committed", 1), ("committed", 2)]


def test_a_commit_that_is_due_waits_for_a_quiet_moment_but_not_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World([[record(0)], [record(1)], []])
    world.publisher.quiet = False
    assert run(world, tmp_path, worker__commit_s=1e-9, worker__commit_share=1.0)[-5:] == [
        "acknowledged", "announced", "clean", ("committed", 2), ("told", 2),
    ]  # fmt: skip
    assert ("committed", 1) not in world.events
    monkeypatch.setattr(commits, "PATIENCE_S", 0.0)
    world = World([[record(0)], [record(1)], []])
    world.publisher.quiet = False
    assert ("committed", 1) in run(world, tmp_path, worker__commit_s=1e-9, worker__commit_share=1.0)


def test_a_batch_that_a_long_commit_has_kept_waiting_is_left_where_work_has_ended(tmp_path: Path) -> None:
    world = World([[record(0)], [record(1)]])
    world.publisher.acknowledged = world.lose_the_lease
    events = run(world, tmp_path, worker__commit_s=1e-9, worker__commit_share=1.0)
    assert [event for event in events if event[0] in ("learned", "committed")] == [
        ("learned", [0]), ("committed", 1),
    ]  # fmt: skip
    assert [one.offset for one in world.left_behind] == [1]


def test_enough_dirty_bytes_wait_for_no_quiet_moment(tmp_path: Path) -> None:
    world = World([[record(0)], [record(1)]], dirty=1 << 20)
    world.publisher.quiet = False
    options = {"worker__commit_s": 1e-9, "worker__commit_bytes": 1 << 20, "worker__commit_share": 1.0}
    assert ("committed", 1) in run(world, tmp_path, **options)


def test_a_commit_comes_before_the_batch_that_was_read_meanwhile(tmp_path: Path) -> None:
    world = World([[record(0)], [record(1)]])
    assert run(world, tmp_path, worker__commit_s=1e-9, worker__commit_share=1.0)[:5] == [
        ("learned", [0]), "sent", "acknowledged", "announced", "clean",
    ]  # fmt: skip


@pytest.mark.parametrize("paused", [False, True])
def test_a_topic_beside_the_events_that_cannot_be_followed_ends_the_work(
    tmp_path: Path, paused: bool
) -> None:
    world = World([[record(0)], [record(1)], []], paused=paused)
    checks = iter([None, HeadraceError("models can't be followed")])

    def check() -> None:
        if (failure := next(checks)) is not None:
            raise failure

    world.followers.check = check
    with pytest.raises(HeadraceError, match="models can't be followed"):
        run(world, tmp_path)
    assert ("learned", [1]) not in world.events


def test_a_write_that_fails_ends_the_work(tmp_path: Path) -> None:
    world = World([[record(0)], [record(1)], [record(2)], []])
    world.store.commit = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run(world, tmp_path, worker__commit_s=1e-9, worker__commit_share=1.0)
    assert ("told", 1) not in world.events
    assert ("learned", [2]) not in world.events


def test_batches_go_on_while_a_commit_is_written_and_no_other_begins_before_it_is(tmp_path: Path) -> None:
    world = World([[record(n)] for n in range(4)])
    hold_the_disk(world, until=("learned", [2]))
    events = run(world, tmp_path, worker__commit_s=1e-9, worker__commit_share=1.0)
    assert [event for event in events if event[0] in ("learned", "committed")][:4] == [
        ("learned", [0]), ("learned", [1]), ("learned", [2]), ("committed", 1),
    ]  # fmt: skip


def test_whoever_is_erased_gets_no_refreshed_list(tmp_path: Path) -> None:
    world = World([[record(0)]])
    erased, listed = SimpleNamespace(user_id="eve", value=None), SimpleNamespace(user_id="ann", value=b"{}")
    world.pipeline.process = lambda *_, **__: Processed(1, recommendations=[erased, listed], counts=Counter())  # type: ignore[list-item]
    run(world, tmp_path)
    assert "eve" in world.events
    assert "ann" not in world.events


def test_refreshed_lists_go_out_when_their_revisions_are_written(tmp_path: Path) -> None:
    world = World([[record(0)], [record(1)], []])

    async def publish_refreshed() -> None:
        world.events.append("refreshed")

    world.between.publish_refreshed = publish_refreshed
    world.between.commit_begins = lambda: world.events.append("begins")
    events = run(world, tmp_path, worker__commit_s=1e-9, worker__commit_share=1.0)
    of_commits = [event for event in events if event in ("begins", "refreshed") or event[0] == "committed"]
    assert of_commits == ["begins", ("committed", 1), "refreshed", "begins", ("committed", 2), "refreshed"]


def test_a_commit_is_due_when_enough_is_dirty(tmp_path: Path) -> None:
    world = World([[record(0)], [record(1)], []], dirty=1 << 20)
    events = run(world, tmp_path, worker__commit_bytes=1 << 20, worker__commit_share=1.0)
    assert [event for event in events if event[0] == "committed"] == [("committed", 1), ("committed", 2)]


def test_commits_leave_most_of_the_time_to_the_events(tmp_path: Path) -> None:
    """Everything is due at once, but a write that took 10 ms may be 1/4 of the time: 30 ms pass before the next."""
    world = World([*([record(n)] for n in range(8)), []], dirty=1 << 30, poll_s=0.008, write_s=0.01)
    events = run(world, tmp_path, worker__commit_s=1e-9, worker__commit_share=0.25)
    assert [event[1] for event in events if event[0] == "committed"] == [1, 5, 8]


def test_where_users_find_no_room_the_rest_of_the_batch_comes_after_a_commit(tmp_path: Path) -> None:
    world = World([[record(n) for n in range(5)]], room=2)
    events = [event for event in run(world, tmp_path) if event[0] in ("learned", "committed")]
    assert events == [
        ("learned", [0, 1]), ("learned", [2, 3]), ("committed", 2), ("learned", [4]), ("committed", 4), ("committed", 5),  # noqa: E501
    ]  # fmt: skip


def test_after_something_unexpected_nothing_is_written_and_the_message_names_the_records(
    tmp_path: Path,
) -> None:
    world = World([[record(0)], [record(1), record(2)]], breaks=lambda one: one.offset == 2)
    with pytest.raises(
        PipelineError, match="events-0 offsets 1 to 2 could not be processed: ZeroDivisionError"
    ):
        run(world, tmp_path)
    assert world.events == [("learned", [0]), "sent"]


def test_a_culprit_goes_to_the_dead_letters_and_its_batch_is_learned_without_it(tmp_path: Path) -> None:
    marker = Marker(tmp_path)
    marker.start({("events", 0): 0})
    marker.blame("events/0/1", "Traceback …")
    world = World([[record(0), record(1), record(2)]], breaks=lambda one: one.offset == 1)
    events = run(world, tmp_path, marker)
    assert events[:2] == [("dead", 1, "pipeline_error"), ("learned", [0, 2])]
    assert ("committed", 3) in events
    assert marker.culprits == {}


def test_a_batch_of_culprits_alone_is_committed_too(tmp_path: Path) -> None:
    marker = Marker(tmp_path)
    marker.start({("events", 0): 0})
    marker.blame("events/0/0", "Traceback …")
    assert ("committed", 1) in run(World([[record(0)]]), tmp_path, marker)


@pytest.mark.parametrize(
    ("lag", "limit", "rerank", "coalesce"),
    [(0, SOON, True, False), (50, MAX_BATCH, True, True), (100, MAX_BATCH, False, True)],
)
def test_lag_sheds_lists_first_and_the_reranker_second(
    tmp_path: Path, lag: int, limit: int, rerank: bool, coalesce: bool
) -> None:
    world = World([[record(0)]], lag=lag)
    run(world, tmp_path, worker__lag_coalesce=50, worker__lag_skip_rerank=100)
    assert world.limits[0] == limit
    assert (world.options[0]["rerank"], world.options[0]["coalesce"]) == (rerank, coalesce)


@pytest.mark.parametrize(("lag", "limit"), [(8 * SOON + 80, SOON + 10), (8 * 3000, 2000)])
def test_batches_grow_with_what_waits(tmp_path: Path, lag: int, limit: int) -> None:
    world = World([[record(0)]], lag=lag)
    run(world, tmp_path, worker__lag_coalesce=100_000)
    assert world.limits[0] == limit


def test_fetches_lie_apart(tmp_path: Path) -> None:
    world = World([[record(0)], [record(1)]])
    run(world, tmp_path, worker__linger_ms=30)
    first, second = world.polled_at[:2]
    assert second - first >= 0.03


def test_a_paused_worker_polls_nothing(tmp_path: Path) -> None:
    world = World([[record(0)]], paused=True)
    assert run(world, tmp_path, worker__poll_ms=1) == []
    assert world.limits == []


def test_behind_the_next_batch_is_decoded_while_one_is_worked_on_and_nothing_is_committed_of_it(
    tmp_path: Path,
) -> None:
    world = World([[record(0)], [record(1)]], lag=5000)
    events = run(world, tmp_path)
    assert events.index(("decoded", [1])) < events.index(("learned", [1]))
    assert ("decoded", [0]) not in events  # nothing came before it
    assert [e[1] for e in events if e[0] == "committed"][-1] == 2
    assert world.options[1]["decoded"].records == [record(1)]


def test_refreshed_lists_that_the_last_commit_lets_out_are_in_one_more(tmp_path: Path) -> None:
    """What their users are shown is known once they are out; a clean stop forgets none of it."""
    world = World([[record(0)]])
    world.refreshed = ["refreshed"]
    events = run(world, tmp_path)
    at = events.index("refreshed")
    assert ("committed", 1) in events[:at]
    assert ("committed", 1) in events[at:]
