from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stream_app.worker.suspects import DIED, MAX_CULPRITS, Marker, NotTheDataError, find_culprits, place

HERE = {("events", 0): 10}


def record(offset: int) -> Any:
    return SimpleNamespace(topic="events", partition=0, offset=offset)


def started(directory: Path, offsets: dict[tuple[str, int], int] = HERE) -> Marker:
    marker = Marker(directory)
    marker.start(offsets)
    return marker


def crashed(directory: Path, end: int = 15) -> None:
    """A worker that started at HERE and died in a batch."""
    marker = started(directory)
    marker.batch({("events", 0): end})
    marker.close()


def breaking(*offsets: int) -> Callable[[], Callable[[Any], None]]:
    def process(one: Any) -> None:
        if one.offset in offsets:
            raise ZeroDivisionError(f"record {one.offset}")

    return lambda: process


def test_restarts_at_the_same_place_are_counted(tmp_path: Path) -> None:
    for restarts in range(4):
        assert started(tmp_path).restarts == restarts


def test_a_restart_elsewhere_counts_anew(tmp_path: Path) -> None:
    crashed(tmp_path)
    crashed(tmp_path)
    assert started(tmp_path, {("events", 0): 11}).restarts == 0


def test_a_commit_counts_anew(tmp_path: Path) -> None:
    crashed(tmp_path)
    marker = started(tmp_path)
    marker.committed({("events", 0): 12})
    marker.close()
    assert started(tmp_path, {("events", 0): 12}).restarts == 1


def test_batches_beyond_a_commit_stay_marked(tmp_path: Path) -> None:
    marker = started(tmp_path)
    marker.batch({("events", 0): 15, ("events", 1): 4})
    marker.committed({("events", 0): 12, ("events", 1): 4})
    marker.close()
    marker = started(tmp_path, {("events", 0): 12, ("events", 1): 4})
    assert marker.restarts == 1
    assert marker.missing({("events", 0): 12, ("events", 1): 4})
    assert not marker.missing({("events", 0): 15})


def test_a_clean_stop_leaves_no_marker(tmp_path: Path) -> None:
    crashed(tmp_path)
    started(tmp_path).clean()
    assert list(tmp_path.iterdir()) == []
    assert started(tmp_path).restarts == 0


def test_suspects_reach_to_the_end_of_the_furthest_batch(tmp_path: Path) -> None:
    crashed(tmp_path, end=15)
    crashed(tmp_path, end=13)
    marker = started(tmp_path)
    assert marker.is_suspect(record(12))
    assert not marker.is_suspect(record(13))
    assert marker.missing({("events", 0): 12})
    assert not marker.missing({("events", 0): 13})


def test_a_half_written_marker_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "marker.json").write_bytes(b'{"committed": {"eve')
    assert started(tmp_path).restarts == 0


def test_the_culprit_is_found_with_its_traceback(tmp_path: Path) -> None:
    marker = started(tmp_path)
    find_culprits(marker, [record(n) for n in range(10, 15)], breaking(12))
    assert list(marker.culprits) == ["events/0/12"]
    assert "ZeroDivisionError: record 12" in marker.culprits["events/0/12"]


def test_each_culprit_is_found_on_a_fresh_copy_that_has_not_met_the_ones_before(tmp_path: Path) -> None:
    met: list[list[int]] = []

    def trial() -> Callable[[Any], None]:
        met.append([])

        def process(one: Any) -> None:
            met[-1].append(one.offset)
            if one.offset in (11, 13):
                raise ZeroDivisionError

        return process

    marker = started(tmp_path)
    find_culprits(marker, [record(n) for n in range(10, 15)], trial)
    assert met == [[10, 11], [10, 12, 13], [10, 12, 14]]


def test_a_record_that_ended_the_process_while_it_was_tried_is_the_culprit(tmp_path: Path) -> None:
    crashed(tmp_path)
    marker = started(tmp_path)
    marker.trying(place(record(12)))
    marker.close()
    assert started(tmp_path).culprits == {"events/0/12": DIED}


def test_culprits_are_kept_until_a_commit_has_passed_them(tmp_path: Path) -> None:
    marker = started(tmp_path)
    marker.blame(place(record(12)), "why")
    marker.clean()
    marker = started(tmp_path)
    assert marker.culprits == {"events/0/12": "why"}
    marker.committed({("events", 0): 12})
    assert marker.culprits == {"events/0/12": "why"}
    marker.committed({("events", 0): 13})
    assert marker.culprits == {}


def test_when_everything_breaks_nothing_is_blamed(tmp_path: Path) -> None:
    marker = started(tmp_path)
    everyone = range(10, 10 + MAX_CULPRITS + 5)
    with pytest.raises(NotTheDataError, match="the last: ZeroDivisionError: record 26"):
        find_culprits(marker, [record(n) for n in everyone], breaking(*everyone))
    assert marker.culprits == {}
