"""Child processes that never outlive us: each in a process group of its own, with a log file.

In: a module and its arguments. Out: a running child; when the `with` block ends, nothing of it is left. Where
the parent dies without a word (kill -9), Linux ends the child; its own children it must look after itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from stream_app.errors import HeadraceError

GRACE_S = 15.0
LAST_LINES = 15

_ENDS_WITH_PARENT = """
import ctypes, os, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(sys.argv[2]))
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[3], sys.argv[3:])
"""


class ChildError(HeadraceError):
    """A child process ended that should not have; the message holds the last lines of its log."""


def ending_with_us(command: list[str], number: signal.Signals) -> list[str]:
    """A command that Linux sends the signal when we die; elsewhere the command as it is.

    To be started from the main thread: to Linux, the thread that started a child is its parent.
    """
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _ENDS_WITH_PARENT, str(os.getpid()), str(int(number)), *command]


class Child:
    """A Python module run as a child: `with Child("worker", "stream_app.cli", ["worker"], log):`.

    To be started from the main thread (see `ending_with_us`).
    """

    def __init__(self, name: str, module: str, arguments: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = ending_with_us([sys.executable, "-m", module, *arguments], signal.SIGTERM)
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def start(self) -> Self:
        """Start the child, its output going to the log."""
        self._output = self.log.open("ab")
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    @property
    def pid(self) -> int:
        """Process id, which is also that of its group."""
        assert self._process is not None, "not started"
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        assert self._process is not None, "not started"
        return self._process.poll()

    def check(self) -> None:
        """Raise ChildError when the child has ended."""
        code = self.poll()
        if code is not None:
            said = self.log.read_text("utf-8", errors="replace").splitlines()[-LAST_LINES:]
            how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            raise ChildError(
                f"the {self.name} ended by itself ({how}). It said:\n"
                + "\n".join(f"  {line}" for line in said),
                f"All that it said is in {self.log}.",
            )

    def ask_to_end(self) -> None:
        """SIGTERM to the child; nothing happens when it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Ask the child to end, and after `grace_s` end its whole group."""
        if self._process is None:
            return
        self.ask_to_end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=grace_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._output is not None:
            self._output.close()
            self._output = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
