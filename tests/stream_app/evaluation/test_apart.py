"""A function in a process of its own: results, failures, deaths."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from models.durable import write_durably
from stream_app.errors import EXIT_INTERRUPTED
from stream_app.evaluation.apart import ApartError, call, forget_peak, memory_mb


def counts(tell: Callable[[Any], None], n: int) -> tuple[int, int]:
    for step in range(n):
        tell(step)
    return n, os.getpid()


def raises(_: Callable[[Any], None]) -> None:
    raise ValueError("too\n  few ratings")


def ends(_: Callable[[Any], None], code: int) -> None:
    os._exit(code)


def is_killed(_: Callable[[Any], None]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stays(_: Callable[[Any], None], path: Path) -> None:
    write_durably(path, str(os.getpid()).encode())
    threading.Event().wait()


def grows(_: Callable[[Any], None], megabytes: int) -> float:
    np.ones(2 * megabytes * 125_000).sum()  # more than later, and forgotten
    forget_peak()
    before, _unused = memory_mb()
    np.ones(megabytes * 125_000).sum()
    return memory_mb()[1] - before


def test_results_and_progress_come_back_from_another_process() -> None:
    told: list[int] = []
    n, pid = call(counts, 3, on_progress=told.append)
    assert (n, told) == (3, [0, 1, 2])
    assert pid != os.getpid()


def test_an_exception_is_told_in_a_line() -> None:
    with pytest.raises(ApartError, match=r"^ValueError: too few ratings$"):
        call(raises)


def test_a_process_that_ends_without_a_result_is_told() -> None:
    with pytest.raises(ApartError, match="ended with code 7"):
        call(ends, 7)


def test_a_killed_process_is_told_by_its_signal() -> None:
    with pytest.raises(ApartError, match="SIGKILL"):
        call(is_killed)


def test_memory_is_what_was_used_since_it_was_forgotten() -> None:
    assert 190.0 < call(grows, 200) < 260.0


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_does_not_outlive_the_process_that_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    waiting = multiprocessing.get_context("spawn").Process(target=call, args=(stays, path))
    waiting.start()
    until(path.exists)
    pid = int(path.read_text())
    waiting.kill()
    waiting.join()
    until(lambda: gone(pid))


def waits(path: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started with
    importlib.import_module("polars")
    try:
        call(stays, path)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def test_an_interrupt_ends_the_wait_where_polars_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    waiting = multiprocessing.get_context("spawn").Process(target=waits, args=(path,))
    waiting.start()
    try:
        until(path.exists)
        assert waiting.pid is not None
        os.kill(waiting.pid, signal.SIGINT)
        waiting.join(30.0)
        assert waiting.exitcode == EXIT_INTERRUPTED
    finally:
        waiting.kill()
    until(lambda: gone(int(path.read_text())))
