"""A state goes into one file and comes back the same, or not at all."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stream_app.settings import Settings, load
from stream_app.store.state import StateStore
from stream_app.store.state_folder import StateError
from stream_app.store.state_transfer import export_state, import_state


@dataclass
class Changes:
    users: list[tuple[int, str, bytes | None]] = field(default_factory=list)
    items: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    meta: list[tuple[bytes, bytes]] = field(default_factory=list)


SOME = Changes(
    users=[(0, "ann", b"row \x00\xff"), (2, "bøb", b"")],
    items=[(b"i\0\0\0\1", b"x"), (b"c\0\0\0\1", bytes(range(256)))],
    meta=[(b"recommender", b"\x93")],
)


def at(directory: Path, **overrides: object) -> Settings:
    return load({"worker.state_dir": directory, **overrides})


def filled(directory: Path, changes: Changes) -> None:
    with StateStore.open(directory, at(directory)) as store:
        store.add_partitions(4)
        store.commit(changes, {("events", 0): 5, ("a/b", 3): 1 << 40}, {"events": "id-1"})


def exported(directory: Path, changes: Changes = SOME) -> Path:
    filled(directory / "old", changes)
    with StateStore.read(directory / "old") as store:
        export_state(store, directory / "state.jsonl")
    return directory / "state.jsonl"


def contents(directory: Path) -> object:
    with StateStore.read(directory) as store:
        users = {p: list(store.users(p)) for p in store.partitions()}
        rows = users, list(store.items()), list(store.model_meta())
        return rows, store.offsets, store.topic_ids, store.identity


keys = st.binary(min_size=1, max_size=6)
changes_of_any_kind = st.builds(
    Changes,
    users=st.lists(
        st.tuples(st.integers(0, 3), st.text(min_size=1, max_size=8), st.binary(max_size=40)),
        max_size=12,
        unique_by=lambda row: row[:2],
    ),
    items=st.lists(st.tuples(keys, st.binary(max_size=20)), max_size=8, unique_by=lambda row: row[0]),
    meta=st.lists(st.tuples(keys, st.binary(max_size=20)), max_size=4, unique_by=lambda row: row[0]),
)


@given(changes_of_any_kind)
@hypothesis_settings(max_examples=15, deadline=None)
def test_a_state_comes_back_byte_for_byte(tmp_path_factory: pytest.TempPathFactory, changes: Changes) -> None:
    directory = tmp_path_factory.mktemp("transfer")
    file = exported(directory, changes)
    carried = import_state(file, at(directory / "new"))
    assert (carried.users, carried.items, carried.meta) == (
        len(changes.users),
        len(changes.items),
        len(changes.meta),
    )
    assert contents(directory / "new") == contents(directory / "old")


def test_exporting_what_was_imported_gives_the_same_file(tmp_path: Path) -> None:
    file = exported(tmp_path)
    import_state(file, at(tmp_path / "new"))
    with StateStore.read(tmp_path / "new") as store:
        export_state(store, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == file.read_bytes()


def test_many_rows_take_several_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_app.store.state_transfer.ROWS_PER_BATCH", 2)
    file = exported(tmp_path, Changes(users=[(n % 2, f"user {n}", b"row") for n in range(9)]))
    import_state(file, at(tmp_path / "new"))
    assert contents(tmp_path / "new") == contents(tmp_path / "old")


@pytest.mark.parametrize("line", range(7))
def test_a_changed_line_is_found_and_nothing_is_imported(tmp_path: Path, line: int) -> None:
    file = exported(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 7
    lines[line] = lines[line].replace(b'"', b"'", 1) if line == 0 else lines[line].replace(b"e", b"f", 1)
    file.write_bytes(b"".join(lines))
    with pytest.raises(StateError, match=r"damaged|no export"):
        import_state(file, at(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@given(st.integers(0, 2000))
@hypothesis_settings(max_examples=30, deadline=None)
def test_a_file_that_was_cut_short_is_refused(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    directory = tmp_path_factory.mktemp("cut")
    file = exported(directory)
    whole = file.read_bytes()
    file.write_bytes(whole[: min(size, len(whole) - 2)])
    with pytest.raises(StateError, match=r"damaged|no export"):
        import_state(file, at(directory / "new"))


def test_a_missing_line_is_found(tmp_path: Path) -> None:
    file = exported(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(StateError, match="damaged"):
        import_state(file, at(tmp_path / "new"))


def test_another_schema_is_refused_with_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = exported(tmp_path)
    monkeypatch.setattr("stream_app.store.state_transfer.SCHEMA", 99)
    monkeypatch.setattr("stream_app.store.state_transfer.READABLE", (99,))
    with pytest.raises(StateError, match=r"schema \d+; this headrace imports format 1 and schema 99"):
        import_state(file, at(tmp_path / "new"))


def test_settings_that_the_state_cannot_live_with_are_named(tmp_path: Path) -> None:
    file = exported(tmp_path)
    with pytest.raises(StateError, match=r"models\.sequence\.length"):
        import_state(file, at(tmp_path / "new", **{"models.sequence.length": 50}))
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    file = exported(tmp_path)
    with pytest.raises(StateError, match="already holds a state"):
        import_state(file, at(tmp_path / "old"))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo").write_text("x")
    with pytest.raises(StateError, match="not empty"):
        import_state(file, at(tmp_path / "notes"))


def test_an_empty_folder_can_be_filled(tmp_path: Path) -> None:
    file = exported(tmp_path)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "lock").touch()
    import_state(file, at(tmp_path / "new"))
    assert contents(tmp_path / "new") == contents(tmp_path / "old")


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    file = exported(tmp_path)
    before = file.read_bytes()
    with StateStore.read(tmp_path / "old") as store, pytest.raises(StateError, match="already there"):
        export_state(store, file)
    assert file.read_bytes() == before


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path / "old", SOME)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with StateStore.read(tmp_path / "old") as store, pytest.raises(StateError, match="No space left"):
        export_state(store, tmp_path / "out.jsonl")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old"]


@pytest.mark.parametrize("name", ["missing.jsonl", "folder"])
def test_what_is_no_file_is_said_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StateError, match="can't read"):
        import_state(tmp_path / name, at(tmp_path / "new"))
