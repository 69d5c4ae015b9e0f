"""Runs benchmarks one after the other, each in a process of its own: `python -m benchmarks [NAME …]`.

Without names: all but the long backtests, about an hour. NAME is a key of PROGRAMS.
"""

from __future__ import annotations

import subprocess
import sys

PROGRAMS = {
    "learning_path": ["learning_path"],
    "catch_up": ["catch_up"],
    "memory": ["memory"],
    "echo": ["echo"],
    "whole_path": ["whole_path", "--rate", "2000", "--minutes", "10"],
    "freshness": ["whole_path", "--rate", "1000", "--minutes", "3", "--echo"],
    "embedded": ["whole_path", "--rate", "500", "--minutes", "2", "--embedded"],
    "ml-100k": ["backtests", "ml-100k", "3", "both"],
    "any_stream": ["any_stream", "both"],
    "cold_start": ["cold_start"],
    "compression": ["compression", "ml-100k"],
    "device": ["device"],
    "staleness": ["staleness", "ml-100k"],
    "sync_interval": ["sync_interval", "ml-100k"],
    "ml-1m-cheap": ["backtests", "ml-1m", "3", "without"],
    "ml-1m": ["backtests", "ml-1m", "1", "with"],
}
LONG = frozenset({"ml-1m", "ml-1m-cheap"})


def main() -> int:
    unknown = [name for name in sys.argv[1:] if name not in PROGRAMS]
    if unknown:
        print(
            f"no benchmark is called {', '.join(unknown)}; there are {', '.join(PROGRAMS)}", file=sys.stderr
        )
        return 2
    failed = []
    for name in sys.argv[1:] or [name for name in PROGRAMS if name not in LONG]:
        module, *arguments = PROGRAMS[name]
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *arguments], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"did not succeed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
