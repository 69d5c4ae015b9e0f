"""The table of an evaluation: one record a model and seed, with intervals and the comparison with the best.

In: findings of each model and seed. Out: records, and `table.json`. Metrics have their usual names (`hr@10`); a figure
that does not exist is null. Never prints: see `stream_app.evaluation.view`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from models.durable import write_durably
from models.metrics.rankings import RANKING
from models.metrics.significance import holm, intervals, paired_p
from stream_app.evaluation.examine import Findings, Group

Record = dict[str, Any]
AT_K = ("coverage", "novelty", "diversity", "arp", "gini")
COLD_GROUPS = ("cold users", "cold items", "new users")
DECIDES = "ndcg"
"""The metric by which the best model is the best, and by which the others are compared with it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One model with one seed: its findings, or why there are none."""

    model: str
    seed: int
    settings: dict[str, Any]
    findings: Findings | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Table:
    """Records in the order in which the models were asked.

    Attributes:
        facts: what is the same for all records.
        k: length of a list.
    """

    facts: Record
    k: int
    records: list[Record] = field(default_factory=list)
    _groups: dict[tuple[str, int], Group] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """One more record; what it is compared with the best comes with `compare`."""
        self.records.append(_record(entry, self.facts, self.k))
        if entry.findings is not None:
            self._groups[entry.model, entry.seed] = entry.findings.groups["all"]

    def compare(self) -> None:
        """Fill in `vs_best`: difference to the best model with the same seed, its interval, and p-values.

        The p-values are those of a paired test over users; `p_holm` is corrected for all comparisons of a seed. With a
        seed on which the best model failed, nothing is compared.
        """
        ranked = self.by_model()
        best = ranked[0][0]["model"] if ranked else ""
        for seed in {seed for model, seed in self._groups if model == best}:
            top = self._groups[best, seed]
            rivals = [record for records in ranked[1:] for record in records if record["seed"] == seed]
            for record in rivals:
                own = self._groups[record["model"], seed]
                difference = own.sums[DECIDES] - top.sums[DECIDES]
                record["vs_best"] = {
                    "best": best,
                    "metric": f"{DECIDES}@{self.k}",
                    "difference": float(difference.sum() / own.lists.sum()),
                    "ci": intervals(difference[:, None], own.lists)[0].tolist(),
                    "p": paired_p(difference),
                }
            corrected = holm([record["vs_best"]["p"] for record in rivals])
            for record, p in zip(rivals, corrected, strict=True):
                record["vs_best"]["p_holm"] = p

    @property
    def failed(self) -> list[Record]:
        """Those that say why they have no figures."""
        return [record for record in self.records if record["error"] is not None]

    def by_model(self) -> list[list[Record]]:
        """The records of each model that has figures, all seeds of one together, the best model first."""
        models: dict[str, list[Record]] = {}
        for record in self.records:
            if record["error"] is None:
                models.setdefault(record["model"], []).append(record)
        return sorted(models.values(), key=lambda records: -(mean(records, f"{DECIDES}@{self.k}") or 0.0))


def mean(records: list[Record], metric: str) -> float | None:
    """The mean of a figure over seeds; None where it does not exist."""
    values = [record[metric] for record in records if record.get(metric) is not None]
    return sum(values) / len(values) if values else None


def interval(records: list[Record], metric: str) -> tuple[float, float] | None:
    """The mean of the bounds over seeds."""
    bounds = [record["ci"][metric] for record in records if record["ci"].get(metric)]
    if not bounds:
        return None
    low, high = np.mean(np.array(bounds, np.float64), axis=0)
    return float(low), float(high)


def write(done: Table, out: Path) -> Path:
    """`table.json` in the folder `out`, which is made; whole or as it was before."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "table.json"
    write_durably(path, msgspec.json.format(msgspec.json.encode(done.records), indent=1) + b"\n")
    return path


def _record(entry: Entry, facts: Record, k: int) -> Record:
    head: Record = {"model": entry.model, "seed": entry.seed, "settings": entry.settings, **facts}
    if entry.findings is None:
        return head | {"error": entry.error}
    found = entry.findings
    figures = {f"{name}@{k}" if name in AT_K else name: value for name, value in found.figures.items()}
    if facts["ranking"] != "full":
        # of a list of a hundred given items they say nothing about the model
        figures |= {f"{name}@{k}": float("nan") for name in AT_K}
    ends, along = found.curve
    record: Record = _finite(
        head
        | {"asked_before_learning": found.unlearned}
        | _scores(found.groups["all"], k)
        | figures
        | {"cold": {name.replace(" ", "_"): _scores(found.groups[name], k) for name in COLD_GROUPS}}
        | {"curve": {"events": ends, f"hr@{k}": along}}
        | {"vs_best": None, "error": None}
    )
    return record


def _scores(group: Group, k: int) -> Record:
    """Means over lists, and their 95 % intervals from resampled users."""
    names = [*RANKING, "serendipity"]
    sums = np.stack([group.sums[name] for name in names], axis=1)
    lists = float(group.lists.sum())
    bounds = intervals(sums, group.lists)
    return {
        "lists": int(lists),
        "users_asked": len(group.users),
        **{
            f"{name}@{k}": float(total) / lists if lists else None
            for name, total in zip(names, sums.sum(axis=0), strict=True)
        },
        "ci": {f"{name}@{k}": bounds[at].tolist() for at, name in enumerate(names)} if lists else {},
    }


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value
