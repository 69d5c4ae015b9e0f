"""Training by shards: one process or several, the curve and the weights are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.config import TransformerSettings
from models.training.distributed import DistributedTrainer, Group
from models.training.event_log import EventLog
from models.training.train import Trainer
from tests.event_logs import log_of

SETTINGS = TransformerSettings(d_model=16, heads=2, batch_tokens=64, window=12, lr=5e-3)
EVENTS = {0: 300, 1: 180, 2: 240}
TOKENS = 4_000


def shard(number: int) -> EventLog:
    """Users of this shard, who go round a ring; the items of the shards overlap, and their event types differ."""
    return log_of(
        EVENTS[number],
        lambda i: f"u{number}-{i % 5}",
        lambda i: f"i{(i // 5 + i % 5 + 4 * number) % 16}",
        kind=("click", "buy", "view")[number],
    )


def trained(held: list[int], group: Group, tokens: int = TOKENS) -> tuple[DistributedTrainer, list[float]]:
    trainer = DistributedTrainer(SETTINGS, band=6, seed=1)
    return trainer, trainer.train({number: shard(number) for number in held}, tokens, group)


def test_the_loss_falls_and_each_step_takes_a_batch_of_every_shard() -> None:
    trainer, losses = trained([0, 1, 2], Group(), 5 * TOKENS)
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    # shards learn in proportion to their events, so the largest one decides the number of steps
    assert len(losses) == pytest.approx(5 * TOKENS * 300 / 720 / SETTINGS.batch_tokens, abs=3)
    assert trainer.actions == ["click", "buy", "view"]
    assert sorted(trainer.item_ids) == sorted({f"i{i}" for i in range(16)})


def test_one_shard_learns_like_a_trainer() -> None:
    def told(trainer: Trainer) -> float:
        """How much more likely the next item of the ring is than the others, on average."""
        rows = trainer.rows.of([f"i{i % 16}" for i in range(6)])
        events = torch.stack(
            [torch.from_numpy(rows.astype(np.int64))] + [torch.ones(6, dtype=torch.int64)] * 3
        )
        with torch.inference_mode():
            h = trainer.average(events, torch.zeros(6, dtype=torch.int64), torch.arange(6))[-1]
            scores = trainer.average.item_vectors() @ h + trainer.average.bias
        return float(scores[trainer.rows.of(["i6"])[0]] - scores.mean())

    alone = Trainer(SETTINGS, band=6, seed=1)
    alone.refresh(shard(0), 0, 5 * TOKENS)
    assert told(trained([0], Group(), 5 * TOKENS)[0]) == pytest.approx(told(alone), rel=0.2)


@pytest.mark.parametrize("processes", [2, 4])  # of four, one has no shard
def test_processes_that_share_the_shards_take_the_steps_of_one(processes: int, tmp_path: Path) -> None:
    trainer, losses = trained([0, 1, 2], Group())
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, __file__, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for rank in range(processes):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == pytest.approx(losses, rel=1e-3)
        weights = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, tensor in trainer.average.state_dict().items():
            torch.testing.assert_close(weights[name], tensor, atol=2e-3, rtol=1e-2)
    first = torch.load(tmp_path / "0.pt", weights_only=True)
    assert all(torch.equal(first[name], tensor) for name, tensor in weights.items())


def main() -> None:
    """What each process of the test above runs."""
    torch.distributed.init_process_group("gloo")
    group = Group()
    held = [number for number in EVENTS if number % group.size == group.rank]
    trainer, losses = trained(held, group)
    folder = Path(sys.argv[1])
    (folder / f"{group.rank}.json").write_text(json.dumps(losses))
    torch.save(trainer.average.state_dict(), folder / f"{group.rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
