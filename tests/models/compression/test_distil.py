"""A student follows its teacher: nearer to it than one who saw the same events alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.compression.distil import Student
from models.config import TransformerSettings
from models.sequence.encode import Events, encode
from models.sequence.snapshot import Manifest, Snapshot
from models.training.event_log import EventLog
from models.training.train import Trainer
from tests.event_logs import log_of

ITEMS = 30


def log(n: int = 1500) -> EventLog:
    rng = np.random.default_rng(0)
    user = rng.integers(0, 60, n)
    # two groups of users with a taste each, and noise
    item = np.where(
        rng.random(n) < 0.8, 2 * rng.integers(0, ITEMS // 2, n) + user % 2, rng.integers(0, ITEMS, n)
    )
    return log_of(n, lambda i: f"u{user[i]}", lambda i: f"i{item[i]}", gap_ms=60_000)


@pytest.fixture(scope="module")
def teacher() -> Snapshot:
    trainer = Trainer(TransformerSettings(d_model=32, heads=2, lr=3e-3), band=8, seed=0)
    trainer.refresh(log(), 0, 80_000)
    manifest = Manifest(
        format=1, version="1", files={}, config={}, band=8, scale=(1.0, 5.0), item_ids=trainer.item_ids[:-1],
        actions=trainer.actions, cut={}, gate={}, steps=1, refreshes=1,
    )  # fmt: skip
    model = trainer.average
    # the last item is one that the teacher lacks
    model.item = torch.nn.Parameter(model.item[:-1].detach(), requires_grad=False)
    model.bias = torch.nn.Parameter(model.bias[:-1].detach(), requires_grad=False)
    return Snapshot(manifest, model)


def scores(trainer: Trainer, ids: list[str]) -> torch.Tensor:
    """Of the items with these ids after each of some histories, as log-shares."""
    history = log().sequences()
    rows = trainer.rows.of(log().items.ids)[history.item]
    n = len(history)
    events = Events(rows, np.ones(n, np.int32), np.full(n, np.nan, np.float32), history.gap)
    queries = torch.from_numpy(encode(trainer.average, events, history.starts, (1.0, 5.0)))
    at = torch.from_numpy(trainer.rows.of(ids).astype(np.int64))
    return torch.log_softmax(queries @ trainer.average.item[at].T + trainer.average.bias[at], 1)


def test_a_student_is_nearer_to_the_teacher_than_one_without(teacher: Snapshot) -> None:
    before = [p.clone() for p in teacher.model.parameters()]
    small = TransformerSettings(d_model=8, heads=2, lr=5e-3)
    students = {share: Student(small, 1, teacher, share=share) for share in (0.0, 0.7)}
    for student in students.values():
        student.refresh(log(400), 0, 80_000)  # a quarter of what the teacher saw
    ids = teacher.manifest.item_ids
    taught = Trainer(TransformerSettings(d_model=32, heads=2), band=8, seed=0)
    taught.rows.admit(ids)
    taught.average = teacher.model
    wanted = scores(taught, ids)
    apart = {
        share: float((wanted.exp() * (wanted - scores(student, ids))).sum(1).mean())
        for share, student in students.items()
    }
    assert apart[0.7] < 0.6 * apart[0.0]
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.model.parameters(), strict=True))


def test_an_item_that_the_teacher_lacks_is_learned_from_events(teacher: Snapshot) -> None:
    student = Student(TransformerSettings(d_model=8, heads=2, lr=5e-3), 1, teacher)
    student.refresh(log(), 0, 10_000)
    (lacking,) = set(student.item_ids) - set(teacher.manifest.item_ids)
    shares = scores(student, student.item_ids).exp().mean(0)
    assert torch.isfinite(shares).all()
    assert float(shares[student.item_ids.index(lacking)]) > 0.2 / ITEMS


def test_without_a_teacher_s_share_it_is_a_trainer(teacher: Snapshot) -> None:
    settings = TransformerSettings(d_model=8, heads=2)
    student, plain = Student(settings, 1, teacher, share=0.0), Trainer(settings, band=8, seed=1)
    assert student.refresh(log(), 0, 2_000).loss == pytest.approx(
        plain.refresh(log(), 0, 2_000).loss, rel=1e-5
    )
