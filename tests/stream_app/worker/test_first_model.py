"""The first model's copy beside the state."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stream_app.worker.between import Between
from stream_app.worker.first_model import FOLDER, FirstModel
from stream_app.worker.freshness import WorkerMetrics
from stream_app.worker.live_snapshot import Swap


def load(folder: Path, sha256: str | None) -> str:
    assert sha256 is None
    return (folder / "weights").read_text()


def snapshot(folder: Path, words: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "weights").write_text(words)
    return folder


def test_the_copy_outlives_the_snapshot(tmp_path: Path) -> None:
    first = FirstModel(tmp_path / "state", load)
    its = snapshot(tmp_path / "snapshots" / "000001", "words")
    first.keep("000001", its)
    (its / "weights").unlink()
    assert FirstModel(tmp_path / "state", load).read("000001") == "words"


def test_another_version_than_the_one_that_was_kept_is_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = FirstModel(tmp_path, load)
    first.keep("000001", snapshot(tmp_path / "000001", "words"))
    assert first.read("000002") is None
    assert "no longer compared" in caplog.text


def test_what_was_half_copied_is_replaced(tmp_path: Path) -> None:
    snapshot(tmp_path / FOLDER / "half", "half of it")
    first = FirstModel(tmp_path, load)
    first.keep("000001", snapshot(tmp_path / "000001", "words"))
    assert first.read("000001") == "words"
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["000001"]


def test_a_copy_that_can_not_be_made_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    FirstModel(tmp_path, load).keep("000001", tmp_path / "not there")
    assert "could not be copied" in caplog.text


def swapped(first_model: FirstModel, swap: Swap, *, first: str, lost: bool) -> Any:
    """What the recommender is given as the first model when this swap is applied."""
    given = []
    pipeline = SimpleNamespace(
        recommender=SimpleNamespace(
            set_reranker=lambda _, first: given.append(first),
            rerankers=SimpleNamespace(first=first, first_is_lost=lost),
        )
    )
    followers = SimpleNamespace(take_items=list, take_swap=lambda: swap)

    async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    between = Between(
        pipeline, followers, SimpleNamespace(), WorkerMetrics(), in_thread, items_from={}, refresh_users=1,  # type: ignore[arg-type]
        first_model=first_model,
    )  # fmt: skip
    asyncio.run(between.apply())
    return given[0]


def test_the_first_snapshot_that_goes_live_is_kept_and_comes_back_when_another_one_is_live(
    tmp_path: Path,
) -> None:
    one, two = (snapshot(tmp_path / version, version) for version in ("000001", "000002"))
    first_model = FirstModel(tmp_path / "state", load)
    assert swapped(first_model, Swap("000001", None, one), first="", lost=False) is None
    assert first_model.read("000001") == "000001"
    assert swapped(first_model, Swap("000002", None, two), first="000001", lost=False) is None
    assert swapped(first_model, Swap("000002", None, two), first="000001", lost=True) == "000001"
    assert swapped(first_model, Swap("000001", None, one), first="000001", lost=True) is None
    assert first_model.read("000001") == "000001"


def test_events_do_not_wait_while_the_first_model_is_copied(tmp_path: Path) -> None:
    """The swap is applied between two batches after it."""
    release = threading.Event()

    class Slow(FirstModel):
        def keep(self, version: str, snapshot: Path) -> None:
            release.wait()
            super().keep(version, snapshot)

    applied: list[Any] = []
    swaps = [Swap("000001", None, snapshot(tmp_path / "000001", "words"))]
    pipeline = SimpleNamespace(
        recommender=SimpleNamespace(
            set_reranker=lambda *_: applied.append("swap"),
            rerankers=SimpleNamespace(first="", first_is_lost=False),
        )
    )
    followers = SimpleNamespace(take_items=list, take_swap=lambda: swaps.pop() if swaps else None)

    async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    async def story() -> None:
        between = Between(
            pipeline, followers, SimpleNamespace(), WorkerMetrics(), in_thread, items_from={}, refresh_users=9,  # type: ignore[arg-type]
            first_model=Slow(tmp_path / "state", load),
        )  # fmt: skip
        between.touched(["ann"])
        await between.apply()
        assert applied == []
        release.set()
        while not applied:
            await asyncio.sleep(0)
            await between.apply()
        assert between.refresh_is_due

    asyncio.run(story())
    assert FirstModel(tmp_path / "state", load).read("000001") == "words"
