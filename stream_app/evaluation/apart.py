"""A function in a process of its own: its result, its progress, or why there is none.

In: a function of a module and its arguments. Out: what it returned; or `ApartError`, whatever happened in there: an
exception, a crash of compiled code, a kill for memory. What it used of memory is its own, and can be measured there.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
LOOK_S = 0.5
"""How often a wait is left for a look at signals."""
RESET_PEAK = "5"
"""What Linux takes in `clear_refs` for "the highest memory so far is the memory of now" (proc(5))."""

Tell = Callable[[Any], None]


class ApartError(Exception):
    """The function gave no result: what happened, in a line."""


def call(function: Callable[..., Any], *args: Any, on_progress: Tell | None = None) -> Any:
    """`function(tell, *args)` in a fresh process; what it tells with `tell` comes to `on_progress`.

    Args:
        function: one that a fresh process can import; its arguments, result and messages are pickled.

    Raises:
        ApartError: it raised, or its process ended without a result.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, function, args), daemon=True)
    process.start()
    theirs.close()
    try:
        while True:
            # polars, once imported, lets a blocking read go on over an interrupt (SA_RESTART): it would never be seen
            while not ours.poll(LOOK_S):
                pass
            try:
                kind, value = ours.recv()
            except EOFError:
                process.join()
                raise ApartError(_end(process.exitcode)) from None
            if kind == "done":
                return value
            if kind == "failed":
                raise ApartError(value)
            if on_progress is not None:
                on_progress(value)
    finally:
        process.kill()  # all that was wanted of it is here, or no longer wanted
        process.join()
        ours.close()


def memory_mb() -> tuple[float, float]:
    """Memory of this process now, and the most it had since `forget_peak`; in MB (10^6 bytes)."""
    if STATUS.exists():
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
        now, peak = (int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
        return now / 1e6, peak / 1e6
    # macOS counts in bytes, and only the most that it ever was
    ever = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return ever / 1e6, ever / 1e6


def forget_peak() -> None:
    """Let the most memory be counted from now on, where the system can."""
    if CLEAR.exists():
        try:
            CLEAR.write_text(RESET_PEAK)
        except OSError:  # a container may forbid it: the peak then includes what came before
            return


def _work(pipe: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for whoever waits for this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        result = function(lambda value: pipe.send(("progress", value)), *args)
    except Exception as error:
        text = " ".join(str(error).split())
        pipe.send(("failed", f"{type(error).__name__}: {text}" if text else type(error).__name__))
        return
    pipe.send(("done", result))


def _end_with_parent() -> None:
    """A process that was killed can't end what it started: what is computed for nobody ends by itself."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _end(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"its process ended with code {code} and no result"
