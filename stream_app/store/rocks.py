"""RocksDB as the state store wants it: its options, and its errors in words for people.

In: a state folder. Out: an open database, with its column families. Never knows a key.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rocksdict import AccessType, BlockBasedOptions, Cache, DBCompressionType, Options, Rdict

from stream_app.errors import HeadraceError
from stream_app.store.state_folder import StateError

WRITE_BUFFER_BYTES = 64 << 20
"""One limit over the write buffers of all column families."""
BLOCK_CACHE_BYTES = 64 << 20
WAL_BYTES = 256 << 20


def database_path(directory: Path) -> Path:
    """Where in a state folder the database lies."""
    return directory / "db"


def family_options(cache: Cache | None = None) -> Options:
    """Options of one column family: raw bytes, lz4, a Bloom filter (most users who come are new)."""
    options = Options(raw_mode=True)
    options.set_compression_type(DBCompressionType.lz4())
    table = BlockBasedOptions()
    table.set_bloom_filter(10, False)
    if cache is not None:
        table.set_block_cache(cache)
    options.set_block_based_table_factory(table)
    return options


def family_names(path: Path) -> list[str]:
    """Column families that are there, but for RocksDB's own `default`."""
    if not (path / "CURRENT").exists():
        return []
    return [name for name in Rdict.list_cf(str(path), Options(raw_mode=True)) if name != "default"]


def open_database(directory: Path, access: AccessType) -> Rdict:
    """The database of a state folder, with its column families and `items` and `meta`."""
    path = database_path(directory)
    names = {"items", "meta", *family_names(path)}
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_db_write_buffer_size(WRITE_BUFFER_BYTES)  # over all column families
    options.set_max_total_wal_size(WAL_BYTES)
    options.set_keep_log_file_num(4)
    cache = Cache(BLOCK_CACHE_BYTES)
    with explained(directory):
        return Rdict(
            str(path),
            options,
            column_families={name: family_options(cache) for name in names},
            access_type=access,
        )


class explained:  # noqa: N801 - reads as a clause: `with explained(directory):`
    """Turns what RocksDB raises into a StateError that says what to do."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, HeadraceError) or not isinstance(error, Exception):
            return
        said = str(error)
        if "lock" in said.lower() and "unavailable" in said:
            raise StateError(
                f"the state in {self._directory} is open in another program",
                "One worker writes to a state folder: stop the other, or give this one its own --state-dir.",
            ) from error
        if "No space left" in said or "File too large" in said or "quota" in said.lower():
            raise StateError(
                f"the disk under {self._directory} is full: {said}",
                "Nothing was half-written: the last commit counts. Free some space and start again: "
                "the worker goes on from there.",
            ) from error
        raise StateError(
            f"RocksDB refuses in {self._directory}: {said}",
            "Nothing was half-written. If the folder is damaged, start over in a new one from the log.",
        ) from error
