"""The lock of a state folder: one process at a time works on it.

In: a folder. Out: a held lock, or a StateError that names the process which holds it. Never waits, and never
outlives its process: the kernel lets go of it, even after a kill -9.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from stream_app.errors import HeadraceError

LOCK_FILE = "lock"


class StateError(HeadraceError):
    """The state can't be used as it is; the message says the ways out."""


class FolderLock:
    """Holds the folder from its making to `release`; makes the folder where there is none."""

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StateError(
                f"can't use {directory} as a state folder: {error.strerror}",
                "Name a folder that this user may write to with --state-dir.",
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise StateError(
                f"the state folder {directory} is in use by another process (pid {holder})",
                "One process works on a state folder: stop that one, or give this one its own --state-dir.",
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let the folder go; once only."""
        os.close(self._file)
