"""A snapshot is read whole, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.config import TransformerSettings
from models.sequence import snapshot
from models.sequence.encode import Events
from models.sequence.reranker import Reranker
from models.sequence.snapshot import MANIFEST, WEIGHTS, SnapshotError
from models.training.event_log import EventLog
from models.training.train import Trainer


def trained() -> Trainer:
    trainer = Trainer(TransformerSettings(d_model=16, heads=2), band=8, seed=0)
    log = EventLog(200)
    numbers = np.arange(120)
    log.append(
        [f"u{i % 5}" for i in numbers],
        [f"item-{i % 17}" for i in numbers],
        [("view", "click")[i % 2] for i in numbers],
        np.full(120, np.nan, np.float32),
        np.ones(120, np.float32),
        numbers * 1000,
        {},
    )
    trainer.refresh(log, 0, 600)
    return trainer


def test_what_was_written_is_read(tmp_path: Path) -> None:
    trainer = trained()
    sha256 = snapshot.write(tmp_path / "1", trainer, "1", cut={"events-0": 7}, gate={"lower": 0.5})
    read = snapshot.read(tmp_path / "1", sha256)
    assert (read.version, read.manifest.cut, read.manifest.gate) == ("1", {"events-0": 7}, {"lower": 0.5})
    assert read.manifest.item_ids == trainer.item_ids
    assert read.manifest.actions == ["view", "click"]
    for (name, ours), (other, theirs) in zip(
        trainer.average.named_parameters(), read.model.named_parameters(), strict=True
    ):
        assert name == other
        assert torch.equal(ours, theirs)
    assert not read.model.training


def test_same_trainer_gives_the_same_bytes(tmp_path: Path) -> None:
    trainer = trained()
    assert snapshot.write(tmp_path / "a", trainer, "1") == snapshot.write(tmp_path / "b", trainer, "1")


def test_rows_that_were_given_up_are_left_out(tmp_path: Path) -> None:
    trainer = trained()
    kept = trainer.average.item.detach()[3]
    trainer.rows.restore([None, "item-1", "item-2", *trainer.rows.ids[3:]])
    snapshot.write(tmp_path / "1", trainer, "1")
    reranker = Reranker(snapshot.read(tmp_path / "1"))
    assert reranker.rows(["item-0", "item-2"]).tolist() == [-1, 2]
    np.testing.assert_array_equal(reranker.item_vectors[2], kept.numpy())


def test_existing_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "half").write_text("an earlier try")
    snapshot.write(tmp_path / "1", trained(), "1")
    assert sorted(path.name for path in (tmp_path / "1").iterdir()) == [MANIFEST, WEIGHTS]
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_killed_write_leaves_nothing_under_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(path: Path, content: bytes) -> None:
        path.write_bytes(content[: len(content) // 2])
        raise KeyboardInterrupt

    trainer = trained()
    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "write_durably", crash)
        with pytest.raises(KeyboardInterrupt):
            snapshot.write(tmp_path / "1", trainer, "1")
    with pytest.raises(SnapshotError, match=r"manifest.json can't be read: No such file"):
        snapshot.read(tmp_path / "1")
    snapshot.write(tmp_path / "1", trainer, "1")
    assert snapshot.read(tmp_path / "1").version == "1"


def edited(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | changes))


def test_damage_is_named(tmp_path: Path) -> None:
    folder, trainer = tmp_path / "1", trained()

    def fails(match: str, sha256: str | None = None) -> None:
        with pytest.raises(SnapshotError, match=match):
            snapshot.read(folder, sha256)
        snapshot.write(folder, trainer, "1")

    fails(f"snapshot {folder}: {MANIFEST} can't be read")
    (folder / WEIGHTS).unlink()
    fails(f"{WEIGHTS} can't be read")
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:-4])
    fails(f"{WEIGHTS} has .* bytes instead of .* half-written")
    (folder / WEIGHTS).write_bytes(content + b"more")
    fails(f"{WEIGHTS} has .* bytes where at most")
    (folder / WEIGHTS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    fails(f"{WEIGHTS} is damaged: its SHA-256")
    (folder / MANIFEST).write_text("{")
    fails(f"{MANIFEST} is damaged")
    edited(folder, format=99)
    fails("has format 99, this version of headrace reads 1")
    edited(folder, band=9, item_ids=["one"])
    fails("does not fit the manifest")
    edited(folder, config={"d_model": -3})
    fails(f"{MANIFEST} is damaged or of another version")
    fails("is not the announced one", sha256="0" * 64)


def test_diverged_weights_are_refused(tmp_path: Path) -> None:
    trainer = trained()
    with torch.no_grad():
        trainer.average.bias[3] = float("nan")
    snapshot.write(tmp_path / "1", trainer, "1")
    with pytest.raises(SnapshotError, match="not finite"):
        snapshot.read(tmp_path / "1")


def test_reranker_knows_ids_and_encodes(tmp_path: Path) -> None:
    snapshot.write(tmp_path / "1", trained(), "1")
    reranker = Reranker(snapshot.read(tmp_path / "1"))
    assert reranker.version == "1"
    assert reranker.rows(["item-0", "never"]).tolist() == [1, -1]
    assert reranker.action_codes(["click", "never", "view"]).tolist() == [2, 0, 1]
    assert reranker.item_vectors.shape == (18, 16)
    assert reranker.item_bias.shape == (18,)
    events = Events(
        reranker.rows(["item-3", "never"]),
        np.ones(2, np.int32),
        np.full(2, np.nan, np.float32),
        np.array([-1, 5]),
    )
    none = events.take(np.zeros(0, np.int64))
    before, after = reranker.encode_block(np.zeros(2, np.int64), events, none, np.array([0, 0]))
    np.testing.assert_array_equal(before[1], after[0])
    assert after[1].any()
