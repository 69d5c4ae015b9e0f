"""What a GPU brings: training of the Transformer, and users' vectors after a swap, on the CPU and on CUDA.

    python -m benchmarks.device

Made-up events (60,000 of 2,000 users, 4,000 items by a power law); devices take turns. Ratios are to one thread of the
CPU in the same run. Without a CUDA device it measures the CPU alone. The vectors of both devices are compared too.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import record
from models.base import F32
from models.config import TransformerSettings
from models.sequence.encode import Events, encode
from models.sequence.transformer import band_for
from models.training.event_log import EventLog
from models.training.train import Trainer

EVENTS, USERS, ITEMS = 60_000, 2_000, 4_000
WARM, TOKENS, ROUNDS, LENGTH = 5_000, 30_000, 5, 100
WIDTHS = (64, 128)
SCALE = (1.0, 5.0)


def made_up() -> EventLog:
    """A log with the planted numbers of users and items."""
    rng = np.random.default_rng(0)
    user = rng.integers(0, USERS, EVENTS)
    item = np.minimum(rng.zipf(1.3, EVENTS), ITEMS)
    log = EventLog(EVENTS)
    log.append(
        [f"u{code}" for code in user],
        [f"i{code}" for code in item],
        ["rating"] * EVENTS,
        rng.integers(1, 6, EVENTS).astype(np.float32),
        np.ones(EVENTS, np.float32),
        np.arange(EVENTS) * 1000,
        {},
    )
    return log


def main() -> None:
    torch.set_num_threads(1)
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    taken_on, log = record.machine(), made_up()
    if len(devices) > 1:
        taken_on["gpu"] = torch.cuda.get_device_name()
    table = []
    for width in WIDTHS:
        config = TransformerSettings(d_model=width)
        trainers = {device: Trainer(config, band_for(LENGTH, config.layers), 0, device) for device in devices}
        took: dict[str, dict[str, list[float]]] = {device: {"train": [], "encode": []} for device in devices}
        vectors: dict[str, F32] = {}
        for trainer in trainers.values():
            trainer.refresh(log, 0, WARM)
        sequences = log.sequences()
        events = Events(
            trainers["cpu"].rows.of(log.items.ids)[sequences.item],
            np.ones(len(sequences), np.int32),
            sequences.value,
            sequences.gap,
        )
        for _ in range(ROUNDS):
            for device, trainer in trainers.items():
                started = time.perf_counter()
                trained = trainer.refresh(log, EVENTS * 2 // 3, TOKENS).tokens
                took[device]["train"].append(trained / (time.perf_counter() - started))
                # Every device encodes with the weights of the first, so that the vectors can be compared.
                model = trainer.average.to("cpu") if device == "cpu" else trainer.average
                model.load_state_dict(trainers["cpu"].average.state_dict())
                started = time.perf_counter()
                vectors[device] = encode(model, events, sequences.starts, SCALE)
                took[device]["encode"].append(USERS / (time.perf_counter() - started))
        for device in devices:
            row: dict[str, Any] = {"device": device, "width": width}
            for what, unit in (("train", "trained_tokens_per_s"), ("encode", "users_encoded_per_s")):
                rate = median(took[device][what])
                row[unit] = round(rate)
                row[f"{what}_times_cpu"] = round(rate / median(took["cpu"][what]), 2)
            row["largest_difference_of_vectors"] = float(np.abs(vectors[device] - vectors["cpu"]).max())
            table.append(row)
            print(row, flush=True)
    record.write("device", "python -m benchmarks.device", {"table": table}, taken_on)


if __name__ == "__main__":
    main()
