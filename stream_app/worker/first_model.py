"""The frozen first model: a copy of its snapshot beside the state, so that it outlives restarts and the trainer.

In: the folder of the first snapshot that ever went live. Out: its re-ranker, after a restart. The trainer deletes old
snapshots; the baseline that the worker compares itself with stays.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from stream_app.worker.live_snapshot import LoadSnapshot

log = logging.getLogger(__name__)

FOLDER = "first-model"


class FirstModel:
    """The copy in one state folder; called in a thread beside the event loop.

    Args:
        load: raises when the snapshot is corrupt.
    """

    def __init__(self, state_dir: Path, load: LoadSnapshot) -> None:
        self._folder = state_dir / FOLDER
        self._load = load

    def keep(self, version: str, snapshot: Path) -> None:
        """Copy the snapshot, in place of any other; without a copy the worker goes on."""
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            half = self._folder / "half"
            shutil.copytree(snapshot, half)
            half.rename(self._folder / version)
        except OSError as error:
            log.warning(
                "the first model, %s, could not be copied to %s: after a restart nothing is compared with it (%s)",
                version, self._folder, error,
            )  # fmt: skip

    def read(self, version: str) -> Any:
        """The re-ranker of this version; None where there is no usable copy."""
        try:
            return self._load(self._folder / version, None)
        except Exception as error:
            log.warning("the first model is no longer compared with: %s", error)
            return None
