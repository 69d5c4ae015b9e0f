"""Garbage collection that spares what was there before."""

from __future__ import annotations

import gc
import weakref

from stream_app.worker.garbage import spare_what_is_there


class Node:
    """Something in a cycle."""

    def __init__(self) -> None:
        self.itself = self


def test_what_is_there_is_no_longer_looked_through_and_what_comes_later_is_freed() -> None:
    kept = Node()
    spare_what_is_there()
    try:
        assert len(gc.get_objects()) < 1000
        assert not any(one is kept for one in gc.get_objects())
        gone = weakref.ref(Node())
        gc.collect()
        assert gone() is None
    finally:
        gc.unfreeze()


def test_what_was_spared_is_freed_at_the_next_call_when_nothing_holds_it() -> None:
    node = Node()
    gone = weakref.ref(node)
    spare_what_is_there()
    try:
        del node
        gc.collect()
        assert gone() is not None
        spare_what_is_there()
        assert gone() is None
    finally:
        gc.unfreeze()
