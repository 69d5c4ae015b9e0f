"""`headrace models train`, alone and under torchrun: new versions, announced, of equal curves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from aiokafka import ConsumerRecord

from models.sequence import snapshot
from models.training.distributed import DistributedTrainer
from models.training.event_log import EventLog
from stream_app import cli
from stream_app.batch.decode import EventDecoder
from stream_app.brokers.broker import EmbeddedBroker
from stream_app.errors import EXIT_OK, EXIT_USAGE, UsageError
from stream_app.settings import EventSettings, TopicSettings, load
from stream_app.training.sharded import _device, _Shard

EVENTS, PARTITIONS = 900, 3


@pytest.fixture
def configured(
    embedded_broker: EmbeddedBroker,
    topics_of: Callable[..., TopicSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
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
    monkeypatch.setenv("HEADRACE_CONFIG", str(tmp_path / "settings.toml"))  # what --config would leave behind
    flags = ["--broker", embedded_broker.address]
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
    first = DistributedTrainer(one.model.config, one.model.band, seed=0).average
    for name, begun in first.named_parameters():
        if name in ("item", "bias", "action"):
            continue  # these have no rows before the events are known
        a, b = one.model.get_parameter(name), two.model.get_parameter(name)
        assert float((a - b).abs().mean()) < 0.05 * float((a - begun).abs().mean())
    assert cli.run(["models", "list", *configured]) == EXIT_OK
    assert "000002" in capsys.readouterr().out


def test_what_a_user_wants_forgotten_is_forgotten_in_all_topics() -> None:
    decoder = EventDecoder(EventSettings(), ("one", "two"))
    shard = _Shard(EventLog(100), EventSettings())

    def told(topic: str, *events: tuple[str, str, int, str]) -> None:
        records = []
        for offset, (user, kind, ts, name) in enumerate(events):
            event = {"v": 1, "user_id": user, "type": kind, "ts": 10**12 + ts, "event_id": name}
            event |= {} if kind == "erase" else {"item_id": f"i{ts}"}
            value = json.dumps(event).encode()
            records.append(ConsumerRecord(topic, 0, offset, 10**12, 0, user.encode(), value, None, 0, 0, ()))
        shard._take(topic, decoder.decode(records, 1e15))

    told(
        "one", ("a", "click", 1, "x"), ("a", "click", 1, "x"), ("b", "click", 2, "x"), ("a", "erase", 5, "y")
    )
    told("one", ("a", "click", 3, "x"), ("", "click", 4, "z"))
    told("two", ("a", "click", 4, "p"), ("a", "click", 6, "q"), ("b", "click", 4, "x"))
    sequences = shard.log.sequences()
    ids = shard.log.items.ids
    held = [[ids[code] for code in sequences.item[a:b]] for a, b in pairwise(sequences.starts)]
    assert sorted(held) == [["i2"], ["i3", "i6"]]
    assert shard.refused == 1


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("models.transformer.enabled=false", "nothing to train"),
        ("models.transformer.d_model=18", "twice the number of heads"),
    ],
)
def test_what_can_not_be_trained_is_said_before_anything_is_read(
    configured: list[str], assignment: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["models", "train", *configured, "--set", assignment]) == EXIT_USAGE
    assert said in capsys.readouterr().err


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"2 processes on this machine, but 1 GPUs\n.*Start 1"):
        _device(load({"trainer.device": "auto"}))


def test_topics_without_events_are_named(configured: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models", "train", *configured]) == EXIT_USAGE
    assert "nothing to learn from in 0 events" in capsys.readouterr().err


def test_another_model_than_the_transformer_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["models", "train", "--snapshots", str(tmp_path), "--set", "models.ranker=unified"]
    assert cli.run(words) == EXIT_USAGE
    assert "models.ranker is unified, and only the Transformer can be trained here" in capsys.readouterr().err
