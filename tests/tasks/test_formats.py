"""Files as Excel, pandas and databases write them: the same rows from each, or an error that names the file."""

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from spreadsheets import write_xlsx

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError, FecError, UsageError
from fusion_classifier.tasks.labels import read_labelled
from fusion_classifier.tasks.loaded import RowPlace
from fusion_classifier.tasks.readers import given_columns, given_rows, read_rows, texts_of
from fusion_classifier.tasks.table import load_table

PAIRS = [("Größe, bitte", "joy"), ("404", "anger"), ("two\nlines", "joy")]
RECORDS = [{"text": text, "label": label} for text, label in PAIRS]
CSV = 'text,label\n"Größe, bitte",joy\n404,anger\n"two\nlines",joy\n'
PACKERS: dict[str, Any] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}


def pairs_of(path: Path, **options: Any) -> list[tuple[str, str]]:
    reading = read_labelled(path, TaskConfig(name=str(path), **options))
    return [(row.text, str(row.label)) for row in reading.rows]


@pytest.mark.parametrize("packed", PACKERS)
def test_compressed_files(tmp_path: Path, packed: str) -> None:
    path = tmp_path / f"a.CSV{packed}"
    path.write_bytes(PACKERS[packed](CSV.encode()))
    assert pairs_of(path) == PAIRS
    assert load_table(path, known=("anger", "joy")).name == "a"
    (tmp_path / f"t.txt{packed}").write_bytes(PACKERS[packed](b"one\ntwo\n"))
    assert list(texts_of(tmp_path / f"t.txt{packed}", "text")) == ["one", "two"]


def test_quotation_marks_of_a_tsv_without_quoting(tmp_path: Path) -> None:
    """As GLUE and SST are published: a quotation may begin in one row and end in another."""
    lines = ['"i am so happy\tjoy', "what a day\tanger", 'love this song"\tjoy', '"so" he said\tanger', '"all"\tjoy']
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\n" + "\n".join(lines), "utf-8")
    assert pairs_of(path) == [tuple(line.split("\t")) for line in lines]
    path.write_text('text\tlabel\n"a ""b""\nc\td"\tjoy\n"e"\tanger\n', "utf-8")  # as pandas and Excel write it
    assert pairs_of(path) == [('a "b"\nc\td', "joy"), ("e", "anger")]
    path.write_text('text\n"two\nlines"\n', "utf-8")
    assert list(texts_of(path, "text")) == ["two\nlines"]


@pytest.mark.parametrize("packed", PACKERS)
def test_a_truncated_compressed_file_is_an_error(tmp_path: Path, packed: str) -> None:
    """Rows must not be missing without a word."""
    rows = "".join(f"text {i * i},joy\n" for i in range(5000))
    whole = PACKERS[packed](f"text,label\n{rows}".encode())
    path = tmp_path / f"a.csv{packed}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.csv"):
        pairs_of(path)


def test_a_folder_may_have_compressed_splits(tmp_path: Path) -> None:
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress(b"text,label\na,joy\nb,anger\n"))
    (tmp_path / "valid.jsonl").write_text('{"text": "c", "label": "joy"}\n', "utf-8")
    assert {name: len(part) for name, part in load_table(tmp_path).splits.items()} == {"train": 2, "valid": 1}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(CSV.encode(encoding))
    assert pairs_of(path) == PAIRS
    path = tmp_path / "a.jsonl"
    path.write_bytes("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in RECORDS).encode(encoding))
    assert pairs_of(path) == PAIRS


def test_another_encoding_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(CSV.encode("cp1252"))
    with pytest.raises(DataError, match="set `encoding`"):
        pairs_of(path)
    assert pairs_of(path, encoding="cp1252") == PAIRS
    with pytest.raises(DataError, match="not text in ascii; set `encoding`"):
        pairs_of(path, encoding="ascii")
    with pytest.raises(UsageError, match="`encoding`: unknown encoding 'utf-99'"):
        pairs_of(path, encoding="utf-99")


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(RECORDS),
        json.dumps(RECORDS, indent=2),
        "".join(json.dumps(one) + "\n" for one in RECORDS),
        json.dumps({"data": RECORDS}),
        json.dumps({name: {str(i): one[name] for i, one in enumerate(RECORDS)} for name in ("text", "label")}),
        json.dumps({name: [one[name] for one in RECORDS] for name in ("text", "label")}),
    ],
    ids=["array", "indented", "lines", "in an object", "pandas", "columns"],
)
def test_json_in_every_usual_form(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, "utf-8")
    assert pairs_of(path) == PAIRS
    assert [row.place.row for row in read_rows(path, None)] == [0, 1, 2]


@pytest.mark.parametrize("content", ["", "[1, 2]", "3", '{"a": [1], "b": [1, 2]}', '[{"text": "a"', "[" * 100_000])
def test_other_json_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, "utf-8")
    with pytest.raises(DataError, match=r"a\.json"):
        pairs_of(path)


# Spreadsheets.

TABLE: list[list[object]] = [
    ["id", "text", "label"],
    [1, "fine", "joy"],
    [None] * 3,
    [2, 404, 3],
    [3.5, "well", "joy"],
]


def test_a_spreadsheet_is_read_as_its_csv_would_be(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    path = write_xlsx(tmp_path / "a.xlsx", Data=TABLE)
    assert pairs_of(path) == [("fine", "joy"), ("404", "3"), ("well", "joy")]
    rows = list(read_rows(path, None))
    assert [row.values["id"] for row in rows] == ["1", "2", "3.5"]
    places = [
        RowPlace(str(path), 0, 2),
        RowPlace(str(path), 2, 4),
        RowPlace(str(path), 3, 5),
    ]  # pandas counts blank rows
    assert [row.place for row in rows] == places


def test_the_sheet_with_the_columns_is_read(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    path = write_xlsx(tmp_path / "a.xlsx", Notes=[["made by", "me"]], Data=TABLE)
    assert len(pairs_of(path)) == 3
    write_xlsx(path, Old=TABLE, New=TABLE)
    with pytest.raises(UsageError, match="has the sheets 'Old', 'New'; save the right one"):
        pairs_of(path)
    with pytest.raises(
        DataError, match=r"no sheet has the columns text, mood \(found: Old: id, text, label; New: id"
    ):
        pairs_of(path, label_column="mood")


def test_a_title_may_stand_above_the_columns(tmp_path: Path) -> None:
    """As exports have it; texts to classify, too, are found in the sheet that has their column."""
    pytest.importorskip("python_calamine")
    titled: list[list[object]] = [["Tickets, third quarter"], [None] * 3, *TABLE]
    path = write_xlsx(tmp_path / "a.xlsx", Summary=[["label", "n"], ["joy", 2]], Data=titled)
    assert pairs_of(path) == [("fine", "joy"), ("404", "3"), ("well", "joy")]
    assert [text for _, text in given_rows(path, "text")] == ["fine", "404", "well"]
    assert list(given_columns(path, "text")) == ["id", "text", "label"]
    assert next(read_rows(path, ("text",))).place == RowPlace(str(path), 0, 4)
    write_xlsx(path, Data=titled)
    with pytest.raises(DataError, match=r"no column 'message' \(found: 'id', 'text', 'label'\)"):
        pairs_of(path, text_column="message")


@pytest.mark.parametrize(
    "content",
    [
        "name, first;text;label\nDoe, Jane;Größe, bitte;joy\nRoe, Jo;404;anger\n",
        "sep=;\r\ntext;label\r\nGröße, bitte;joy\r\n404;anger\r\n",
        "Sep=^\ntext^label\nGröße, bitte^joy\n404^anger\n",
        'id|text|"label"\n1|"Größe, bitte"|joy\n2|404|anger\n',
    ],
    ids=["a comma in the header", "Excel's line", "any separator", "bars"],
)
def test_the_separator_of_a_csv(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content, "utf-8")
    assert pairs_of(path) == PAIRS[:2]
    assert [row.place.line for row in read_rows(path, None)] == ([3, 4] if content[:3] in ("sep", "Sep") else [2, 3])


def test_what_is_no_spreadsheet_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    path = tmp_path / "a.xlsx"
    path.write_text("text,label\n", "utf-8")
    with pytest.raises(DataError, match=r"a\.xlsx: not a readable spreadsheet"):
        pairs_of(path)
    write_xlsx(path, Data=[])
    with pytest.raises(FecError, match=r"a\.xlsx is empty"):
        pairs_of(path)


def test_fields_within_columns_and_several_columns(tmp_path: Path) -> None:
    """The same from JSONL and Parquet; a part that is missing is left out."""
    mails = [
        {"mail": {"subject": "Hi", "body": "all well"}, "about": {"mood": "joy"}},
        {"mail": {"subject": None, "body": "no"}, "about": {"mood": "anger"}},
    ]
    pq.write_table(pa.Table.from_pylist(mails), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(mail) + "\n" for mail in mails), "utf-8")
    for name in ("a.parquet", "a.jsonl"):
        path, columns = tmp_path / name, ("mail.subject", "mail.body")
        assert pairs_of(path, text_column=columns, label_column="about.mood") == [
            ("Hi\nall well", "joy"),
            ("no", "anger"),
        ]
        assert pairs_of(path, text_column=["mail.body"], label_column="about.mood")[0] == ("all well", "joy")
        assert [text for _, text in given_rows(path, columns)] == ["Hi\nall well", "no"]
        with pytest.raises(DataError, match=r"no column 'body' \(found: 'mail', 'mail\.(subject|body)', "):
            list(given_rows(path, "body"))
        with pytest.raises(DataError, match=r"set `text_column` to one of them: 'mail\.(subject|body)', "):
            list(given_rows(path, "mail"))


def test_several_columns_need_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": " ", "b": null, "label": "joy"}\n{"a": 3, "b": "x", "label": "joy"}\n', "utf-8")
    with pytest.raises(DataError, match=r"the text is None, not a string \(line 1\); column 'a' is 3, not a string"):
        pairs_of(path, text_column=("a", "b"))
    with pytest.raises(ValueError, match="without duplicates"):
        TaskConfig(name="a", text_column=("a", "a"))
