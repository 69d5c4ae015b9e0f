"""The worker in a process of its own, forked from one in which everything is imported and compiled already.

`HEADRACE_TEST_POISON=raise|exit|all` breaks its pipeline: an exception, or the end of the process, at a record
that carries a poison; an exception at every record.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from stream_app.batch.pipeline import Pipeline
from stream_app.errors import HeadraceError
from stream_app.settings import load
from stream_app.store.state import StateStore
from stream_app.worker.app import build_pipeline, run_worker
from stream_app.worker.warm_up import warm_up

POISON = b"poison"

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])


def start_worker(overrides: Mapping[str, Any], environment: Mapping[str, str], log: Path) -> BaseProcess:
    """Fork a worker; what it says is appended to `log`."""
    process = _FORKS.Process(target=_main, args=(dict(overrides), dict(environment), log), daemon=True)
    process.start()
    return process


def _poisoned(pipeline: Pipeline, way: str) -> Pipeline:
    process = pipeline.process

    def fragile(records: Sequence[Any], **options: Any) -> Any:
        if way == "all" or any(POISON in (record.value or b"") for record in records):
            if way == "exit":
                os._exit(139)
            raise ZeroDivisionError("a model met a poisoned record")
        return process(records, **options)

    pipeline.process = fragile  # type: ignore[method-assign]
    return pipeline


def _main(overrides: dict[str, Any], environment: dict[str, str], log: Path) -> None:
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ.update(environment)
    warnings.simplefilter("ignore")
    settings = load(overrides)
    way = environment.get("HEADRACE_TEST_POISON", "")

    def build(store: StateStore, partitions: int) -> Pipeline:
        pipeline = build_pipeline(settings, store, partitions)
        return _poisoned(pipeline, way) if way else pipeline

    if limit := environment.get("HEADRACE_TEST_FILE_BYTES"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    try:
        code = run_worker(settings, build=build)
    except HeadraceError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if multiprocessing.parent_process() is None and "forkserver" in " ".join(sys.orig_argv):
    warm_up(load())
