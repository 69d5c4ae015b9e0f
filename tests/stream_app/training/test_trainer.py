import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError, TopicAuthorizationFailedError

from stream_app.brokers.broker import EmbeddedBroker
from stream_app.brokers.connection import BrokerUnreachableError, MissingTopicError
from stream_app.errors import UsageError
from stream_app.settings import TopicSettings, load
from stream_app.training.judging import Cut, Verdict
from stream_app.training.registry import RegistryError
from stream_app.training.trainer import (
    TrainerError,
    TrainerService,
    manifest,
    only_one,
    pick_device,
    run_trainer,
    told,
)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_cuda_asked_for_but_absent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainerError, match=r"trainer\.device is cuda.*\n.*--set trainer\.device=auto"):
        pick_device("cuda")
    assert (pick_device("auto"), pick_device("cpu")) == ("cpu", "cpu")


def test_a_cuda_device_is_used_unless_cpu_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [pick_device(wish) for wish in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


def test_a_trainer_of_a_switched_off_transformer_is_refused() -> None:
    with pytest.raises(UsageError, match=r"models\.transformer\.enabled is false"):
        run_trainer(load({"models.transformer.enabled": False}))


def test_without_a_broker_it_ends_with_a_clear_message(tmp_path: Path, free_port: int) -> None:
    settings = load(
        {
            "broker.url": f"127.0.0.1:{free_port}",
            "broker.connect_timeout_s": 0.1,
            "trainer.state_dir": tmp_path / "trainer",
        }
    )
    with pytest.raises(BrokerUnreachableError, match=r"no Kafka broker answers"):
        run_trainer(settings)


def test_missing_topics_are_named(
    embedded_broker: EmbeddedBroker, topics_of: Callable[..., TopicSettings], tmp_path: Path
) -> None:
    topics = topics_of()
    settings = load(
        {
            "broker.url": embedded_broker.address,
            "topics": topics.model_dump(),
            "trainer.state_dir": tmp_path / "trainer",
        }
    )
    with pytest.raises(MissingTopicError, match=topics.models):
        run_trainer(settings)


def test_a_full_disk_is_one_clear_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def full(_: TrainerService) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "checkpoint")

    monkeypatch.setattr(TrainerService, "run", full)
    monkeypatch.setattr("stream_app.training.trainer.give_way", lambda _: None)
    with pytest.raises(
        TrainerError, match=r"can't write: No space left on device: checkpoint\n.*start it again"
    ):
        run_trainer(load({"trainer.state_dir": tmp_path}))


def asked(service: TrainerService, *answers: Exception | str) -> str:
    """What comes of asking a broker that answers so, one after the other."""
    left = iter(answers)

    async def ask() -> str:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return asyncio.run(service._insist(ask))


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainerService:
    monkeypatch.setattr("stream_app.training.trainer.RETRY_S", 0.0)
    return TrainerService(load({"trainer.state_dir": tmp_path, "broker.url": "broker:9"}), "cpu")


def test_a_broker_that_does_not_answer_is_asked_again_and_that_is_said_once(
    service: TrainerService, caplog: pytest.LogCaptureFixture
) -> None:
    away = (KafkaConnectionError("gone"), KafkaTimeoutError(), RegistryError("nothing came"))
    assert asked(service, *away, ConnectionResetError(), TimeoutError(), "yes") == "yes"
    assert [message[:37] for message in caplog.messages] == ["the broker at broker:9 does not answe"]


@pytest.mark.parametrize("error", [PermissionError(13, "denied", "snapshots"), OSError(28, "full")])
def test_what_the_disk_refuses_is_not_taken_for_the_brokers_silence(
    service: TrainerService, error: OSError, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(type(error), match=error.strerror):
        asked(service, error, "never asked")
    assert caplog.messages == []


def test_a_broker_that_lets_the_trainer_not_in_ends_it(service: TrainerService) -> None:
    with pytest.raises(TrainerError, match=r"broker:9 refuses the trainer: .*\n.*Grant its user"):
        asked(service, TopicAuthorizationFailedError("models"), "never asked")


def test_a_second_trainer_on_the_folder_is_refused(tmp_path: Path) -> None:
    with (
        only_one(tmp_path),
        pytest.raises(TrainerError, match=r"another trainer is at work in .*\n.*--state-dir"),
        only_one(tmp_path),
    ):
        pass
    with only_one(tmp_path):
        pass  # free again


def verdict(**figures: object) -> Verdict:
    return msgspec.convert({"version": "000002", "go": True, "reason": "better", **figures}, Verdict)


def test_a_decision_is_told_with_its_figures() -> None:
    judged = verdict(
        against="000001",
        scored=2000,
        users=90,
        ndcg=0.15,
        ndcg_live=0.14,
        difference=0.01,
        lower=0.004,
        margin=0.001,
    )
    assert told(judged, moved=True) == (
        "is live: better; NDCG@10 0.1500 against 0.1400 of 000001 over 2000 events of 90 users, difference +0.0100, "
        "lower bound +0.0040 where -0.0010 is enough"
    )
    assert told(judged, moved=False).startswith("passed, but the live one is pinned")
    assert told(verdict(go=False, reason="worse"), moved=False) == "stays aside: worse"


def test_a_manifest_carries_the_gates_figures_once_there_are_any() -> None:
    cut = Cut(
        version="000002",
        at=9,
        offsets={"events-0": 12},
        created_ts=5,
        new_events=9,
        tokens=64,
        steps=1,
        loss=1.0,
        sha256="ab",
    )
    before, after = manifest(cut), manifest(cut, verdict(against="000001", scored=7))
    assert (before.version, before.cut, before.sha256, before.gate) == ("000002", {"events-0": 12}, "ab", {})
    assert after.gate == {"go": True, "reason": "better", "against": "000001", "scored": 7}


@pytest.mark.skipif(not hasattr(os, "nice"), reason="this system has no priorities of this kind")
def test_the_trainer_lets_others_go_first() -> None:
    program = "import os; from stream_app.training.trainer import give_way; give_way(3); print(os.nice(0))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) == min(19, os.nice(0) + 3)
