"""The report's page and file: nothing missing, nothing loaded from elsewhere, readable in a real browser."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from stream_app.backtests import report as reports
from stream_app.backtests.report import Curves, Freshness, Refresh, Report, Score, Slice, Weights
from stream_app.commands.backtest import summarise


@pytest.fixture
def report() -> Report:
    ends = list(range(2000, 22_000, 2000))
    rising = [0.10 + 0.02 * i for i in range(10)]
    return Report(
        title="Backtest of <ml-100k>",
        data="ml-100k",
        data_sha256="ab" * 32,
        users=943,
        items=1682,
        first_ts=874_724_710_000,
        last_ts=893_286_638_000,
        events=20_000,
        accepted=20_000,
        scored=19_000,
        unscored={"a user's first event": 1000},
        seconds=12.5,
        hr=0.21,
        ndcg=0.11,
        coverage=0.42,
        novelty=8.7,
        diversity=float("nan"),
        diversity_basis="genres",
        baselines={
            "popularity 5000": Score.of(19_000, 950, 400),
            "co-visitation 30": Score.of(19_000, 3800, 1900),
            "popularity": Score.of(19_000, 570, 200),
        },
        slices=[Slice(name="first 10 % of the stream", score=Score.of(1900, 190, 90))],
        by_gap=[Slice(name="same second", score=Score.of(0, 0, 0))],
        curves=Curves(
            window=2000,
            events=ends,
            hr=[None, *rising[1:]],
            ndcg=rising,
            baselines_hr={
                "popularity 5000": [0.05] * 10,
                "co-visitation 30": rising,
                "popularity": [0.03] * 10,
            },
            cost_us={"learn and list": [120.0] * 10, "train": [float(i) for i in range(10)]},
        ),
        weights=Weights(events=ends, sources={"popularity 5000": [0.05] * 10, "co-visitation 30": rising}),
        refreshes=[Refresh(at=10_000, version="000001", tokens=300_000, seconds=3.0, loss=6.1, items=900)],
        stages_s={"learn and list": 9.0, "train": 3.0},
        settings={"models": {"policy": {"k": 10}}},
        versions={"headrace": "0.1.0"},
        notes=["<script>alert('a note is text')</script>"],
    )


class Page(html.parser.HTMLParser):
    """What a browser would look at: tags with their attributes, and whether they are closed in order."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def test_every_element_is_closed(report: Report) -> None:
    assert Page(reports.to_html(report)).open == []


def test_the_page_loads_nothing(report: Report) -> None:
    page = reports.to_html(report)
    for tag, attributes in Page(page).tags:
        assert tag not in {"script", "img", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "xlink:href", "srcset", "data", "poster"):
            where = attributes.get(name)
            assert where is None or where.startswith(("#", "data:")), f"<{tag} {name}={where!r}>"
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_ids_are_unique_and_every_reference_is_met(report: Report) -> None:
    page = reports.to_html(report)
    ids = Counter(attributes["id"] for _, attributes in Page(page).tags if "id" in attributes)
    assert [name for name, n in ids.items() if n > 1] == []
    references = set(re.findall(r'href="#([^"]*)"', page)) | set(re.findall(r"url\(#([^)]*)\)", page))
    assert references <= set(ids)


def test_every_chart_says_what_it_shows(report: Report) -> None:
    page = Page(reports.to_html(report))
    told = [
        attributes.get("aria-label") or "" for _, attributes in page.tags if attributes.get("role") == "img"
    ]
    drawn = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(told) == len(drawn) == 3
    assert all(attributes.get("aria-hidden") == "true" for attributes in drawn)
    assert "served goes from 0.120 to 0.280" in told[0]
    assert "1 refreshes are marked" in told[0]
    assert "learn and list goes from 120 to 120" in told[1]
    assert "co-visitation 30 goes from 0.10 to 0.28" in told[2]


def test_colours_follow_the_theme(report: Report) -> None:
    page = reports.to_html(report)
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert re.findall(r"(?:fill|stroke): *#[0-9a-f]{6}", drawings) == []
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", page))
    light, dark = page.split("prefers-color-scheme: dark", 1)
    dark = dark.split("box-sizing", 1)[0]
    for variable in used:
        assert f"{variable}:" in light
        assert f"{variable}:" in dark


def test_every_name_says_the_length_of_the_lists(report: Report) -> None:
    report.k = 20
    page, file = reports.to_html(report), reports.to_json(report).decode()
    assert {"HR@20", "NDCG@20"} <= set(re.findall(r"[A-Z]+@\w+", page))
    assert '"hr@20": 0.21' in file
    for text in (page, file, summarise(report)):
        assert not re.search(r"@(?!20\b|media)", text)
    assert "the list of 20" in page


def test_text_from_outside_is_text(report: Report) -> None:
    page = reports.to_html(report)
    assert "Backtest of &lt;ml-100k&gt;" in page
    assert "<script>" not in page


def test_the_same_report_is_the_same_page(report: Report) -> None:
    assert reports.to_html(report) == reports.to_html(report)


def test_the_file_has_the_promised_names_and_no_nan(report: Report, tmp_path: Path) -> None:
    _, path = reports.write(report, tmp_path / "deep" / "er")
    content = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert {"events", "scored", "seconds", "hr@10", "ndcg@10", "baselines"} <= set(content)
    assert content["hr@10"] == 0.21
    assert content["diversity"] is None
    assert content["baselines"]["co-visitation 30"] == {"scored": 19_000, "hr@10": 0.2, "ndcg@10": 0.1}


def test_the_file_can_be_read_back(report: Report) -> None:
    report.diversity = 0.5
    again = msgspec.json.decode(reports.to_json(report), type=Report)
    assert again == report


def test_a_run_that_knows_little_still_has_a_page() -> None:
    page = reports.to_html(
        Report(title="Nothing", data="empty.csv", events=0, seconds=0.0, hr=None, ndcg=None)
    )
    assert Page(page).open == []
    assert "<svg" not in page


def test_a_live_run_shows_its_freshness_and_how_it_was_measured(report: Report) -> None:
    report.kind = "live"
    report.freshness = Freshness(p50_ms=3.2, p99_ms=11.0, updates=900, measured="receive to acknowledgement")
    page = reports.to_html(report)
    assert "3.20 / 11.00 ms" in page
    assert "receive to acknowledgement" in page
    assert "one list after each event" not in page


def test_the_best_popularity_is_the_one_to_beat(report: Report) -> None:
    assert reports.popularity(report) == Score.of(19_000, 950, 400)
    assert "4.20 times popularity (0.0500)" in reports.to_html(report)


def test_nothing_scored_is_not_a_score_of_zero() -> None:
    assert Score.of(0, 0, 0) == Score(scored=0, hr=None, ndcg=None)


@pytest.mark.slow
def test_a_real_browser_renders_it_without_complaint(report: Report, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium or google-chrome on PATH")
    page, _ = reports.write(report, tmp_path)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    picture = tmp_path / "page.png"
    subprocess.run(
        [browser, *flags, f"--screenshot={picture}", "--window-size=1100,1600", page.as_uri()],
        check=True,
        timeout=120,
        capture_output=True,
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    rendered = subprocess.run(
        [browser, *flags, "--dump-dom", page.as_uri()],
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
    ).stdout
    assert rendered.count("<svg") == 3
    assert rendered.rstrip().endswith("</html>")
