"""Files that are there whole or not at all.

In: a path and bytes. Out: the file, written aside, flushed to the disk, and renamed into place. Never leaves
a reader between the old content and the new, however the process ends.
"""

from __future__ import annotations

import os
from pathlib import Path

ASIDE = ".aside"


def write_durably(path: Path, content: bytes) -> None:
    """Replace `path` with `content`; a kill at any moment leaves the old file or the new one."""
    aside = path.with_name(path.name + ASIDE)
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in `folder` survive a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
