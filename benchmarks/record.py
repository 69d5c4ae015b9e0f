"""Where a benchmark's figures go: one JSON file each under `results/`, with the machine they were taken on.

In: a name and figures. Out: the file, and the same figures printed. Never touches the result of another name.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("aiokafka", "faust-streaming", "numba", "numpy", "rocksdict", "torch")


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "load_before": round(os.getloadavg()[0], 2),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def write(name: str, command: str, figures: dict[str, Any], taken_on: dict[str, Any]) -> Path:
    """`results/NAME.json`: the command that made the figures, the machine, the figures."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    content = {"command": command, "machine": taken_on, **figures}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))
    print(f"written to {path}")
    return path


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median and every single value, which says more of the spread than a deviation of three."""
    return {"median": round(statistics.median(values), 1), "runs": [round(value, 1) for value in values]}


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Of a latency in ms."""
    ordered = sorted(values)
    if not ordered:
        return {}
    pick = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
    found = {
        name: round(ordered[min(len(ordered) - 1, int(len(ordered) * q))], 2) for name, q in pick.items()
    }
    return found | {"max": round(ordered[-1], 2), "n": len(ordered)}


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
