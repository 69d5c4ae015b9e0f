from __future__ import annotations

import codecs
import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from producers.columns import Dataset
from producers.tables import TableError, read

MOVIES = {"user": "userId", "item": "movieId", "value": "rating", "ts": "timestamp"}


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def rows(data: Dataset) -> list[tuple[str, str, str, int]]:
    return [
        (data.user_ids[u], data.item_ids[i], data.types[t], ts)
        for u, i, t, ts in zip(data.user, data.item, data.type, data.ts.tolist(), strict=True)
    ]


def test_columns_named_as_on_the_wire_need_no_map(tmp_path: Path) -> None:
    text = "ts,user_id,item_id,type,value,event_id\n2,u,a,view,,\n1,v,b,rating,4.5,e1\n"
    data = read(written(tmp_path, "events.csv", text))
    assert rows(data) == [("v", "b", "rating", 1), ("u", "a", "view", 2)]
    assert data.value[0] == 4.5
    assert np.isnan(data.value[1])
    assert data.event_id == ["e1", None]


def test_a_scenario_is_read_where_the_file_has_one(tmp_path: Path) -> None:
    text = "ts,user_id,item_id,place\n2,u,a,shop\n1,v,b,\n3,u,c,home\n"
    data = read(written(tmp_path, "events.csv", text), {"scenario": "place"})
    assert [data.scenarios[code] if code >= 0 else None for code in data.scenario] == [None, "shop", "home"]
    without = read(written(tmp_path, "without.csv", text.replace("place", "other")))
    assert without.scenarios == []
    assert without.scenario.tolist() == [-1, -1, -1]
    assert without.sha256 != data.sha256


def test_the_same_events_in_every_format_are_the_same_data(tmp_path: Path) -> None:
    text = "userId,movieId,rating,timestamp\n1,2,3.5,978300760\n7,2,4,978300700\n"
    lines = '{"userId":1,"movieId":"2","rating":3.5,"timestamp":978300760}\n'
    lines += '\n{"userId":"7","movieId":2,"rating":4,"timestamp":978300700}\n'
    (tmp_path / "zipped.csv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "zipped.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    frame = {
        "userId": [1, 7],
        "movieId": ["2", "2"],
        "rating": [3.5, 4.0],
        "timestamp": [978300760, 978300700],
    }
    pl.DataFrame(frame).write_parquet(tmp_path / "a.parquet")
    paths = [
        written(tmp_path, "a.csv", text),
        written(tmp_path, "a.tsv", text.replace(",", "\t")),
        written(tmp_path, "semicolons.csv", text.replace(",", ";")),
        written(tmp_path, "colons.dat", text.replace(",", "::")),
        written(tmp_path, "a.jsonl", lines),
        tmp_path / "zipped.csv.gz",
        tmp_path / "zipped.jsonl.gz",
        tmp_path / "a.parquet",
    ]
    found = {path.name: read(path, MOVIES, ts_unit="s") for path in paths}
    assert {name: data.sha256 for name, data in found.items()} == dict.fromkeys(found, found["a.csv"].sha256)
    assert rows(found["a.csv"]) == [("7", "2", "rating", 978300700000), ("1", "2", "rating", 978300760000)]


def test_a_file_without_a_header_is_read_by_column_number(tmp_path: Path) -> None:
    path = written(tmp_path, "ratings.dat", "1::1193::5::978300760\n2::661::3::978302109\n")
    data = read(path, {"user": "0", "item": "1", "value": "2", "ts": "3"}, ts_unit="s")
    assert rows(data) == [("1", "1193", "rating", 978300760000), ("2", "661", "rating", 978302109000)]


def test_a_given_delimiter_may_be_any_text(tmp_path: Path) -> None:
    path = written(tmp_path, "odd.txt", "user_id#~item_id#~ts\na,b#~c d#~5\n")
    assert rows(read(path, delimiter="#~")) == [("a,b", "c d", "click", 5)]


def test_quoted_fields_may_hold_the_delimiter_and_line_ends(tmp_path: Path) -> None:
    path = written(tmp_path, "quoted.csv", 'user_id,item_id,ts\n"a,b","c\nd",5\n')
    assert rows(read(path)) == [("a,b", "c\nd", "click", 5)]


@pytest.mark.parametrize(
    ("unit", "text", "ms"),
    [
        ("ms", "978300760123", 978300760123),
        ("ms", "978300760123.0", 978300760123),
        ("s", "978300760", 978300760000),
        ("s", "978300760.5", 978300760500),
        ("iso", "2000-12-31T22:12:40Z", 978300760000),
        ("iso", "2000-12-31 22:12:40", 978300760000),
        ("iso", "2000-12-31T22:12:40.25+00:00", 978300760250),
        ("iso", "2001-01-01T00:12:40+0200", 978300760000),
        ("iso", "2000-12-31T22:12", 978300720000),
        ("iso", "2000-12-31", 978220800000),
    ],
)
def test_times_are_read_in_the_given_unit(tmp_path: Path, unit: str, text: str, ms: int) -> None:
    path = written(tmp_path, "a.csv", f"user_id,item_id,ts\nu,i,{text}\n")
    assert read(path, ts_unit=unit).ts.tolist() == [ms]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "user_id,item_id\nu,i\n"),
        ("a.jsonl", '{"user_id": "u", "item_id": "i"}\n'),
        ("b.csv", "u,i,5\n"),
    ],
)
def test_a_file_without_times_is_told_why_they_are_needed_and_what_to_do(
    tmp_path: Path, name: str, text: str
) -> None:
    columns = {"user": "0", "item": "1"} if name == "b.csv" else {}
    with pytest.raises(
        TableError, match=r"no column ts .*\n(.*\n)*.*needs its time.*\n.*add a column that counts"
    ):
        read(written(tmp_path, name, text), columns)


def test_a_file_with_times_but_no_items_is_not_told_of_times(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no column item_id") as caught:
        read(written(tmp_path, "a.csv", "user_id,ts\nu,1\n"))
    assert "needs its time" not in str(caught.value)


def test_parquet_times_need_no_unit(tmp_path: Path) -> None:
    when = datetime(2001, 1, 1, tzinfo=UTC)
    path = tmp_path / "a.parquet"
    pl.DataFrame({"user_id": ["u"], "item_id": [3], "ts": [when]}).write_parquet(path)
    assert read(path, ts_unit="s").ts.tolist() == [978307200000]


def test_seconds_read_as_milliseconds_are_remarked_on(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "user_id,item_id,ts\nu,i,978300760\n")
    assert "if they are seconds" in read(path).note
    assert "if they are seconds" not in read(path, ts_unit="s").note


def test_the_type_of_a_file_without_one_can_be_given(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "user_id,item_id,ts\nu,i,5\n")
    assert read(path, event_type="purchase").types == ["purchase"]
    assert read(path).types == ["click"]


def test_an_erase_needs_no_item(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "user_id,item_id,ts,type\nu,,5,erase\nu,i,6,view\n")
    assert read(path).item.tolist() == [-1, 0]


def test_missing_columns_are_listed_with_those_that_there_are(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "userId,movieId,when\n1,2,3\n")
    with pytest.raises(TableError, match=r"no column timestamp.*there are userId, movieId, when"):
        read(path, {"user": "userId", "item": "movieId", "ts": "timestamp"})
    with pytest.raises(TableError, match=r"user_id \(for user\)"):
        read(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,2,x,978300760", r"row 2, column rating \(value\): 'x' is not a finite number"),
        ("1,2,inf,978300760", r"row 2, column rating \(value\): 'inf'"),
        ("1,2,3,soon", r"row 2, column timestamp \(ts\): 'soon'"),
        ("1,2,3,-5", r"row 2, column timestamp \(ts\): '-5'"),
        (",2,3,978300760", r"row 2, column userId \(user\): an empty value"),
        (f"1,{'i' * 257},3,978300760", r"row 2, column movieId \(item\)"),
    ],
)
def test_a_bad_value_is_named_by_row_and_column(tmp_path: Path, row: str, message: str) -> None:
    text = f"userId,movieId,rating,timestamp\n1,2,3,978300760\n{row}\n"
    with pytest.raises(TableError, match=message):
        read(written(tmp_path, "a.csv", text), MOVIES, ts_unit="s")


def test_many_bad_values_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    text = "user_id,item_id,ts\n" + "u,i,never\n" * 100
    with pytest.raises(TableError) as caught:
        read(written(tmp_path, "a.csv", text))
    message = str(caught.value)
    assert "100 values" in message
    assert "row 5," in message
    assert "row 6," not in message
    assert "and 95 more" in message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"user_id":1.5,"item_id":"i","ts":5}', r"line 2, column user_id \(user\): 1.5"),
        ('{"user_id":true,"item_id":"i","ts":5}', r"line 2, column user_id \(user\): true"),
        ('{"user_id":"u","item_id":["i"],"ts":5}', r'line 2, column item_id \(item\): \["i"\]'),
        ('{"user_id":"u",', "line 2 is not a JSON object"),
        ("[1]", "line 2 is not a JSON object"),
    ],
)
def test_a_bad_json_line_is_named_by_its_number(tmp_path: Path, line: str, message: str) -> None:
    good = '{"user_id":"u","item_id":"i","ts":4}'
    with pytest.raises(TableError, match=message):
        read(written(tmp_path, "a.jsonl", f"{good}\n{line}\n"))


def test_an_optional_json_field_may_first_appear_in_a_later_line(tmp_path: Path) -> None:
    text = '{"user_id":"u","item_id":"i","ts":4}\n{"user_id":"u","item_id":"j","ts":5,"value":2}\n'
    data = read(written(tmp_path, "a.jsonl", text))
    assert np.isnan(data.value[0])
    assert data.value[1] == 2.0


def test_a_parquet_id_of_a_wrong_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"user_id": [1.0], "item_id": [3], "ts": [5]}).write_parquet(path)
    with pytest.raises(TableError, match="column user_id is of type Float64"):
        read(path)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_file_without_rows_says_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(TableError, match=r"is empty|no rows"):
        read(written(tmp_path, name, ""))


def test_a_file_that_is_not_there_or_not_of_its_format_says_so(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there is no such file"):
        read(tmp_path / "nothing.csv")
    with pytest.raises(TableError, match="not readable as parquet"):
        read(written(tmp_path, "a.parquet", "user_id,item_id,ts\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("u,i,5\nJosé,i,6\n".encode("latin-1"), "line 3 is not UTF-8"),
        (b'"a,b",i,5\nu,i,6\nu,i,6,7\n', "line 4 has 4 columns, not 3"),
        (b"u,i,5\nu,i\n", r"row 2, column ts \(ts\): an empty value"),
    ],
)
def test_an_odd_line_is_named_by_its_number(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"user_id,item_id,ts\n" + content)
    with pytest.raises(TableError, match=message):
        read(path)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path, name: str) -> None:
    text = (
        "user_id,item_id,ts\r\nu,i,5\r\n" if name == "a.csv" else '{"user_id":"u","item_id":"i","ts":5}\r\n'
    )
    path = tmp_path / name
    path.write_bytes(codecs.BOM_UTF8 + text.encode())
    assert rows(read(path)) == [("u", "i", "click", 5)]


def test_a_json_array_is_told_how_it_should_be_written(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"is a JSON array[^~]*one object a line"):
        read(written(tmp_path, "a.json", '[{"user_id":"u","item_id":"i","ts":5}]'))
