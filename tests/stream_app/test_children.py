"""Behaviour of child processes: their logs, and that nothing of them is left."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from stream_app.children import Child, ChildError

WAIT_S = 20


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `made` that a test writes, on the path of children."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    return tmp_path / "made.py"


def child(tmp_path: Path, *arguments: str) -> Child:
    return Child("helper", "made", list(arguments), tmp_path / "child.log")


def wait_for_line(log: Path, process: Child | None = None) -> str:
    """The first line that a child says."""
    while not log.is_file() or "\n" not in log.read_text():
        if process is not None:
            process.check()
    return log.read_text().splitlines()[0]


def until_it_ends(process: Child) -> None:
    """Ask until there is an exit code; another waiter (psutil) would take it away from the parent."""
    while process.poll() is None:
        time.sleep(0.01)


def test_a_child_gets_its_arguments_and_its_output_is_logged(tmp_path: Path, module: Path) -> None:
    module.write_text("import sys; print(sys.argv[1:], flush=True); sys.exit(0)")
    with child(tmp_path, "a", "--b=c") as process:
        assert wait_for_line(tmp_path / "child.log") == "['a', '--b=c']"
        psutil.Process(process.pid)


def test_a_child_that_ended_is_told_with_its_last_words(tmp_path: Path, module: Path) -> None:
    module.write_text("import sys; print('no more milk'); sys.exit(3)")
    with child(tmp_path) as process:
        until_it_ends(process)
        with pytest.raises(ChildError, match=r"helper ended by itself \(exit code 3\)[\s\S]*no more milk"):
            process.check()


def test_a_child_that_was_killed_is_told_with_the_signal(tmp_path: Path, module: Path) -> None:
    module.write_text("import time; print('up', flush=True); time.sleep(60)")
    with child(tmp_path) as process:
        wait_for_line(tmp_path / "child.log", process)
        psutil.Process(process.pid).kill()
        until_it_ends(process)
        with pytest.raises(ChildError, match="signal SIGKILL"):
            process.check()


def test_a_child_may_clean_up_when_it_is_stopped(tmp_path: Path, module: Path) -> None:
    module.write_text(
        textwrap.dedent("""
            import signal, sys, time
            signal.signal(signal.SIGTERM, lambda *_: (print("cleaned", flush=True), sys.exit(0)))
            print("up", flush=True)
            time.sleep(60)
        """)
    )
    with child(tmp_path) as process:
        wait_for_line(tmp_path / "child.log", process)
    assert process.poll() == 0
    assert "cleaned" in (tmp_path / "child.log").read_text()


def test_a_child_that_does_not_listen_is_ended_with_its_own_children(tmp_path: Path, module: Path) -> None:
    module.write_text(
        textwrap.dedent("""
            import signal, subprocess, sys, time
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            print(grandchild.pid, flush=True)
            time.sleep(60)
        """)
    )
    process = child(tmp_path).start()
    grandchild = psutil.Process(int(wait_for_line(tmp_path / "child.log", process)))
    process.stop(grace_s=0.1)
    assert process.poll() == -signal.SIGKILL
    psutil.wait_procs([grandchild], timeout=WAIT_S)
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child whose parent was killed")
def test_a_child_does_not_outlive_a_parent_that_is_killed(tmp_path: Path, module: Path) -> None:
    module.write_text("import time; print('up', flush=True); time.sleep(60)")
    log = tmp_path / "child.log"
    parent = textwrap.dedent(f"""
        from pathlib import Path
        from stream_app.children import Child
        child = Child("helper", "made", [], Path({str(log)!r})).start()
        print(child.pid, flush=True)
        input()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        left = psutil.Process(int(killed.stdout.readline()))
        wait_for_line(log)
        killed.kill()
    psutil.wait_procs([left], timeout=WAIT_S)
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
