"""The errors that people see: one line of what was wrong and where, and what to do about it.

In: raised anywhere in `stream_app` and `producers`. Out: `str(error)`, the message with its advice, and
`exit_code`, what the process ends with. Never holds a traceback for the reader: `HEADRACE_DEBUG=1` shows it.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class HeadraceError(Exception):
    """Something went wrong that its reader can act on.

    Args:
        message: what was wrong, where (topic, partition, offset, file, field).
        advice: what to do, as a sentence of its own; empty where the message says it.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}\n  {self.advice}" if self.advice else self.message


class UsageError(HeadraceError):
    """What was asked for can't be: a flag, a variable or a setting has a wrong value."""

    exit_code = EXIT_USAGE
