"""The worker as a program for tests: settings as JSON in argv; records that carry a poison break its
pipeline.

`HEADRACE_TEST_POISON=raise|exit|all` says how: an exception, the end of the process, an exception at every
record."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from stream_app.app import build_pipeline, run_worker
from stream_app.errors import HeadraceError
from stream_app.pipeline import Pipeline
from stream_app.settings import Settings, load
from stream_app.state import StateStore

POISON = b"poison"


def poisoned(pipeline: Pipeline, way: str) -> Pipeline:
    process = pipeline.process

    def fragile(records: Sequence[Any], **options: Any) -> Any:
        if way == "all" or any(POISON in (record.value or b"") for record in records):
            if way == "exit":
                os._exit(139)
            raise ZeroDivisionError("a model met a poisoned record")
        return process(records, **options)

    pipeline.process = fragile  # type: ignore[method-assign]
    return pipeline


def main() -> int:
    settings: Settings = load(json.loads(sys.argv[1]))
    way = os.environ.get("HEADRACE_TEST_POISON", "")

    def build(store: StateStore, partitions: int) -> Pipeline:
        pipeline = build_pipeline(settings, store, partitions)
        return poisoned(pipeline, way) if way else pipeline

    try:
        return run_worker(settings, build=build)
    except HeadraceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
