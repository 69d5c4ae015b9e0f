"""Catalogues from files: the same in every format, and what is wrong told with its line."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from producers.catalogue import read_items
from producers.columns import ITEMS_SCHEMA
from producers.formats import TableError

LINES = (
    '{"item_id": 7, "title": "Old"}\n'
    '{"v": 1, "item_id": "a", "title": "Up, up", "text": "A house | flies", "categories": ["Drama", "War"],'
    ' "tags": ["kept"], "price": 9.5, "available": false, "embeddings": {"e": [0.1, 2], "f": []}, "other": 3}\n'
    "\n"
    '{"item_id": "7", "title": "Seven", "categories": null}\n'
)
A = {
    "item_id": "a",
    "title": "Up, up",
    "text": "A house | flies",
    "categories": ["Drama", "War"],
    "tags": ["kept"],
    "price": 9.5,
    "available": False,
    "embeddings": [{"name": "e", "vector": [0.1, 2.0]}, {"name": "f", "vector": []}],
}
SEVEN = {
    "item_id": "7",
    "title": "Seven",
    "text": None,
    "categories": [],
    "tags": [],
    "price": None,
    "available": True,
    "embeddings": [],
}


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_catalogue_is_read_and_of_an_item_that_comes_twice_the_last_line_counts(tmp_path: Path) -> None:
    for path in (written(tmp_path, "items.jsonl", LINES), tmp_path / "items.jsonl.gz"):
        if path.suffix == ".gz":
            path.write_bytes(gzip.compress(LINES.encode()))
        found = read_items(path)
        assert found.to_dicts() == [A, SEVEN]
        assert dict(found.schema) == ITEMS_SCHEMA


def test_the_same_catalogue_in_every_format_is_the_same(tmp_path: Path) -> None:
    header = "item_id,title,text,categories,tags,price,available,embeddings,other\n"
    row = 'a,"Up, up",A house | flies,Drama| War,kept,9.5,false,"{""e"": [0.1, 2], ""f"": []}",3\n'
    csv = written(tmp_path, "items.csv", f"{header}{row}\n7,Seven\n")
    tabs = 'item_id\ttitle\tcategories\tprice\n7\tThe "Seven"\tDrama|War\t\n'
    semicolons = written(tmp_path, "b.csv", "title;item_id\nSeven, or 7;7\n")
    parquet = tmp_path / "items.parquet"
    frame = pl.DataFrame([A, SEVEN], schema=ITEMS_SCHEMA).with_columns(
        embeddings=pl.Series([{"e": [0.1, 2.0], "f": []}, {"e": None, "f": None}]),
        tags=pl.Series(["kept", None]),
    )
    frame.write_parquet(parquet)
    assert read_items(csv).to_dicts() == [A, SEVEN]
    assert read_items(written(tmp_path, "v.csv", "v,item_id,title\n1,7,Seven\n")).to_dicts() == [SEVEN]
    assert read_items(parquet).to_dicts() == [A, SEVEN]
    assert read_items(written(tmp_path, "items.tsv", tabs)).to_dicts() == [
        {**SEVEN, "title": 'The "Seven"', "categories": ["Drama", "War"]}
    ]
    assert read_items(semicolons).to_dicts() == [{**SEVEN, "title": "Seven, or 7"}]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.jsonl", '{"item_id": "a"}\n{"item_id"\n', r"line 2 is not a JSON object"),
        ("a.jsonl", '{"item_id": "a"}\n{"title": "x"}\n', r"line 2: item_id is missing"),
        ("a.jsonl", '{"item_id": true}\n', r"line 1: item_id True is not a text or an integer"),
        ("a.jsonl", '{"item_id": ""}\n', r"line 1: item_id is not a text of 1 to 256 bytes"),
        ("a.jsonl", '\n{"item_id": "a", "title": 3}\n', r"line 2: Expected `str .*\$\.title"),
        ("a.jsonl", '{"item_id": "a", "categories": "x|y"}\n', r"line 1: .*\$\.categories"),
        ("a.jsonl", '{"item_id": "a", "embeddings": {"e": ["x"]}}\n', r"line 1: .*\$\.embeddings"),
        ("a.jsonl", '{"item_id": "a", "v": 2}\n', r"line 1: v is 2"),
        ("a.jsonl", '[{"item_id": "a"}]\n', r"line 1 is a JSON array"),
        ("a.jsonl", "\n", r"there are no items"),
        ("a.csv", "id,name\n1,x\n", r"its columns are id, name; needed are item_id and"),
        ("a.csv", "item_id,name\n1,x\n", r"its columns are item_id, name; needed are"),
        ("a.csv", 'item_id,title,price\n1,"x\ny",2\n2,z,cheap\n', r"line 4: .*\$\.price"),
        ("a.csv", "item_id,price\n1,nan\n", r"line 2: a price or an embedding is not a finite number"),
        ("a.csv", "item_id,title\n1,x,y\n", r"line 2 has 3 columns, not 2"),
        ("a.csv", "item_id,embeddings\n1,{e\n", r"line 2: .*"),
        ("a.parquet", "nothing", r"not readable as parquet"),
    ],
)
def test_what_is_no_catalogue_is_told_in_a_line(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(TableError, match=told) as caught:
        read_items(written(tmp_path, name, text))
    assert len(caught.value.message.splitlines()) == 1


def test_no_such_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such file"):
        read_items(tmp_path / "none.csv")
