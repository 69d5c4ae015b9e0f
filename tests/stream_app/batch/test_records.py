"""Lists of item numbers as records."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.base import Lists
from models.pipeline.recommender import EXPLORATION
from stream_app.batch.records import EVENT, Progress, RecordWriter


class Names:
    def id_of(self, number: int) -> str | None:
        return f"i{number}"


def written(scores: list[float], sources: list[int]) -> list[dict[str, object]]:
    """The items of a list of items 0, 1, … with these scores; source 1 is the lot."""
    writer = RecordWriter(("popularity", EXPLORATION), ("events",), Names(), lambda _: "", lambda: 5.0)
    k = len(scores)
    lists = Lists(
        event=np.zeros(1, np.int64), user=np.zeros(1, np.int32), revision=np.ones(1, np.int64),
        items=np.arange(k, dtype=np.int32)[None], scores=np.array([scores], np.float32),
        source=np.array([sources], np.uint8), because=np.full((1, k), -1, np.int32),
    )  # fmt: skip
    (one,) = writer.lists(lists, ["u"], [Progress(0, [3], 1, 2)], reason=EVENT, received_ms=4.0, models={})
    items: list[dict[str, object]] = json.loads(one.value or b"")["items"]
    return items


@pytest.mark.parametrize("chance", [1.0, 0.5, 4.8828e-06, 3.1415926e-08])
def test_a_chance_keeps_its_digits_however_small_it_is(chance: float) -> None:
    listed, drawn = written([0.123456789, chance], [0, 1])
    assert listed["score"] == 0.123457
    assert "propensity" not in listed
    assert drawn["propensity"] == drawn["score"] == pytest.approx(chance, rel=1e-5)
