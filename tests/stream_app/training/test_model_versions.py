import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from stream_app.events import Live, Manifest
from stream_app.training.model_versions import (
    SAID,
    ModelsView,
    take_version,
    versions_on_disk,
    versions_taken,
)


def manifest(version: str, against: str | None = None) -> bytes:
    gate = {} if against is None else {"against": against}
    return msgspec.json.encode(
        Manifest(
            name="transformer", version=version, sha256="0" * 64, cut={"events-0": 7}, created_ts=5, gate=gate
        )
    )


def live(version: str, pinned: bool = False) -> bytes:
    return msgspec.json.encode(Live(version=version, pinned=pinned))


def view_of(*records: tuple[str, bytes | None]) -> ModelsView:
    view = ModelsView()
    for key, value in records:
        view.apply(key.encode(), value)
    return view


def test_the_last_record_of_a_key_counts_and_a_tombstone_takes_the_version_out() -> None:
    view = view_of(
        ("transformer/000001", manifest("000001")),
        ("transformer/000002", manifest("000002")),
        ("transformer/000002", manifest("000002", against="000001")),
        ("transformer/000001", None),
        ("transformer/live", live("000001")),
        ("transformer/live", live("000002", pinned=True)),
    )
    assert list(view.manifests) == ["000002"]
    assert view.manifests["000002"].gate == {"against": "000001"}
    assert view.live is not None
    assert (view.live.version, view.live.pinned) == ("000002", True)


def test_what_is_foreign_is_ignored_and_what_cannot_be_read_is_counted() -> None:
    newer = msgspec.json.encode(
        {"v": 2, "name": "transformer", "version": "9", "sha256": "", "cut": {}, "created_ts": 1}
    )
    view = view_of(
        ("other/000001", manifest("000001")),
        ("transformer", b"{}"),
        ("transformer/000001", b"not json"),
        ("transformer/000009", newer),
        ("transformer/live", b'{"version": 3}'),
    )
    assert view.apply(None, b"{}") is None
    assert (view.manifests, view.live, view.unreadable) == ({}, None, 3)


def test_a_pointer_of_a_newer_contract_moves_nothing() -> None:
    view = view_of(
        ("transformer/live", live("000001")), ("transformer/live", b'{"v": 2, "version": "000002"}')
    )
    assert view.live is not None
    assert (view.live.version, view.unreadable) == ("000001", 1)


OUTSIDE = ("/tmp/x", "../../x", "..", ".", "1", "0000001", "000001/", "٠٠٠٠٠١", "9" * 5000, " 000001")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_key_that_the_registry_would_not_give_is_no_version(name: str) -> None:
    view = view_of((f"transformer/{name}", manifest(name)), ("transformer/000001", manifest("000001")))
    assert (list(view.manifests), view.unreadable) == (["000001"], 1)
    assert view.expired([], keep=0) == ["000001"]
    assert view.next_version([name]) == "000002"


@pytest.mark.parametrize("name", [*OUTSIDE, ""])
def test_a_pointer_to_what_is_no_version_moves_nothing(name: str) -> None:
    view = view_of(("transformer/live", live("000001")), ("transformer/live", live(name)))
    assert view.live is not None
    assert (view.live.version, view.unreadable) == ("000001", 1)


def test_a_manifest_of_another_version_than_its_key_s_is_not_taken() -> None:
    view = view_of(("transformer/000001", manifest("000002")))
    assert (view.manifests, view.unreadable) == ({}, 1)


def test_a_record_that_cannot_be_used_is_warned_of_and_many_of_them_fill_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        view = view_of(("transformer/../x", manifest("../x")), *[("transformer/000001", b"{")] * 3 * SAID)
    assert view.unreadable == 1 + 3 * SAID
    assert len(caplog.messages) == SAID
    assert "b'transformer/../x'" in caplog.messages[0]
    assert "'../x' is no version" in caplog.messages[0]


def test_a_gate_that_names_no_version_has_no_previous_one() -> None:
    odd = Manifest(
        name="transformer", version="000001", sha256="", cut={}, created_ts=5, gate={"against": ["000001"]}
    )
    assert view_of(("transformer/000001", msgspec.json.encode(odd))).previous("000001") is None


def test_the_millionth_version_is_newer_than_the_one_before_it() -> None:
    view = view_of(*((f"transformer/{v}", manifest(v)) for v in ("999999", "1000000")))
    assert view.expired(["999998"], keep=1) == ["999998", "999999"]
    assert [row.version for row in view.rows()] == ["999999", "1000000"]


def test_the_previous_version_is_the_one_that_a_candidate_was_judged_against() -> None:
    view = view_of(
        ("transformer/000001", manifest("000001")),
        ("transformer/000002", manifest("000002", against="000001")),
        ("transformer/000003", manifest("000003", against="000001")),
        ("transformer/000004", manifest("000004", against="000003")),
        ("transformer/000005", manifest("000005", against="000000")),
    )
    assert [view.previous(v) for v in ("000004", "000003", "000001")] == ["000003", "000001", None]
    assert view.previous("000005") is None, "a deleted version can't be gone back to"
    assert view.previous("unknown") is None
    assert view.previous(None) is None


def test_a_new_version_is_above_every_one_known_or_on_disk() -> None:
    assert ModelsView().next_version([]) == "000001"
    view = view_of(("transformer/000003", manifest("000003")), ("transformer/live", live("000004")))
    assert view.next_version([]) == "000005"
    assert view.next_version(["000002", "000011"]) == "000012"


def test_the_live_version_and_the_one_before_it_never_expire() -> None:
    view = view_of(
        ("transformer/000002", manifest("000002", against="000001")),
        *((f"transformer/{v:06d}", manifest(f"{v:06d}", against="000002")) for v in range(3, 9)),
        ("transformer/000001", manifest("000001")),
        ("transformer/live", live("000002")),
    )
    on_disk = [f"{v:06d}" for v in range(9)]
    assert view.expired(on_disk, keep=3) == ["000000", "000003", "000004", "000005"]
    assert view.expired(on_disk, keep=20) == []


def test_rows_mark_the_live_the_pinned_and_the_previous_version() -> None:
    view = view_of(
        ("transformer/000002", manifest("000002", against="000001")),
        ("transformer/000001", manifest("000001")),
        ("transformer/live", live("000002", pinned=True)),
    )
    marks = [(r.version, r.live, r.pinned, r.previous) for r in view.rows()]
    assert marks == [("000001", False, False, True), ("000002", True, True, False)]
    assert view.rows()[0].cut == {"events-0": 7}


def test_only_finished_snapshots_count_as_versions_on_disk(tmp_path: Path) -> None:
    for name in ("000002", "000001", ".000003.tmp", "notes", "2024", "000003"):
        (tmp_path / name).mkdir()
        if name != "000003":
            (tmp_path / name / "manifest.json").write_text("{}")
    (tmp_path / "000004").write_text("a file")
    assert versions_on_disk(tmp_path) == ["000001", "000002"]
    assert versions_taken(tmp_path) == ["000001", "000002", "000003"]
    assert versions_on_disk(tmp_path / "absent") == []


def test_a_version_is_taken_once(tmp_path: Path) -> None:
    view = view_of(("transformer/000004", manifest("000004")))
    assert take_version(tmp_path / "new", view) == "000005"
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: take_version(tmp_path / "new", view), range(20)))
    assert sorted(taken) == [f"{number:06d}" for number in range(6, 26)]
