"""What an evaluation found out, as one self-contained page and one JSON file.

In: a `Report` (made by `stream_app.backtests.backtest`, or by a live run from its own counters). Out: `report.html`,
which loads nothing from anywhere and reads in dark and light, and `report.json` with the same figures.
Never measures anything itself.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from stream_app.backtests import figures

AT_10 = ("hr@10", "ndcg@10")
"""Names in the file that say another number where lists have another length."""


class Score(msgspec.Struct, kw_only=True, frozen=True):
    """HR and NDCG at the report's k over `scored` events; both are None where nothing was scored."""

    scored: int
    hr: float | None = msgspec.field(name="hr@10")
    ndcg: float | None = msgspec.field(name="ndcg@10")

    @classmethod
    def of(cls, scored: int, hits: float, gain: float) -> Score:
        """From counts: the events, the hits among them, the sum of their NDCG."""
        if not scored:
            return cls(scored=0, hr=None, ndcg=None)
        return cls(scored=int(scored), hr=float(hits) / scored, ndcg=float(gain) / scored)


class Slice(msgspec.Struct, kw_only=True, frozen=True):
    """The score of some of the events, said in words."""

    name: str
    score: Score


class Curves(msgspec.Struct, kw_only=True):
    """Values per window of the stream; every list is as long as `events`, the end of each window."""

    window: int
    events: list[int] = []
    hr: list[float | None] = []
    ndcg: list[float | None] = []
    baselines_hr: dict[str, list[float | None]] = {}
    cost_us: dict[str, list[float | None]] = {}


class Weights(msgspec.Struct, kw_only=True):
    """The blend's weights as the stream went by: for each source one value at each of `events`."""

    events: list[int] = []
    sources: dict[str, list[float]] = {}


class Refresh(msgspec.Struct, kw_only=True, frozen=True):
    """One refresh of the Transformer: after how many events, trained on how many tokens, for how long."""

    at: int
    version: str
    tokens: int
    seconds: float
    loss: float | None = None
    items: int = 0
    live: bool = True


class Freshness(msgspec.Struct, kw_only=True, frozen=True):
    """How old an update was when it was there, in ms, and between which two moments that was measured."""

    p50_ms: float
    p99_ms: float
    updates: int
    measured: str


class Report(msgspec.Struct, kw_only=True):
    """The figures of one run over one stream; what a run cannot know stays empty and is not on the page."""

    title: str
    kind: str = "backtest"
    data: str
    data_sha256: str = ""
    data_notes: list[str] = []
    users: int = 0
    items: int = 0
    first_ts: int | None = None
    last_ts: int | None = None

    events: int
    accepted: int = 0
    scored: int = 0
    unscored: dict[str, int] = {}
    seconds: float
    k: int = 10
    hr: float | None = msgspec.field(name="hr@10")
    ndcg: float | None = msgspec.field(name="ndcg@10")
    coverage: float | None = None
    novelty: float | None = None
    diversity: float | None = None
    diversity_basis: str = ""
    lists: int = 0
    baselines: dict[str, Score] = {}
    slices: list[Slice] = []
    by_gap: list[Slice] = []
    sample: list[Slice] = []
    pipeline: dict[str, float] = {}
    curves: Curves | None = None
    weights: Weights | None = None
    refreshes: list[Refresh] = []
    stages_s: dict[str, float] = {}
    freshness: Freshness | None = None
    counts: dict[str, int] = {}

    seed: int = 0
    window: str = ""
    transformer: bool = True
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
    machine: str = ""
    notes: list[str] = []


def to_json(report: Report) -> bytes:
    """The report as JSON; a figure that does not exist (NaN) is null, and `hr@10` has the length of the lists."""
    return msgspec.json.format(msgspec.json.encode(_plain(msgspec.to_builtins(report), report.k)), indent=1)


def to_html(report: Report) -> str:
    """The report as one page that needs no other file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stream_app"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(share=_share, count=_count, bits=_decimal, day=_day, duration=_duration)
    best = max((s.hr or 0.0 for s in report.baselines.values()), default=0.0)
    popular = popularity(report)
    return environment.get_template("report.html.j2").render(
        report=report,
        figures=figures.draw(report),
        ranked=sorted(report.baselines.items(), key=lambda entry: -(entry[1].hr or 0.0)),
        best=best,
        popular=popular,
        lift=report.hr / popular.hr if popular and popular.hr and report.hr else None,
        settings=msgspec.json.format(msgspec.json.encode(report.settings), indent=1).decode(),
        stages=sorted(report.stages_s.items(), key=lambda entry: -entry[1]),
    )


def popularity(report: Report) -> Score | None:
    """The best of the popularity baselines: what a shop without a recommender would show."""
    of_popularity = [score for name, score in report.baselines.items() if name.startswith("popular")]
    return max(of_popularity, key=lambda score: score.hr or 0.0, default=None)


def milliseconds(ms: int) -> str:
    """A length of time as people write it.

    >>> milliseconds(60_000), milliseconds(1_000), milliseconds(1_500)
    ('1 m', '1 s', '1500 ms')
    """
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")):
        if ms % size == 0:
            return f"{ms // size} {unit}"
    return f"{ms} ms"


def write(report: Report, out: Path) -> tuple[Path, Path]:
    """Writes `report.html` and `report.json` into the folder `out`, which is made; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    page, figures_file = out / "report.html", out / "report.json"
    page.write_text(to_html(report), encoding="utf-8")
    figures_file.write_bytes(to_json(report) + b"\n")
    return page, figures_file


def _plain(value: Any, k: int) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {
            key.replace("@10", f"@{k}") if key in AT_10 else key: _plain(inner, k)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_plain(inner, k) for inner in value]
    return value


def _share(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.4f}"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _decimal(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.2f}"


def _day(ts: int | None) -> str:
    return "–" if ts is None else f"{datetime.fromtimestamp(ts / 1000, UTC):%Y-%m-%d}"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
