"""One wheel from the package index that the user's pip is set up for.

In: a pinned requirement and a folder. Out: the path of the wheel. Never installs anything, runs the
package's code or names an index.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

TIMEOUT_S = 300.0


class PackageError(Exception):
    """No pip could fetch the package; the message says which were tried and what each said."""


def pips() -> list[list[str]]:
    """The ways to run pip on this machine, the interpreter's own first (a venv made by uv has none)."""
    ways: list[list[str]] = []
    if importlib.util.find_spec("pip") is not None:
        ways.append([sys.executable, "-m", "pip"])
    for name in ("pip", "pip3"):
        path = shutil.which(name)
        if path is not None:
            ways.append([path])
            break
    uv = shutil.which("uv")
    if uv is not None:
        ways.append([uv, "tool", "run", "pip"])
    return ways


def download_wheel(requirement: str, folder: Path) -> Path:
    """`pip download` of one pure-Python wheel, without its dependencies.

    Raises PackageError.
    """
    said = []
    for way in pips():
        command = [*way, "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            said.append(f"{' '.join(way)}: {error}")
            continue
        wheels = sorted(folder.glob("*.whl"))
        if done.returncode == 0 and wheels:
            return wheels[0]
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        said.append(f"{' '.join(way)}: {lines[-1]}")
    if not said:
        said.append("there is no pip; install one (python -m ensurepip)")
    raise PackageError(f"pip download {requirement}: " + "; ".join(said))
