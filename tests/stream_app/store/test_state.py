from __future__ import annotations

import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.state.persistence import Delta
from stream_app.settings import load
from stream_app.store import state_identity
from stream_app.store.state import OffsetWentBackError, StateStore
from stream_app.store.state_folder import FolderLock, StateError
from stream_app.store.state_identity import check_settings

SETTINGS = load()


@dataclass
class Changes:
    users: list[tuple[int, str, bytes | None]] = field(default_factory=list)
    items: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    meta: list[tuple[bytes, bytes]] = field(default_factory=list)


def opened(directory: Path) -> StateStore:
    store = StateStore.open(directory, SETTINGS)
    store.add_partitions(2)
    return store


def test_rows_meta_and_offsets_of_a_commit_are_there_after_reopening(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit(
            Changes(
                users=[(0, "ann", b"row a"), (1, "bob", b"row b")],
                items=[(b"i1", b"item"), (b"i0", b"other")],
                meta=[(b"scored", b"7")],
            ),
            {("events", 0): 5, ("events", 1): 2},
            {"events": "id-1"},
        )
    with StateStore.open(tmp_path, SETTINGS) as store:
        assert store.load_users(0, ["ann", "bob"]) == [b"row a", None]
        assert store.load_users(1, ["bob"]) == [b"row b"]
        assert list(store.items()) == [(b"i0", b"other"), (b"i1", b"item")]
        assert list(store.model_meta()) == [(b"scored", b"7")]
        assert store.offsets == {("events", 0): 5, ("events", 1): 2}
        assert store.topic_ids == {"events": "id-1"}
        assert store.partitions() == [0, 1]
        assert list(store.users(0)) == [("ann", b"row a")]


def test_an_erased_user_is_gone(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit(Changes(users=[(0, "ann", b"row")]), {("events", 0): 1})
        store.commit(Changes(users=[(0, "ann", None)]), {("events", 0): 2})
        assert store.load_users(0, ["ann"]) == [None]


def test_users_are_loaded_as_an_announced_commit_will_leave_them(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit(Changes(users=[(0, name, b"old") for name in ("ann", "bob", "eve")]), {("events", 0): 1})
        changes = Changes(users=[(0, "ann", b"new"), (0, "bob", None), (1, "eve", b"another eve")])
        store.announce(changes)
        found = store.load_users(0, ["ann", "bob", "eve", "nobody"])
        assert found == [b"new", None, b"old", None]
        with ThreadPoolExecutor(1) as beside:
            beside.submit(store.commit, changes, {("events", 0): 2}).result()
        assert store.load_users(0, ["ann", "bob", "eve", "nobody"]) == found
        store.commit(Changes(users=[(0, "ann", b"newest")]), {("events", 0): 3})
        assert store.load_users(0, ["ann"]) == [b"newest"]


def test_a_partition_without_a_column_family_has_no_users(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store.load_users(7, ["ann"]) == [None]


def test_an_offset_never_goes_back_and_nothing_of_such_a_commit_is_written(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit(Changes(), {("events", 0): 5})
        with pytest.raises(OffsetWentBackError, match="events-0: a commit of offset 4 after 5"):
            store.commit(Changes(users=[(0, "ann", b"row")]), {("events", 1): 9, ("events", 0): 4})
        assert store.load_users(0, ["ann"]) == [None]
        assert store.offsets == {("events", 0): 5}


def test_topics_with_a_slash_or_a_number_in_their_name_keep_their_offsets(tmp_path: Path) -> None:
    offsets = {("a/1", 0): 1, ("a", 10): 2, ("events-1", 0): 3}
    with opened(tmp_path) as store:
        store.commit(Changes(), offsets)
    with StateStore.open(tmp_path, SETTINGS) as store:
        assert store.offsets == offsets


def test_a_second_worker_on_the_folder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with opened(tmp_path):
        with pytest.raises(StateError, match=rf"in use by another process \(pid {os.getpid()}\)"):
            StateStore.open(tmp_path, SETTINGS)
        with pytest.raises(StateError, match="stop that one, or give this one its own --state-dir"):
            StateStore.read(tmp_path)


def test_a_closed_folder_can_be_opened_again(tmp_path: Path) -> None:
    opened(tmp_path).close()
    opened(tmp_path).close()
    FolderLock(tmp_path).release()


def test_a_lock_held_by_the_caller_serves_the_store_and_outlives_it(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    StateStore.open(tmp_path, SETTINGS, lock=lock).close()
    with pytest.raises(StateError, match="in use"):
        FolderLock(tmp_path)
    lock.release()


def test_another_schema_version_is_refused_with_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(state_identity, "SCHEMA", 0)
        older.setattr("stream_app.store.state.SCHEMA", 0)
        opened(tmp_path).close()
    with pytest.raises(StateError, match=r"schema version 0.*\n.*version that wrote it, or start over"):
        StateStore.open(tmp_path, SETTINGS)
    with pytest.raises(StateError, match="schema version 0"):
        StateStore.read(tmp_path)


def test_the_version_before_is_read_and_becomes_this_one_with_the_next_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(state_identity, "SCHEMA", 3)
        opened(tmp_path).close()
    for commits, schema in ((False, 3), (True, 3), (False, state_identity.SCHEMA)):
        with StateStore.open(tmp_path, SETTINGS) as store:
            assert store.identity is not None
            assert store.identity.schema == schema
            if commits:
                store.commit(Delta(), {("events", 0): 1})


def test_settings_that_the_rows_depend_on_are_refused_by_name_and_value(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with pytest.raises(StateError, match=r"models\.biased_mf\.factors was 10 and is now 12") as refusal:
        StateStore.open(tmp_path, load({"models.biased_mf.factors": 12}))
    assert "Set them back, or start over in a new --state-dir" in str(refusal.value)
    opened(tmp_path).close()


def test_a_setting_that_the_state_is_older_than_is_none_that_changed() -> None:
    now = {"models.blend.hidden": 16, "models.biased_mf.factors": 10, "seed": 0}
    older = {"models.biased_mf.factors": 10, "seed": 0}
    assert check_settings(Path("there"), older, now) == ["models.blend.hidden"]
    with pytest.raises(StateError, match=r"factors was 12 and is now 10"):
        check_settings(Path("there"), older | {"models.biased_mf.factors": 12}, now)
    with pytest.raises(StateError, match="seed was None"):
        check_settings(Path("there"), {}, now)


def test_input_topics_may_be_added_but_not_change_places(tmp_path: Path) -> None:
    with StateStore.open(tmp_path, load({"topics.events": ["clicks", "ratings"]})):
        pass
    with pytest.raises(StateError, match=r"topics\.events was \['clicks', 'ratings'\]"):
        StateStore.open(tmp_path, load({"topics.events": ["ratings", "clicks"]}))
    with StateStore.open(tmp_path, load({"topics.events": ["clicks", "ratings", "likes"]})) as store:
        assert store.changed_settings == ["topics.events"]


def test_free_settings_may_change_and_are_named(tmp_path: Path) -> None:
    opened(tmp_path).close()
    other = load({"models.blend.lr": 0.01, "events.weights": {"click": 3.0}})
    with StateStore.open(tmp_path, other) as store:
        assert "models.blend.lr" in store.changed_settings
        assert "events.weights.click" in store.changed_settings
        store.commit(Changes(), {("events", 0): 1})
    with StateStore.open(tmp_path, other) as store:
        assert store.changed_settings == []


def test_a_start_that_commits_nothing_leaves_the_settings_as_they_were(tmp_path: Path) -> None:
    with StateStore.open(tmp_path, load({"topics.events": ["clicks"]})):
        pass
    with StateStore.open(tmp_path, load({"topics.events": ["clicks", "mistaken"]})):
        pass
    with StateStore.open(tmp_path, load({"topics.events": ["clicks"]})) as store:
        assert store.changed_settings == []


def test_a_stopped_workers_state_is_read_whatever_its_settings_were(tmp_path: Path) -> None:
    with StateStore.open(tmp_path, load({"models.biased_mf.factors": 12})) as store:
        store.add_partitions(1)
        store.commit(Changes(users=[(0, "ann", b"row")]), {("events", 0): 1})
    with StateStore.read(tmp_path) as store:
        assert list(store.users(0)) == [("ann", b"row")]
        assert store.identity is not None
        assert store.identity.settings["models.biased_mf.factors"] == 12


def test_reading_where_no_state_is_says_so_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="holds no headrace state"):
        StateStore.read(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"can't use .*file/state as a state folder"):
        StateStore.open(tmp_path / "file" / "state", SETTINGS)


def test_a_checkpoint_is_a_state_of_its_own(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as store:
        store.commit(Changes(users=[(0, "ann", b"row")]), {("events", 0): 3})
        store.checkpoint(tmp_path / "copy")
        with StateStore.open(tmp_path / "copy", SETTINGS) as copy:
            copy.commit(Changes(users=[(0, "ann", b"changed")]), {("events", 0): 4})
        assert store.load_users(0, ["ann"]) == [b"row"]
        assert store.offsets == {("events", 0): 3}


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    from stream_app.settings import load
    from stream_app.store.state import StateStore
    from stream_app.store.state_folder import StateError
    from tests.stream_app.store.test_state import Changes

    store = StateStore.open(Path(sys.argv[1]), load())
    store.add_partitions(1)
    store.commit(Changes(users=[(0, "ann", b"row")]), {("events", 0): 1})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    try:
        store.commit(Changes(users=[(0, "ann", bytes(4 << 20)), (0, "bob", b"row")]), {("events", 0): 2})
    except StateError as error:
        print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on the size of files here")
def test_a_full_disk_is_named_and_leaves_the_last_commit(tmp_path: Path) -> None:
    """The disk is "full" by RLIMIT_FSIZE: the write-ahead log can't grow past a megabyte."""
    program = [sys.executable, "-c", dedent(FULL_DISK), str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False)
    assert f"the disk under {tmp_path} is full" in done.stdout, done.stderr
    with StateStore.open(tmp_path, SETTINGS) as store:
        assert store.load_users(0, ["ann", "bob"]) == [b"row", None]
        assert store.offsets == {("events", 0): 1}


IDS = st.text("aå🙂 /", min_size=1, max_size=3)
COMMITS = st.lists(
    st.tuples(
        st.dictionaries(st.tuples(st.integers(0, 1), IDS), st.none() | st.binary(max_size=20), max_size=5),
        st.dictionaries(
            st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 1)), st.integers(0, 9), max_size=3
        ),
    ),
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(commits=COMMITS)
def test_the_state_is_what_the_accepted_commits_wrote(
    tmp_path_factory: pytest.TempPathFactory,
    commits: list[tuple[dict, dict]],  # type: ignore[type-arg]
) -> None:
    directory = tmp_path_factory.mktemp("state")
    rows: dict[tuple[int, str], bytes] = {}
    offsets: dict[tuple[str, int], int] = {}
    with opened(directory) as store:
        for users, moved in commits:
            changes = Changes(users=[(number, user, row) for (number, user), row in users.items()])
            if any(offset < offsets.get(at, 0) for at, offset in moved.items()):
                with pytest.raises(OffsetWentBackError):
                    store.commit(changes, moved)
                continue
            store.commit(changes, moved)
            offsets |= moved
            rows = {at: row for at, row in (rows | users).items() if row is not None}
    with StateStore.open(directory, SETTINGS) as store:
        found = {(number, user): row for number in (0, 1) for user, row in store.users(number)}
        assert (found, store.offsets) == (rows, offsets)
