from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from producers.resume import RunState, path_of, save
from stream_app import cli
from stream_app.settings import Settings, load

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "headrace"}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """The settings that our services see."""
    monkeypatch.chdir(tmp_path)
    for name, value in OURS["worker"]["environment"].items():
        monkeypatch.setenv(name, value)
    return load()


def test_it_starts_a_broker_topics_a_worker_a_trainer_and_traffic() -> None:
    assert set(SERVICES) == {"kafka", "topics", "worker", "trainer", "replay"}
    assert re.fullmatch(r"apache/kafka:4\.\d+\.\d+", SERVICES["kafka"]["image"])


@pytest.mark.parametrize("name", OURS)
def test_the_command_line_takes_each_command(name: str) -> None:
    command = typer.main.get_command(cli.app)
    arguments = list(OURS[name]["command"])
    context = command.make_context("headrace", arguments, resilient_parsing=True)
    while isinstance(command, typer.core.TyperGroup):
        _, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        command = found
        if isinstance(command, typer.core.TyperGroup):
            context = command.make_context(command.name, list(arguments), resilient_parsing=True)
    assert command.make_context(command.name, arguments).params


def test_our_services_find_the_broker_that_compose_advertises(settings: Settings) -> None:
    assert f"COMPOSE://{settings.broker.url}" in SERVICES["kafka"]["environment"][
        "KAFKA_ADVERTISED_LISTENERS"
    ].split(",")


def test_the_workers_figures_are_reachable_through_its_port(settings: Settings) -> None:
    port = settings.worker.web_port
    assert settings.worker.web_bind == "0.0.0.0"
    assert f"127.0.0.1:{port}:{port}" in SERVICES["worker"]["ports"]
    assert f"127.0.0.1:{port}/metrics" in " ".join(SERVICES["worker"]["healthcheck"]["test"])


def test_ports_are_opened_on_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_volume_is_named_and_used() -> None:
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    assert set(mounted) == set(COMPOSE["volumes"])


def test_what_is_waited_for_can_come() -> None:
    for service in SERVICES.values():
        for name, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]
            else:
                assert how["condition"] == "service_completed_successfully"
                assert SERVICES[name]["restart"] == "no"


def test_worker_and_trainer_share_the_snapshots_and_nothing_else_of_their_state() -> None:
    def mounts(name: str) -> dict[str, str]:
        return dict(volume.split(":") for volume in SERVICES[name]["volumes"])

    def option(name: str, flag: str) -> str:
        command: list[str] = SERVICES[name]["command"]
        return command[command.index(flag) + 1]

    assert option("worker", "--snapshots") == option("trainer", "--snapshots")
    for name in ("worker", "trainer"):
        assert mounts(name)["snapshots"] == option(name, "--snapshots")
        assert mounts(name)[name] == option(name, "--state-dir")
    assert option("worker", "--state-dir") != option("trainer", "--state-dir")


def test_brought_up_again_the_replay_goes_on_with_its_run(tmp_path: Path) -> None:
    told = tmp_path / "headrace"
    told.write_text('#!/bin/sh\necho "$@"\n')
    told.chmod(0o755)
    service = SERVICES["replay"]
    command = [word.replace("$$", "$") for word in (*service["entrypoint"], *service["command"])]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}

    def up() -> list[str]:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    first = up()
    run = first[first.index("--run") + 1]
    assert first == [*service["command"], "--run", run]
    (volume,) = (volume for volume in service["volumes"] if volume.startswith("replays:"))
    folder = volume.removeprefix("replays:/home/headrace/")
    path = path_of(tmp_path / folder / "replays", "ab" * 32, run)
    save(path, RunState(sha256="ab" * 32, run_id=run, topic="events", partitions=4, selection=""))
    assert up() == [*first, "--resume"]
    assert f"/home/headrace/{folder}" in OURS["replay"]["build"]["dockerfile_inline"], "theirs, not root's"


def test_the_image_holds_every_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build = OURS["worker"]["build"]["dockerfile_inline"]
    copied = {
        path for line in re.findall(r"^COPY (.+)$", build, re.M) for path in line.split()[:-1] if path != "./"
    }
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {package.removesuffix("*") for package in packages} <= copied  # a folder comes with those in it
    assert project["project"]["readme"] in copied
    assert 'ENTRYPOINT ["headrace"]' in build
    assert "headrace" in project["project"]["scripts"]
