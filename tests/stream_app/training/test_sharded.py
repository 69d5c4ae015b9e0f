"""`headrace models train`, alone and under torchrun: new versions, announced, of equal curves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.sequence import snapshot
from stream_app import cli
from stream_app.brokers.broker import EmbeddedBroker
from stream_app.errors import EXIT_OK, EXIT_USAGE
from stream_app.settings import TopicSettings

EVENTS, PARTITIONS = 900, 3


@pytest.fixture
def configured(
    embedded_broker: EmbeddedBroker, topics_of: Callable[..., TopicSettings], tmp_path: Path
) -> list[str]:
    """The flags of a command that reads topics of three partitions with some simulated events."""
    topics = topics_of()
    lines = [
        "[topics]",
        *(
            f'{name} = "{getattr(topics, name)}"'
            for name in ("items", "recommendations", "dead_letters", "models")
        ),
        f'control = "{topics.control}"',
        f'events = ["{topics.events[0]}"]',
        "[models.transformer]",
        "d_model = 16",
        "batch_tokens = 128",
        "[trainer]",
        f'snapshots = "{tmp_path / "snapshots"}"',
        'device = "cpu"',
    ]
    (tmp_path / "settings.toml").write_text("\n".join(lines))
    flags = ["--config", str(tmp_path / "settings.toml"), "--broker", embedded_broker.address]
    assert cli.run(["topics", "create", "--partitions", str(PARTITIONS), *flags]) == EXIT_OK
    return flags


def simulate(flags: list[str], events: int = EVENTS) -> None:
    traffic = [
        "--users",
        "40",
        "--items",
        "30",
        "--events",
        str(events),
        "--duplicates",
        "0.1",
        "--seed",
        "1",
    ]
    assert cli.run(["simulate", *traffic, *flags]) == EXIT_OK


def trained(flags: list[str], curve: Path) -> list[float]:
    assert cli.run(["models", "train", "--curve", str(curve), "--tokens-per-event", "4", *flags]) == EXIT_OK
    losses: list[float] = json.loads(curve.read_text())
    return losses


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(
    configured: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate(configured)
    losses = trained(configured, tmp_path / "one.json")
    said = re.search(r"000001: (\d+) events of 3 partitions, 1 processes", capsys.readouterr().out)
    assert said is not None
    assert 0.8 * EVENTS < int(said[1]) < 0.95 * EVENTS  # each duplicate once
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "stream_app.cli", "models", "train", "--curve", str(tmp_path / "two.json")]
    command += ["--tokens-per-event", "4", *configured]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"000002: {said[1]} events of 3 partitions, 2 processes" in done.stdout
    assert json.loads((tmp_path / "two.json").read_text()) == pytest.approx(losses, rel=1e-3)
    one, two = (snapshot.read(tmp_path / "snapshots" / f"00000{n}") for n in (1, 2))
    assert one.manifest.cut == two.manifest.cut
    assert sum(one.manifest.cut.values()) == EVENTS
    assert one.manifest.item_ids == two.manifest.item_ids
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=2e-3)
    assert cli.run(["models", "list", *configured]) == EXIT_OK
    assert "000002" in capsys.readouterr().out


def test_topics_without_events_are_named(configured: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models", "train", *configured]) == EXIT_USAGE
    assert "there is nothing to learn" in capsys.readouterr().err
