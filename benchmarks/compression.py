"""What fewer bits cost: size, speed and HR@10 of one Transformer in float32, in halves, in int8, pruned, and distilled.

    python -m benchmarks.compression [DATA] [SEED]

One model is trained on the first 90 % of the events. Every event after them is asked for with the user's exact history
(full ranking over the items that the model knows, those that the user had left out), by weights that don't change.
Times are medians of several rounds in which all forms take turns; the ratios are to float32 of the same run. A pruned
model computes in float32, with zeros. A narrower model is taught on the same events, by them and by the whole model,
and once by the events alone.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import record
from models.base import F32, Bool
from models.compression.distil import Student
from models.compression.low_precision import computing_in, scorer
from models.compression.packed import Form
from models.compression.prune import pruned
from models.compression.snapshots import compress
from models.family.contract import best
from models.sequence import snapshot
from models.sequence.encode import Events, encode
from models.sequence.snapshot import WEIGHTS
from models.sequence.transformer import CausalTransformer, band_for
from models.training.event_log import EventLog, Sequences
from models.training.train import Trainer
from producers import datasets
from stream_app.settings import load

TOKENS_PER_EVENT = 20
NARROW = 32
"""Width of the model that is taught by the whole one."""
ROUNDS, TIMED = 7, 64
"""Rounds of timing, and the queries scored together in them."""
SCALE = (1.0, 5.0)


class Asked:
    """The events after the cut: histories as the model reads them, and what was right."""

    def __init__(self, sequences: Sequences, cut: int, n_items: int, events: Events) -> None:
        self.events, self.offsets = events, sequences.starts
        first = np.zeros(len(sequences), np.bool_)
        first[sequences.starts[:-1]] = True
        late = (sequences.number >= cut) & ~first & (events.rows > 0)
        self.at = np.flatnonzero(late)
        self.target = events.rows[self.at]
        owner = np.searchsorted(sequences.starts, self.at, side="right") - 1
        self.had: Bool = np.zeros((len(self.at), n_items + 1), np.bool_)
        self.had[:, 0] = True
        for question, (place, user) in enumerate(zip(self.at.tolist(), owner.tolist(), strict=True)):
            self.had[question, events.rows[sequences.starts[user] : place]] = True
        news = ~self.had[np.arange(len(self.at)), self.target]
        self.at, self.target, self.had = self.at[news], self.target[news], self.had[news]

    def hits(
        self, model: CausalTransformer, score: Callable[[torch.Tensor], torch.Tensor]
    ) -> dict[str, float]:
        """HR@10 and NDCG@10."""
        vectors = encode(model, self.events, self.offsets, SCALE)[self.at - 1]
        places = np.full(len(self.at), -1)
        for start in range(0, len(self.at), 512):
            part = slice(start, start + 512)
            with torch.inference_mode():
                scores: F32 = score(torch.from_numpy(vectors[part])).numpy()
            listed, _ = best(np.where(self.had[part], np.float32(-np.inf), scores), 10)
            found = listed == self.target[part, None]
            places[part] = np.where(found.any(1), found.argmax(1), -1)
        hit = places >= 0
        return {
            "hr@10": round(float(hit.mean()), 5),
            "ndcg@10": round(float(np.where(hit, 1.0 / np.log2(np.maximum(places, 0) + 2.0), 0.0).mean()), 5),
        }


def one_by_one(score: Callable[[torch.Tensor], torch.Tensor], queries: torch.Tensor) -> None:
    """Score each query on its own."""
    for query in queries:
        score(query[None])


def milliseconds(work: Callable[[], object]) -> float:
    """Of one call."""
    started = time.perf_counter()
    work()
    return 1000.0 * (time.perf_counter() - started)


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "ml-100k"
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    torch.set_num_threads(1)
    taken_on, data, settings = record.machine(), datasets.load(name), load()
    cut = len(data) * 9 // 10
    log, past = EventLog(len(data)), EventLog(len(data))
    for to, n in ((past, cut), (log, len(data))):
        rows = slice(0, n)
        to.append(
            [data.user_ids[code] for code in data.user[rows]],
            [data.item_ids[code] for code in data.item[rows]],
            [data.types[code] for code in data.type[rows]],
            data.value[rows].astype(np.float32),
            np.ones(n, np.float32),
            data.ts[rows],
            {},
        )
    trainer = Trainer(
        settings.models.transformer,
        band_for(settings.models.sequence.length, settings.models.transformer.layers),
        seed,
    )
    trained = trainer.refresh(past, 0, TOKENS_PER_EVENT * cut)
    sequences = log.sequences()
    events = Events(
        trainer.rows.of(log.items.ids)[sequences.item],
        np.ones(len(sequences), np.int32),
        sequences.value,
        sequences.gap,
    )
    with tempfile.TemporaryDirectory() as folder:
        snapshot.write(Path(folder) / "fp32", trainer, "fp32")
        whole = snapshot.read(Path(folder) / "fp32")
        sizes = {"fp32": (Path(folder) / "fp32" / WEIGHTS).stat().st_size}
        models: dict[str, tuple[Any, Any]] = {"fp32": (whole.model, scorer(whole.model))}
        halves: tuple[Form, ...] = ("int8", "bf16", "fp16")
        for form in halves:
            compress(whole, form, Path(folder) / form, form)
            sizes[form] = (Path(folder) / form / WEIGHTS).stat().st_size
            models[form] = computing_in(whole.model, form), scorer(whole.model, form)
        for share in (0.5, 0.8):
            called = f"pruned {share}"
            compress(whole, "pruned", Path(folder) / called, called, share)
            sizes[called] = (Path(folder) / called / WEIGHTS).stat().st_size
            model = pruned(whole.model, share)
            models[called] = model, scorer(model)
        narrow = settings.models.transformer.model_copy(update={"d_model": NARROW})
        for taught, share in (("distilled", 0.5), ("alone", 0.0)):
            called = f"width {NARROW}, {taught}"
            student = Student(narrow, seed, whole, share)
            student.refresh(past, 0, TOKENS_PER_EVENT * cut)
            snapshot.write(Path(folder) / called, student, called)
            sizes[called] = (Path(folder) / called / WEIGHTS).stat().st_size
            models[called] = student.average, scorer(student.average)
    asked = Asked(sequences, cut, whole.model.n_items, events)
    users = int(np.searchsorted(sequences.starts, 2000))
    some = events.take(np.arange(sequences.starts[users]))
    asking = {width: torch.randn(TIMED, width) for width in (NARROW, settings.models.transformer.d_model)}
    took: dict[str, dict[str, list[float]]] = {form: {"encode": [], "one": [], "many": []} for form in models}
    for _ in range(ROUNDS):
        for form, (model, score) in models.items():
            queries = asking[model.item.shape[1]]
            work: dict[str, Callable[[], object]] = {
                "encode": partial(encode, model, some, sequences.starts[: users + 1], SCALE),
                "one": partial(one_by_one, score, queries),
                "many": partial(score, queries),
            }
            with torch.inference_mode():
                for what, call in work.items():
                    took[form][what].append(milliseconds(call))
    reference = {what: median(values) for what, values in took["fp32"].items()}
    table = []
    for form, (model, score) in models.items():
        times = {what: median(values) for what, values in took[form].items()}
        table.append(
            {
                "form": form,
                "bytes": sizes[form],
                "of_fp32": round(sizes[form] / sizes["fp32"], 3),
                **asked.hits(model, score),
                "encode_us_per_event": round(1000 * times["encode"] / len(some), 2),
                "score_us_one_by_one": round(1000 * times["one"] / TIMED, 2),
                "score_us_in_batches": round(1000 * times["many"] / TIMED, 2),
                "times_fp32": {what: round(times[what] / reference[what], 2) for what in times},
            }
        )
        print(table[-1], flush=True)
    figures = {
        "data_sha256": data.sha256,
        "seed": seed,
        "tokens": trained.tokens,
        "items": whole.model.n_items,
        "asked": len(asked.at),
        "table": table,
    }
    record.write(f"compression_{name}", f"python -m benchmarks.compression {name} {seed}", figures, taken_on)


if __name__ == "__main__":
    main()
