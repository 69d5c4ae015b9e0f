"""`headrace models compress` and `distil`: a next version, which workers take; the old one is untouched."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from models.config import TransformerSettings
from models.sequence import snapshot
from models.sequence.snapshot import MANIFEST, WEIGHTS
from models.training.train import Trainer
from stream_app.errors import UsageError
from stream_app.settings import Settings, load
from stream_app.training.compressed import CompressionError, compress_version, distil_version
from stream_app.training.model_versions import versions_taken
from stream_app.training.new_version import NotWrittenError
from stream_app.worker.snapshots import SnapshotLoader
from tests.event_logs import log_of
from tests.models.family.serving.test_serving import trained


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    trainer = Trainer(TransformerSettings(d_model=16, heads=2), band=8, seed=0)
    trainer.refresh(log_of(120, lambda i: f"u{i % 5}", lambda i: f"item-{i % 17}"), 0, 600)
    snapshot.write(tmp_path / "000007", trainer, "000007", cut={"events-0": 7, "events-1": 5})
    return load({"trainer.snapshots": str(tmp_path), "worker.device": "cpu"})


def test_the_next_version_is_loaded_as_the_worker_does(settings: Settings) -> None:
    folder = settings.trainer.snapshots
    before = [(folder / "000007" / name).read_bytes() for name in (WEIGHTS, MANIFEST)]
    made = compress_version(settings, "000007", "int8", 0.5, announce=False)
    assert (made.version, made.bytes < 0.6 * made.bytes_before) == ("000008", True)
    assert [(folder / "000007" / name).read_bytes() for name in (WEIGHTS, MANIFEST)] == before
    load_one = SnapshotLoader(settings)
    small, whole = load_one(folder / "000008", None), load_one(folder / "000007", None)
    assert small.version == "000008"
    np.testing.assert_allclose(small.item_vectors, whole.item_vectors, atol=0.01)
    assert (small.item_vectors != whole.item_vectors).any()


def test_what_can_not_be_compressed_is_named(settings: Settings) -> None:
    with pytest.raises(CompressionError, match="snapshot 000009 is not in"):
        compress_version(settings, "000009", "int8", 0.5, announce=False)
    compress_version(settings, "000007", "pruned", 0.5, announce=False)
    with pytest.raises(CompressionError, match="snapshot 000008 is pruned already"):
        compress_version(settings, "000008", "int8", 0.5, announce=False)
    weights = settings.trainer.snapshots / "000007" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CompressionError, match="it is half-written"):
        compress_version(settings, "000007", "int8", 0.5, announce=False)


def test_a_snapshot_of_another_model_is_named_as_what_it_is(settings: Settings) -> None:
    trained("item-item").write(settings.trainer.snapshots / "000008", "000008", {})
    with pytest.raises(CompressionError, match="000008 is of item-item; only the Transformer"):
        compress_version(settings, "000008", "int8", 0.5, announce=False)
    with pytest.raises(CompressionError, match="000008 is of item-item; only the Transformer"):
        distil_version(settings, "000008", width=8, tokens_per_event=5, share=0.5, announce=False)


def with_history(settings: Settings, tmp_path: Path) -> Settings:
    """The settings with a trainer's folder that holds the events of the snapshot, and some more."""
    log = log_of(200, lambda i: f"u{i % 5}", lambda i: f"item-{i % 17}", offsets={"events-0": 9})
    log.save(tmp_path / "trainer" / "log")
    trainer = settings.trainer.model_copy(update={"state_dir": tmp_path / "trainer"})
    return settings.model_copy(update={"trainer": trainer})


def test_a_narrower_model_is_taught_and_loaded(settings: Settings, tmp_path: Path) -> None:
    settings = with_history(settings, tmp_path)
    made = distil_version(settings, "000007", width=8, tokens_per_event=5, share=0.5, announce=False)
    assert (made.version, made.bytes < 0.6 * made.bytes_before) == ("000008", True)
    small = SnapshotLoader(settings)(settings.trainer.snapshots / "000008", None)
    assert small.item_vectors.shape == (18, 8)
    assert small.manifest.cut == {"events-0": 9, "events-1": 5}  # the later of both, for each partition
    assert small.manifest.gate == {"to": "distilled", "of": "000007", "share": 0.5}
    # and is made smaller again
    assert compress_version(settings, "000008", "int8", 0.5, announce=False).version == "000009"


def test_what_can_not_be_distilled_is_named(settings: Settings, tmp_path: Path) -> None:
    wanted = {"tokens_per_event": 5.0, "share": 0.5, "announce": False}
    with pytest.raises(CompressionError, match="--state-dir"):
        distil_version(settings, "000007", width=8, **wanted)  # type: ignore[arg-type]
    settings = with_history(settings, tmp_path)
    with pytest.raises(CompressionError, match="snapshot 000009 is not in"):
        distil_version(settings, "000009", width=8, **wanted)  # type: ignore[arg-type]
    for width, why in ((6, "greater than or equal to 8"), (10, "twice the number of heads")):
        with pytest.raises(UsageError, match=rf"--width {width}: .*{why}"):
            distil_version(settings, "000007", width=width, **wanted)  # type: ignore[arg-type]


def test_a_history_of_other_items_is_refused(settings: Settings, tmp_path: Path) -> None:
    log = log_of(4, lambda _: "u", lambda i: "abcd"[i])
    log.save(tmp_path / "trainer" / "log")
    trainer = settings.trainer.model_copy(update={"state_dir": tmp_path / "trainer"})
    with pytest.raises(CompressionError, match="knows no item of"):
        distil_version(
            settings.model_copy(update={"trainer": trainer}),
            "000007", width=8, tokens_per_event=5, share=0.5, announce=False,
        )  # fmt: skip


def test_a_full_disk_is_said_and_leaves_no_version(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("stream_app.training.compressed.compress", full)
    with pytest.raises(NotWrittenError, match=r"can't be written to .*: No space left on device"):
        compress_version(settings, "000007", "int8", 0.5, announce=False)
    assert versions_taken(settings.trainer.snapshots) == ["000007"]
