"""Places where a test can kill the worker: before and after each step of the commit protocol.

In: `HEADRACE_FAILPOINT=NAME[:N]`. Out: at the Nth time that NAME is reached the process ends as by `kill -9`.
Without the variable nothing ever happens. For tests only.
"""

from __future__ import annotations

import os
import signal

from stream_app.errors import UsageError

VARIABLE = "HEADRACE_FAILPOINT"

POINTS = (
    "1-before",  # the lease is given, the state is not open
    "1-opened",  # the state is open, the log was not looked at
    "1-after",  # positions are sought
    "2-before",
    "2-after",  # a batch is there
    "3-after",  # decoded; the users' rows are not loaded
    "4-after",  # learned, nothing is sent
    "5-before",  # a commit is due, acknowledgements are awaited
    "5-sent",  # a batch was handed to the producer
    "5-after",  # everything is acknowledged
    "6-before",
    "6-after",  # the batch is written
    "7-before",
    "7-after",  # the group's offsets are committed
    "8-before",  # something unexpected happened
    "8-after",  # it was noted
)
"""Every name, in the order of the steps."""


class Failpoints:
    """`reach(name)` at each place. `wish` is the variable's value, empty for none."""

    def __init__(self, wish: str = "") -> None:
        self._name, _, count = wish.partition(":")
        if self._name and (self._name not in POINTS or not (count or "1").isdigit()):
            raise UsageError(f"{VARIABLE}={wish} names no failpoint", f"There are: {', '.join(POINTS)}.")
        self._left = int(count or 1)

    @classmethod
    def from_environment(cls) -> Failpoints:
        """What this process was asked for."""
        return cls(os.environ.get(VARIABLE, ""))

    def reach(self, name: str) -> None:
        """Die here, if it is this one's turn."""
        if name == self._name:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
