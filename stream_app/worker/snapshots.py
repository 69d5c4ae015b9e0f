"""From a snapshot's folder to the re-ranker that the worker scores with.

In: settings, a folder, the digest that its manifest was announced with. Out: a re-ranker, on the worker's device.
Never falls back to another device than the one that was asked for, and imports torch only where it is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stream_app.errors import UsageError
from stream_app.settings import Settings

if TYPE_CHECKING:
    from stream_app.training.ranker import AnyReranker


class SnapshotLoader:
    """Loads snapshots; called in a thread beside the one that uses them.

    Raises:
        UsageError: CUDA is asked for and not there.
    """

    def __init__(self, settings: Settings) -> None:
        import torch

        # loaded before there is a lease to lose: it takes seconds
        import models.sequence.reranker
        import models.sequence.snapshot  # noqa: F401

        there = torch.cuda.is_available()
        if settings.worker.device == "cuda" and not there:
            raise UsageError(
                "worker.device is cuda, but PyTorch finds no CUDA device here",
                "Set worker.device to auto or cpu, or install the driver and a PyTorch that is built for it.",
            )
        torch.set_num_threads(settings.worker.torch_threads)
        self.settings = settings
        self.device = "cuda" if settings.worker.device != "cpu" and there else "cpu"

    def __call__(self, folder: Path, sha256: str | None) -> AnyReranker:
        """The re-ranker in `folder`; models.sequence.snapshot.SnapshotError where it can't be used."""
        from stream_app.training import ranker

        return ranker.read(self.settings, folder, sha256, self.device)
