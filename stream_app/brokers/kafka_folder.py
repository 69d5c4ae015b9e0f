"""The folder that one Apache Kafka lives in: data, settings, log.

In: a folder, a Java, Kafka's jars, addresses. Out: settings written anew, and a formatted `data` folder.
Never formats a folder twice, so records stay; never starts a broker.
"""

from __future__ import annotations

import base64
import subprocess
import uuid
from pathlib import Path
from typing import IO

from stream_app.errors import HeadraceError


class KafkaFolderError(HeadraceError):
    """Kafka's data folder can't be made ready."""


LOG_NAME = "kafka.log"


def open_log(folder: Path) -> IO[bytes]:
    """The log, opened for appending and reading; makes the folder where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / LOG_NAME).open("a+b")
    except OSError as error:
        raise _not_writable(folder, error) from error


def kafka_program(folder: Path, java: Path, jars: Path, options: list[str]) -> list[str]:
    """Start of a command line that runs a class of Kafka's, logging as the folder says."""
    logging = f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"
    return [str(java), *options, logging, "-cp", f"{jars}/*"]


def prepare(folder: Path, java: Path, jars: Path, *, address: str, controller: str) -> Path:
    """Write the settings, format the data folder where it is new; the path of `server.properties`.

    Args:
        address: HOST:PORT that clients reach.
        controller: HOST:PORT that only the process itself uses.
    """
    data = folder / "data"
    try:
        data.mkdir(parents=True, exist_ok=True)
        (folder / "log4j2.properties").write_text(_LOG4J2)
        settings = folder / "server.properties"
        settings.write_text(_server_properties(address, controller, data))
    except OSError as error:
        raise _not_writable(folder, error) from error
    if not (data / "meta.properties").exists():
        storage_tool = [*kafka_program(folder, java, jars, ["-Xmx256m"]), "kafka.tools.StorageTool"]
        _format([*storage_tool, "format", "-t", _cluster_id(), "-c", str(settings)], data)
    return settings


def _not_writable(folder: Path, error: OSError) -> KafkaFolderError:
    return KafkaFolderError(
        f"Can't write to Kafka's folder {folder}: {error.strerror}.", "Name another one with --dir."
    )


def _format(command: list[str], data: Path) -> None:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        last_lines = "\n".join((run.stdout + run.stderr).strip().splitlines()[-8:])
        raise KafkaFolderError(
            f"Kafka could not format {data}; it said:\n{last_lines}",
            "Name a folder that is empty or was made by headrace, on a disk with free space.",
        )


def _cluster_id() -> str:
    """A random id as Kafka writes them: 16 bytes in base64; a leading dash would read as a flag."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        continue
    return text


def _server_properties(address: str, controller: str, data: Path) -> str:
    return f"""\
# Written at every start of the broker: changes here are lost.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
listeners=PLAINTEXT://{address},CONTROLLER://{controller}
advertised.listeners=PLAINTEXT://{address}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# After a kill -9 the controller lets the broker in again only when its old session is over.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""


_LOG4J2 = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1}: %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""
