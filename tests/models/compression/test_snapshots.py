"""Compressed snapshots: smaller, read like any other, near the original; damage is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from scipy.stats import spearmanr

from models.compression.low_precision import computing_in, scorer
from models.compression.packed import FORMS, Form, PackedError, pack, unpack
from models.compression.prune import prunable
from models.compression.snapshots import compress
from models.config import TransformerSettings
from models.sequence import snapshot
from models.sequence.encode import Events, encode
from models.sequence.reranker import Reranker
from models.sequence.snapshot import MANIFEST, WEIGHTS, Snapshot, SnapshotError
from models.training.train import Trainer
from tests.event_logs import log_of

ITEMS = 60


def written(folder: Path) -> Snapshot:
    """Two hundred users on the same round through the items."""
    trainer = Trainer(TransformerSettings(d_model=32, heads=2, lr=5e-3), band=8, seed=0)
    log = log_of(2000, lambda i: f"u{i % 200}", lambda i: f"i{(i // 200 + i % 200) % ITEMS}", gap_ms=60_000)
    trainer.refresh(log, 0, 20_000)
    snapshot.write(folder, trainer, "000001", cut={"events-0": 7}, gate={"lower": 0.5})
    return snapshot.read(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return written(tmp_path_factory.mktemp("snapshots") / "000001")


def histories(of: Snapshot) -> tuple[Events, np.ndarray]:  # type: ignore[type-arg]
    n, each = 20, 6
    rows = Reranker(of).rows([f"i{(u + e) % ITEMS}" for u in range(n) for e in range(each)])
    ones, none = np.ones(n * each, np.int32), np.full(n * each, np.nan, np.float32)
    return Events(rows, ones, none, np.full(n * each, 12_000_000)), np.arange(0, n * each + 1, each)


def scores(of: Snapshot) -> torch.Tensor:
    events, offsets = histories(of)
    queries = torch.from_numpy(encode(of.model, events, offsets, (1.0, 5.0))[offsets[1:] - 1])
    return scorer(of.model)(queries)[:, 1:]


def apart(exact: torch.Tensor, near: torch.Tensor) -> float:
    """Length of the difference, as a share of that of what is exact."""
    return float((exact - near).norm() / exact.norm())


@pytest.mark.parametrize(
    ("form", "bytes_at_most"), [("int8", 0.42), ("bf16", 0.56), ("fp16", 0.56), ("pruned", 0.65)]
)
def test_smaller_and_near_the_original(
    whole: Snapshot, tmp_path: Path, form: Form, bytes_at_most: float
) -> None:
    sha256 = compress(whole, form, tmp_path / "000002", "000002")
    small = snapshot.read(tmp_path / "000002", sha256)
    size = (tmp_path / "000002" / WEIGHTS).stat().st_size
    assert size < bytes_at_most * whole.manifest.files[WEIGHTS].bytes
    assert (small.version, small.manifest.compression["of"], small.manifest.cut) == (
        "000002", "000001", {"events-0": 7},
    )  # fmt: skip
    assert small.manifest.item_ids == whole.manifest.item_ids
    exact, near = scores(whole), scores(small)
    assert not torch.equal(exact, near)
    alike = [spearmanr(one, other).statistic for one, other in zip(exact, near, strict=True)]
    if form == "pruned":  # half of the weights are gone, and nothing was learned since
        assert apart(exact, near) < 0.45
        assert np.mean(alike) > 0.85
    else:
        assert apart(exact, near) < 0.05
        assert min(alike) > 0.99
        assert float((exact.argmax(1) == near.argmax(1)).float().mean()) >= 0.9
    assert Reranker(small).item_vectors.dtype == np.float32


@pytest.mark.parametrize("form", ["int8", "bf16", "fp16"])
def test_computing_in_fewer_bits_ranks_as_float32_does(whole: Snapshot, form: Form) -> None:
    events, offsets = histories(whole)
    last = offsets[1:] - 1
    model = computing_in(whole.model, form)
    queries = torch.from_numpy(encode(model, events, offsets, (1.0, 5.0))[last])
    near, exact = scorer(whole.model, form)(queries).float()[:, 1:], scores(whole)
    assert float((exact - near).abs().max()) < 0.1 * float(exact.abs().max())
    assert not torch.equal(exact, near)
    for one, other in zip(exact, near, strict=True):
        assert spearmanr(one, other).statistic > 0.98


def test_without_its_smallest_weights_it_is_nearer_than_without_as_many_others(
    whole: Snapshot, tmp_path: Path
) -> None:
    compress(whole, "pruned", tmp_path / "2", "2")
    exact, near = scores(whole), scores(snapshot.read(tmp_path / "2"))
    torch.manual_seed(0)
    other = copy.deepcopy(whole.model)
    with torch.no_grad():
        for part, name in prunable(other):
            matrix = getattr(part, name)
            matrix.mul_(torch.rand_like(matrix) < 0.5)
    assert apart(exact, near) < 0.75 * apart(exact, scores(Snapshot(whole.manifest, other)))


def test_pruned_snapshot_holds_the_pruned_weights_exactly(whole: Snapshot, tmp_path: Path) -> None:
    compress(whole, "pruned", tmp_path / "2", "2", share=0.7)
    state = {name: t.detach() for name, t in whole.model.state_dict().items()}
    assert torch.equal(unpack(pack(state, "pruned"))["item"], state["item"])
    small = snapshot.read(tmp_path / "2").model
    kept = small.item != 0
    assert torch.equal(small.item[kept], whole.model.item[kept])
    assert int((~kept).sum()) == round(0.7 * kept.numel())


def test_damage_is_named(whole: Snapshot, tmp_path: Path) -> None:
    for form in FORMS:
        folder = tmp_path / form
        compress(whole, form, folder, "2")
        content = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(SnapshotError, match="is damaged: its SHA-256"):
            snapshot.read(folder)


def test_tensors_that_do_not_belong_together_are_refused(whole: Snapshot, tmp_path: Path) -> None:
    compress(whole, "int8", tmp_path / "2", "2")
    tensors = load((tmp_path / "2" / WEIGHTS).read_bytes())
    del tensors["item/scale"]
    weights = save(tensors)
    (tmp_path / "2" / WEIGHTS).write_bytes(weights)
    manifest = json.loads((tmp_path / "2" / MANIFEST).read_text())
    mark = snapshot.mark_of(weights)
    manifest["files"] = {WEIGHTS: {"bytes": mark.bytes, "sha256": mark.sha256}}
    (tmp_path / "2" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(SnapshotError, match=r"does not fit the manifest \(item/int8 is there without"):
        snapshot.read(tmp_path / "2")
    packed = pack({"m": torch.eye(4)}, "pruned")
    with pytest.raises(PackedError, match="3 values for 4 bits"):
        unpack(packed | {"m/values": torch.ones(3)})
    with pytest.raises(PackedError, match="2 bytes of bits for 400 × 4 entries"):
        unpack(packed | {"m/shape": torch.tensor([400, 4])})
