"""The trainer's history: bounded, sorted into sequences, and never half-saved."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.training import event_segments
from models.training.event_log import EventLog
from models.training.event_segments import EventLogError
from models.vocabulary import MAX_SCENARIOS, kind_of


def fill(log: EventLog, start: int, n: int, users: int = 5) -> None:
    """Events start to start + n of an endless, repeatable stream."""
    numbers = np.arange(start, start + n)
    log.append(
        [f"user-{i * 7 % users}" for i in numbers],
        [f"item-{i // 3}" for i in numbers],
        [("click", "rating")[i % 2] for i in numbers],
        np.where(numbers % 2, 4.0, np.nan).astype(np.float32),
        np.ones(n, np.float32),
        1000 * numbers.astype(np.int64),
        {"events-0": start + n},
    )


def content(log: EventLog) -> list[tuple[object, ...]]:
    """What the log holds, in ids."""
    columns = [log.column(name) for name in ("user", "item", "action", "value", "weight", "ts")]
    return [
        (
            log.users.ids[u],
            log.items.ids[i],
            log.actions[a],
            float(np.nan_to_num(v, nan=-1)),
            float(w),
            int(t),
        )
        for u, i, a, v, w, t in zip(*columns, strict=True)
    ]


def test_oldest_events_are_dropped() -> None:
    log, whole = EventLog(100), EventLog(1000)
    for start in range(0, 390, 30):
        fill(log, start, 30)
        fill(whole, start, 30)
    assert (log.first, log.end, len(log)) == (290, 390, 100)
    assert content(log) == content(whole)[290:]
    assert len(log.items) == len({row[1] for row in content(log)})
    assert len(log.items.ids) < 60


def test_batch_larger_than_the_capacity() -> None:
    log = EventLog(10)
    fill(log, 0, 5000)
    assert (log.first, log.end) == (4990, 5000)
    assert content(log)[0][1] == f"item-{4990 // 3}"


def test_sequences_are_by_user_and_time() -> None:
    log = EventLog(100)
    log.append(
        ["b", "a", "b", "a", "b"],
        ["1", "2", "3", "4", "5"],
        ["x"] * 5,
        np.full(5, np.nan, np.float32),
        np.ones(5, np.float32),
        np.array([50, 10, 40, 30, 50]),
        {},
    )
    s = log.sequences()
    assert s.starts.tolist() == [0, 3, 5]
    assert [log.items.ids[i] for i in s.item] == ["3", "1", "5", "2", "4"]
    assert s.gap.tolist() == [-1, 10, 0, -1, 20]
    assert s.number.tolist() == [2, 0, 4, 1, 3]
    assert log.items_held() == ["1", "2", "3", "4", "5"]


def test_scenarios_beyond_the_last_are_not_told_apart(tmp_path: Path) -> None:
    log = EventLog(1000)
    kinds = [kind_of("click", f"place {n}") for n in range(40)]
    log.append([f"u{n}" for n in range(40)], ["i"] * 40, kinds, np.full(40, np.nan, np.float32),
               np.ones(40, np.float32), np.arange(40), {})  # fmt: skip
    assert log.actions == [*kinds[:MAX_SCENARIOS], "click"]
    assert log.column("action")[MAX_SCENARIOS:].tolist() == [MAX_SCENARIOS] * (40 - MAX_SCENARIOS)
    log.save(tmp_path)
    assert content(EventLog.load(tmp_path, 1000)) == content(log)


def test_the_last_codes_of_kinds_are_for_types() -> None:
    log = EventLog(1000)
    kinds = [kind_of(f"type {n}", f"{place}") for n in range(17) for place in range(MAX_SCENARIOS)]
    kinds += [kind_of("skip", "3"), "skip"]
    n = len(kinds)
    log.append(
        ["u"] * n, ["i"] * n, kinds, np.full(n, np.nan, np.float32), np.ones(n, np.float32), np.arange(n), {}
    )
    assert [log.actions[code] for code in log.column("action")[-3:]] == ["type 16", "skip", "skip"]


def test_empty_log() -> None:
    s = EventLog(10).sequences()
    assert len(s) == 0
    assert s.starts.tolist() == [0]


def test_erased_user_is_in_no_sequence_and_in_no_file(tmp_path: Path) -> None:
    log = EventLog(1000)
    fill(log, 0, 100)
    log.save(tmp_path)
    assert log.erase("user-3") == 20
    assert log.erase("user-3") == 0
    assert log.erase("nobody") == 0
    log.save(tmp_path)
    assert len(log) == 100
    assert len(log.sequences()) == 80
    assert "user-3" not in log.users.codes
    assert not any(b"user-3" in path.read_bytes() for path in tmp_path.iterdir())
    again = EventLog.load(tmp_path, 1000)
    assert content(again) == content(log)
    assert len(again.sequences()) == 80


def test_saved_log_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_segments, "SEGMENT", 64)
    log = EventLog(300)
    for start in range(0, 900, 90):
        fill(log, start, 90)
        log.save(tmp_path)
        again = EventLog.load(tmp_path, 300)
        assert content(again) == content(log)
        assert (again.first, again.end, again.offsets) == (log.first, log.end, log.offsets)
        assert again.items_held() == log.items_held()
        for name in ("number", "gap", "starts"):
            np.testing.assert_array_equal(getattr(again.sequences(), name), getattr(log.sequences(), name))


def test_finished_segments_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_segments, "SEGMENT", 64)
    log = EventLog(10_000)
    fill(log, 0, 640)
    log.save(tmp_path)
    written: list[str] = []
    write = event_segments.write_durably

    def spy(path: Path, data: bytes) -> None:
        written.append(path.name)
        write(path, data)

    monkeypatch.setattr(event_segments, "write_durably", spy)
    log.save(tmp_path)
    assert written == []
    fill(log, 640, 10)
    log.save(tmp_path)
    assert len(written) == 2
    assert written[0].startswith("000000000000640-")


def test_smaller_capacity_keeps_the_newest(tmp_path: Path) -> None:
    log = EventLog(1000)
    fill(log, 0, 500)
    log.save(tmp_path)
    again = EventLog.load(tmp_path, 100)
    assert (again.first, again.end) == (400, 500)
    assert content(again) == content(log)[400:]


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("half", [False, True])
def test_crash_in_a_save_leaves_the_old_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, half: bool
) -> None:
    monkeypatch.setattr(event_segments, "SEGMENT", 64)
    log = EventLog(300)
    fill(log, 0, 250)
    log.save(tmp_path)
    old = content(log)
    fill(log, 250, 200)
    write, calls = event_segments.write_durably, 0

    def crash(path: Path, data: bytes) -> None:
        nonlocal calls
        if calls == step:
            if half:
                path.with_name(path.name + ".aside").write_bytes(data[: len(data) // 2])
            raise KeyboardInterrupt
        calls += 1
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(event_segments, "write_durably", crash)
        with pytest.raises(KeyboardInterrupt):
            log.save(tmp_path)
    again = EventLog.load(tmp_path, 300)
    assert content(again) == old
    assert again.offsets == {"events-0": 250}
    fill(again, 250, 200)
    again.save(tmp_path)
    assert content(EventLog.load(tmp_path, 300)) == content(log)


SAVES = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
from models.training import event_segments
from models.training.event_log import EventLog
from test_event_log import fill
event_segments.SEGMENT = 64
log = EventLog(500)
for start in range(0, 100_000, 37):
    fill(log, start, 37)
    log.save(Path({folder!r}))
    print(log.end, flush=True)
"""


@pytest.mark.parametrize("after", [1, 9])
def test_kill_leaves_a_whole_log(tmp_path: Path, after: int) -> None:
    tests = Path(__file__).parent
    program = SAVES.format(root=str(tests.parents[2]), tests=str(tests), folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(after):
            seen = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait()
    log = EventLog.load(tmp_path, 500)
    assert log.end >= seen
    assert log.offsets == {"events-0": log.end}
    expected = EventLog(500)
    fill(expected, 0, log.end)
    assert content(log) == content(expected)


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(EventLogError, match="can't be read"):
        EventLog.load(tmp_path / "absent", 10)
    log = EventLog(10)
    fill(log, 0, 5)
    log.save(tmp_path)
    segment = next(path for path in tmp_path.iterdir() if path.suffix == ".safetensors")
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(EventLogError, match=rf"{segment.name} is damaged .*delete the folder"):
        EventLog.load(tmp_path, 10)
    segment.unlink()
    with pytest.raises(EventLogError, match="can't be read: No such file"):
        EventLog.load(tmp_path, 10)
    (tmp_path / "log.json").write_bytes(b"{")
    with pytest.raises(EventLogError, match=r"log.json is damaged"):
        EventLog.load(tmp_path, 10)


def test_capacity_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        EventLog(0)
