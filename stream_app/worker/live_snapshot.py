"""The snapshot that is live, loaded: once the pointer moves, and again for as long as it can't be.

In: what the `models` topic says, the snapshots folder, a clock. Out: a `Swap` for each snapshot to use from now on.
Never lets a bad snapshot replace a good one, and never gives one up: a folder may be copied later than its pointer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stream_app.training.model_versions import ModelsView
from stream_app.worker.freshness import WorkerMetrics

log = logging.getLogger(__name__)

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
"""Between two tries at a snapshot: twice as long each time, up to this."""

LoadSnapshot = Callable[[Path, str | None], Any]
"""A snapshot's folder, the digest of its manifest → its re-ranker."""


@dataclass(frozen=True, slots=True)
class Swap:
    """A re-ranker to use from now on; None for none."""

    version: str
    reranker: Any
    folder: Path | None = field(default=None, compare=False)


@dataclass(slots=True)
class _Failed:
    """A snapshot that could not be loaded so far: when it is tried again, and what was said of it."""

    version: str
    wait_s: float = FIRST_WAIT_S
    again_at: float = 0.0
    said: set[str] = field(default_factory=set)


class LiveSnapshot:
    """Follows the pointer.

    Args:
        load: raises when the snapshot can't be used; called in a thread. None where this worker uses none.
        clock: in seconds; says when a snapshot is tried again.
    """

    def __init__(
        self,
        folder: Path | None,
        load: LoadSnapshot | None,
        metrics: WorkerMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._load = load
        self._metrics = metrics
        self._clock = clock
        self._settled = ""
        self._failed: _Failed | None = None
        self._swap: Swap | None = None

    def take(self) -> Swap | None:
        """What was loaded since the last call."""
        swap, self._swap = self._swap, None
        return swap

    async def follow(self, models: ModelsView) -> None:
        """Load what is live, where that is not what was loaded last and its time has come."""
        live = models.live.version if models.live else ""
        if live == self._settled:
            self._failed = None
        elif not live:
            self._settle(Swap("", None))
        elif self._folder is None or self._load is None:
            log.warning(
                "model %s is live, but this worker goes on without: it has no --snapshots folder", live
            )
            self._settled = live
        else:
            manifest = models.manifests.get(live)
            await self._try(self._folder / live, self._load, manifest.sha256 if manifest else None)

    async def _try(self, folder: Path, load: LoadSnapshot, sha256: str | None) -> None:
        failed = self._failed
        if failed is None or failed.version != folder.name:
            failed = _Failed(folder.name)
        elif self._clock() < failed.again_at:
            return
        try:
            reranker = await asyncio.to_thread(load, folder, sha256)
        except Exception as error:
            self._metrics.snapshot_errors.inc()
            if str(error) not in failed.said:
                failed.said.add(str(error))
                log.error(
                    "snapshot %s can't be used, the worker stays with the model it has and tries again: %s. "
                    "`headrace models rollback` makes an earlier one live",
                    folder,
                    error,
                )
            failed.again_at = self._clock() + failed.wait_s
            failed.wait_s = min(2 * failed.wait_s, LONGEST_WAIT_S)
            self._failed = failed
            return
        self._settle(Swap(folder.name, reranker, folder))

    def _settle(self, swap: Swap) -> None:
        self._settled, self._failed, self._swap = swap.version, None, swap
