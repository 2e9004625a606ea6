"""Tables: a text comes back to the letter, and whatever can't be used is an error with file and row."""

import csv
import gzip
import io
import itertools
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError, MissingSplitError, UsageError
from fusion_classifier.tasks.labels import Labelled, label_order, read_label_order, read_label_tree, read_labelled
from fusion_classifier.tasks.loaded import LeftOut, RowPlace, Split
from fusion_classifier.tasks.readers import ENDINGS, read_rows
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.tasks.split import hold_out
from fusion_classifier.tasks.table import find_splits, load_table, to_split
from fusion_classifier.tasks.text_file import utf8_lines

# Any text that UTF-8 can hold and that is not blank; made likelier: what formats trip over.
AWKWARD = "\"'`,;\t\n\r\\\u2028\u2029\x85\x0b\x0c\ufeff\u200d\u0301🙂🇪🇺"
CHARACTERS = st.one_of(
    st.sampled_from(AWKWARD),
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    st.sampled_from("ab "),
)
TEXTS = st.text(CHARACTERS, min_size=1, max_size=30).filter(lambda text: bool(text.strip()))
LABELS = st.sampled_from(["joy", "sadness", "very sad", "Ärger", "0", "17"])
ROWS = st.lists(st.tuples(TEXTS, LABELS), min_size=1, max_size=8)

Pairs = list[tuple[str, str]]


def write_csv(path: Path, pairs: Pairs, *, delimiter: str = ",", end: str = "\r\n") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        # With "\n" as line end, the csv module of Python 3.11 leaves a field with "\r" unquoted: then not even
        # csv.reader gives it back.
        if end == "\n":
            writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
        else:
            writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
        writer.writerow(["text", "label"])
        writer.writerows(pairs)
    return path


def write_bytes(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_jsonl(path: Path, rows: list[object], *, ascii_only: bool = False) -> Path:
    lines = [json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows]
    return write_bytes(path, "".join(lines))


def write_parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def labelled(path: Path) -> list[Labelled]:
    return read_labelled(path, TaskConfig(name=str(path))).rows


def pairs_of(path: Path) -> Pairs:
    return [(row.text, str(row.label)) for row in labelled(path)]


def message(call: Callable[[], object], kind: type[Exception] = DataError) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def write_splits(folder: Path, ending: str = ".csv", **rows: Pairs) -> Path:
    folder.mkdir(exist_ok=True)
    for stem, pairs in rows.items():
        write_csv(folder / f"{stem}{ending}", pairs, delimiter="\t" if ending == ".tsv" else ",")
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("table")


# Texts survive to the letter.


@settings(deadline=None)
@given(pairs=ROWS, end=st.sampled_from(["\n", "\r\n"]), kind=st.sampled_from(["csv", "tsv"]))
def test_every_text_survives_csv_and_tsv_to_the_letter(shared: Path, pairs: Pairs, end: str, kind: str) -> None:
    path = write_csv(shared / f"survives.{kind}", pairs, delimiter="\t" if kind == "tsv" else ",", end=end)
    assert pairs_of(path) == pairs


@settings(deadline=None)
@given(pairs=ROWS, ascii_only=st.booleans())
def test_every_text_survives_jsonl_to_the_letter(shared: Path, pairs: Pairs, ascii_only: bool) -> None:
    rows: list[object] = [{"label": label, "text": text} for text, label in pairs]
    assert pairs_of(write_jsonl(shared / "survives.jsonl", rows, ascii_only=ascii_only)) == pairs


@settings(deadline=None)
@given(pairs=ROWS, encoded=st.booleans())
def test_every_text_survives_parquet_to_the_letter(shared: Path, pairs: Pairs, encoded: bool) -> None:
    """As plain strings and as the dictionary column that pandas writes for a category."""
    texts, labels = pa.array([text for text, _ in pairs]), pa.array([label for _, label in pairs])
    if encoded:
        texts, labels = texts.dictionary_encode(), labels.dictionary_encode()
    assert pairs_of(write_parquet(shared / "survives.parquet", text=texts, label=labels)) == pairs


def test_space_around_a_text_is_kept_and_around_a_label_not(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", "text,label\n  two spaces ,  joy \n")
    assert pairs_of(path) == [("  two spaces ", "joy")]


def test_text_longer_than_the_csv_modules_default_limit_is_read(tmp_path: Path) -> None:
    text = "long " * 100_000
    assert pairs_of(write_csv(tmp_path / "a.csv", [(text, "joy")])) == [(text, "joy")]


def test_the_csv_limit_of_the_process_is_left_alone(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [("long " * 100_000, "joy")] * 3)
    before = csv.field_size_limit(1234)
    try:
        for _ in read_rows(path, ()):
            assert csv.field_size_limit() == 1234
        path.write_text('text,label\n"open,joy\n')
        with pytest.raises(DataError):
            list(read_rows(path, ()))
        assert csv.field_size_limit() == 1234
    finally:
        csv.field_size_limit(before)


def test_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", b"\xef\xbb\xbftext,label\nfine,joy\n")
    assert pairs_of(path) == [("fine", "joy")]


def test_parquet_of_several_batches_numbers_its_rows_through(tmp_path: Path) -> None:
    count = 140_000  # many of our batches, more than two of pyarrow's own
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"t{i}" for i in range(count)], "label": ["joy"] * count})
    pq.write_table(table, path, row_group_size=50_000)
    rows = labelled(path)
    assert [row.place for row in rows] == [RowPlace(str(path), number) for number in range(count)]
    assert rows[-1].text == f"t{count - 1}"


def test_parquet_is_not_read_into_memory_as_a_whole(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.parquet", 100
    texts = np.random.default_rng(0).bytes(5_000_000).hex()  # nothing to compress by more than half
    table = pa.table({"text": [texts[start : start + 1000] for start in range(0, len(texts), 1000)]})
    pq.write_table(table, path, row_group_size=rows)
    before, read = pa.total_allocated_bytes(), read_rows(path, ("text",))
    next(read)
    assert pa.total_allocated_bytes() - before < path.stat().st_size / 10
    assert sum(1 for _ in read) == len(table) - 1


def test_other_columns_are_carried_and_not_in_the_way(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", "id,text,aug_text,label\n1,fine,well,joy\n")
    assert [row.values for row in read_rows(path, ("text", "label"))] == [
        {"id": "1", "text": "fine", "aug_text": "well", "label": "joy"}
    ]
    assert pairs_of(path) == [("fine", "joy")]


def test_columns_can_have_other_names(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", "text,situation,emotion\nno,yes,joy\n")
    config = TaskConfig(name=str(path), text_column="situation", label_column="emotion")
    assert [(row.text, row.label) for row in read_labelled(path, config).rows] == [("yes", "joy")]


def test_file_ending_counts_in_any_case(tmp_path: Path) -> None:
    assert pairs_of(write_csv(tmp_path / "A.CSV", [("fine", "joy")])) == [("fine", "joy")]


# The row that an error names.


@settings(deadline=None)
@given(before=st.lists(st.text('ab",\n\t ', max_size=12), max_size=6), end=st.sampled_from(["\n", "\r\n"]))
def test_csv_error_names_the_line_where_the_row_begins(shared: Path, before: list[str], end: str) -> None:
    """Also after quoted fields of several lines: the line that an editor shows."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator=end)
    writer.writerows([["text", "label"], *([f"x{text}", "joy"] for text in before)])
    line = buffer.getvalue().count("\n") + 1
    path = write_bytes(shared / "line.csv", buffer.getvalue() + f'"",joy{end}fine,joy{end}')
    assert message(lambda: labelled(path)).startswith(f"{path}, line {line}: the text is empty")


def test_row_of_several_lines_is_named_by_its_first(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", 'text,label\n"one\ntwo",joy\n"three\nfour\nfive",\n')
    assert f"{path}, line 4: the label is" in message(lambda: labelled(path))


def test_blank_lines_are_no_rows_but_count_as_lines(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", "text,label\n\n\nfine,joy\n\n")
    assert [row.place for row in labelled(path)] == [RowPlace(str(path), 0, 4)]
    path = write_bytes(tmp_path / "a.jsonl", '\n{"text": "fine", "label": "joy"}\n  \n{"text": "", "label": "joy"}\n')
    assert f"{path}, line 4: the text is empty" in message(lambda: labelled(path))


def test_unicode_line_separators_are_no_lines_of_jsonl(tmp_path: Path) -> None:
    rows: list[object] = [{"text": "a\u2028b\u2029c\x85d", "label": "joy"}, {"text": " ", "label": "joy"}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    assert f"{path}, line 2: " in message(lambda: labelled(path))


def test_unclosed_quote_is_named_where_its_row_begins(tmp_path: Path) -> None:
    """The end of the file, where the parser notices, is not where it can be mended."""
    path = write_bytes(tmp_path / "a.csv", 'text,label\nfine,joy\n"open,joy\nfine,joy\nfine,joy\n')
    assert f"{path}, line 3: " in message(lambda: labelled(path))


# Rows that can't be used.


@pytest.mark.parametrize("blank", ["", " ", "\t \u3000", "\n"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_blank_text_is_an_error_that_names_file_row_and_way_out(tmp_path: Path, kind: str, blank: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "jsonl":
        write_jsonl(path, [{"text": "fine", "label": "joy"}, {"text": blank, "label": "joy"}])
    elif kind == "parquet":
        write_parquet(path, text=["fine", blank], label=["joy", "joy"])
    else:
        write_csv(path, [("fine", "joy"), (blank, "joy")], delimiter="\t" if kind == "tsv" else ",")
    where = "row 1" if kind == "parquet" else "line 2" if kind == "jsonl" else "line 3"
    assert message(lambda: labelled(path)) == (
        f"{path}, {where}: the text is empty; fix or remove the row, "
        "or skip rows without a text or label (`skip_empty`)"
    )


@pytest.mark.parametrize("value", [None, 3, 2.5, True, ["a"], float("nan")])
def test_jsonl_text_that_is_no_string_is_an_error(tmp_path: Path, value: object) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "fine", "label": "joy"}, {"text": value, "label": "joy"}])
    said = message(lambda: labelled(path))
    assert said.startswith(f"{path}, line 2: the text is {value!r}, not a string")
    assert "fix or remove the row" in said


def test_parquet_null_and_binary_text_are_errors(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "null.parquet", text=["fine", None], label=["joy", "joy"])
    assert message(lambda: labelled(path)).startswith(f"{path}, row 1: the text is None, not a string")
    path = write_parquet(tmp_path / "binary.parquet", text=[b"fine"], label=["joy"])
    assert message(lambda: labelled(path)).startswith(f"{path}, row 0: the text is b'fine', not a string")


@pytest.mark.parametrize("value", [None, "", "  ", float("nan"), [1]])
def test_missing_label_is_an_error(tmp_path: Path, value: object) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "fine", "label": "joy"}, {"text": "fine", "label": value}])
    said = message(lambda: labelled(path))
    assert said.startswith(f"{path}, line 2: the label is {value!r}; give a name or a number")


def test_binary_label_is_an_error_not_its_python_notation(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=["fine"], label=[b"joy"])
    assert message(lambda: labelled(path)).startswith(f"{path}, row 0: the label is b'joy'")


@pytest.mark.parametrize("field", ["text", "label"])
def test_half_a_surrogate_pair_in_json_is_an_error(tmp_path: Path, field: str) -> None:
    """It can't be written to any file later, so neither text nor label may hold it."""
    row = {"text": "fine", "label": "joy"} | {field: "ab\ud83d"}
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "fine", "label": "joy"}, row], ascii_only=True)
    said = message(lambda: labelled(path))
    assert f"{path}, line 2: the {field} " in said
    assert "surrogate" in said
    said.encode()


def test_whole_surrogate_pair_in_json_is_one_character(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.jsonl", '{"text": "\\ud83d\\ude42", "label": "joy"}\n')
    assert pairs_of(path) == [("🙂", "joy")]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("missing", ["text", "label"])
def test_missing_column_is_an_error_with_the_columns_there(tmp_path: Path, kind: str, missing: str) -> None:
    path, other = tmp_path / f"a.{kind}", "label" if missing == "text" else "text"
    if kind == "jsonl":
        write_jsonl(path, [{"comment": "fine", other: "joy"}])
    elif kind == "parquet":
        write_parquet(path, **{"comment": ["fine"], other: ["joy"]})
    else:
        delimiter = "\t" if kind == "tsv" else ","
        write_bytes(path, f"comment{delimiter}{other}\nfine{delimiter}joy\n")
    where = f"{path}, line 1" if kind == "jsonl" else str(path)
    assert (
        message(lambda: labelled(path))
        == f"{where}: no column {missing!r} (found: 'comment', {other!r}); set `{missing}_column`"
    )


def test_jsonl_row_without_the_column_is_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "fine", "label": "joy"}, {"txt": "fine", "label": "joy"}])
    assert message(lambda: labelled(path)).startswith(f"{path}, line 2: no column 'text' (found: 'txt', 'label')")


@pytest.mark.parametrize("row", ["fine", "fine,joy,more", "well, fine,joy"])
def test_ragged_row_is_an_error(tmp_path: Path, row: str) -> None:
    path = write_bytes(tmp_path / "a.csv", f'text,label\n"one\ntwo",joy\n{row}\n')
    said = message(lambda: labelled(path))
    assert said.startswith(f"{path}, line 4: {row.count(',') + 1} fields")
    assert "quotes" in said


def test_text_after_a_closing_quote_is_an_error(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", 'text,label\nfine,joy\n"he said "no"",joy\n')
    assert message(lambda: labelled(path)).startswith(f"{path}, line 3: ")


def test_duplicated_csv_column_is_an_error(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", "text,label,text\nfine,joy,bad\n")
    assert message(lambda: labelled(path)) == f"{path}, line 1: column 'text' is duplicated"


def test_duplicated_parquet_column_is_an_error(tmp_path: Path) -> None:
    """Which of the two is meant is a guess."""
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.Table.from_arrays([pa.array([s]) for s in ("one", "two", "joy")], ["text", "text", "label"]), path
    )
    said = message(lambda: labelled(path))
    assert str(path) in said
    assert "'text'" in said


@pytest.mark.parametrize("content", ["", "\n", "   \n", ",,\n"])
def test_csv_without_a_header_is_an_error(tmp_path: Path, content: str) -> None:
    path = write_bytes(tmp_path / "a.csv", content)
    assert "the first line must name the columns" in message(lambda: labelled(path))


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_from_a_spreadsheet_of_any_country_is_read(tmp_path: Path, separator: str, mark: str) -> None:
    rows = [("text", "label"), ('"one; two, three"', "joy"), ("plain", "fear")]
    path = write_bytes(tmp_path / "a.csv", mark + "".join(separator.join(row) + "\r\n" for row in rows))
    assert pairs_of(path) == [("one; two, three", "joy"), ("plain", "fear")]


def test_a_semicolon_in_a_header_with_commas_separates_nothing(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", "text,label,a;b\nfine,joy,1;2\n")
    assert pairs_of(path) == [("fine", "joy")]


def test_file_without_rows_is_an_error(tmp_path: Path) -> None:
    none = pa.array([], pa.string())
    for path in (
        write_bytes(tmp_path / "a.csv", "text,label\n"),
        write_bytes(tmp_path / "a.tsv", "text\tlabel\n\n"),
        write_bytes(tmp_path / "a.jsonl", ""),
        write_bytes(tmp_path / "b.jsonl", "\n \n"),
        write_parquet(tmp_path / "a.parquet", text=none, label=none),
    ):
        assert message(lambda path=path: labelled(path)) == f"{path} has no rows"  # type: ignore[misc]


@pytest.mark.parametrize("line", ["text,label", "{'text': 'a'}", '{"text": "a"', "nul", "[" * 100_000, "9" * 5000])
def test_line_that_is_not_json_is_an_error(tmp_path: Path, line: str) -> None:
    path = write_bytes(tmp_path / "a.jsonl", f'{{"text": "fine", "label": "joy"}}\n{line}\n')
    assert message(lambda: labelled(path)).startswith(f"{path}, line 2: not JSON (")


@pytest.mark.parametrize("line", ['["a", "joy"]', '"a"', "3", "null", "NaN"])
def test_json_that_is_no_object_is_an_error(tmp_path: Path, line: str) -> None:
    path = write_bytes(tmp_path / "a.jsonl", f'{{"text": "fine", "label": "joy"}}\n{line}\n')
    assert message(lambda: labelled(path)).startswith(f"{path}, line 2: not a JSON object such as")


# Files that can't be read.


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("prefix", [b"", b"ab"], ids=["at the line's start", "within the line"])
def test_bad_utf8_is_an_error_with_line_and_byte(tmp_path: Path, kind: str, mark: bytes, prefix: bytes) -> None:
    path = write_bytes(tmp_path / f"a.{kind}", mark + b"first\r\nsecond\r\n" + prefix + b"\xe9t\xc3\xa9\nlast\n")
    said = message(lambda: labelled(path))
    assert said.startswith(f"{path}, line 3: not UTF-8 (byte 0xe9); save the file as UTF-8 (")


@settings(deadline=None)
@given(before=st.text("ab\n é", max_size=20), mark=st.booleans())
def test_bad_utf8_is_found_on_its_line_wherever_it_stands(shared: Path, before: str, mark: bool) -> None:
    head = (b"\xef\xbb\xbf" if mark else b"") + before.encode()
    path = write_bytes(shared / "line.txt", head + b"\xff tail\n")
    said = message(lambda: list(utf8_lines(path)))
    assert said.startswith(f"{path}, line {before.count(chr(10)) + 1}: not UTF-8 (byte 0xff)")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_utf16_without_a_mark_is_an_error_that_names_the_file(tmp_path: Path, encoding: str, kind: str) -> None:
    content = "text,label\nfine,joy\n" if kind == "csv" else '{"text": "fine", "label": "joy"}\n'
    path = write_bytes(tmp_path / f"a.{kind}", content.encode(encoding))
    assert message(lambda: labelled(path)).startswith(str(path))


@pytest.mark.parametrize("content", [b"", b"text,label\nfine,joy\n"])
def test_parquet_that_is_none_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = write_bytes(tmp_path / "a.parquet", content)
    assert "not a readable Parquet file" in message(lambda: labelled(path))


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_truncated_parquet_is_an_error(tmp_path: Path, keep: float) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=[f"text {i}" for i in range(500)], label=["joy"] * 500)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    said = message(lambda: labelled(path))
    assert said.startswith(f"{path}, ")
    assert "not a readable Parquet file" in said


def test_damaged_parquet_page_is_an_error(tmp_path: Path) -> None:
    """The footer is whole, the data are not."""
    rng = np.random.default_rng(0)
    texts = [str(rng.random()) for _ in range(2000)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts, "label": ["joy"] * 2000}), path, compression="zstd", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[1000:4000] = bytes(3000)
    path.write_bytes(data)
    assert "not a readable Parquet file" in message(lambda: labelled(path))


def test_parquet_string_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    offsets = np.array([0, 2, 3], dtype=np.int32)
    texts = pa.StringArray.from_buffers(2, pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"ok\xff"))
    path = write_parquet(tmp_path / "a.parquet", text=texts, label=["joy", "joy"])
    said = message(lambda: labelled(path))
    assert str(path) in said
    assert "not a readable Parquet file" in said


def test_other_parquet_columns_can_hold_any_value(tmp_path: Path) -> None:
    """Here a time beyond Python's calendar."""
    late = pa.array([2**62], pa.timestamp("us"))
    assert pairs_of(write_parquet(tmp_path / "a.parquet", text=["fine"], label=["joy"], at=late)) == [("fine", "joy")]


@pytest.mark.parametrize("name", ["a.txt", "a.docx", "a", "a.parquet.gz"])
def test_unknown_ending_is_an_error_with_the_known_ones(tmp_path: Path, name: str) -> None:
    path = write_bytes(tmp_path / name, "text,label\nfine,joy\n")
    said = message(lambda: labelled(path))
    assert said.startswith(f"{path}: can't read ")
    assert all(ending in said for ending in ENDINGS)


def test_folder_and_missing_file_are_errors(tmp_path: Path) -> None:
    folder = tmp_path / "a.csv"
    folder.mkdir()
    assert message(lambda: labelled(folder)) == f"{folder} is a folder; choose one of its files"
    assert message(lambda: labelled(tmp_path / "b.csv")) == f"{tmp_path / 'b.csv'}: no such file"
    assert (
        message(lambda: load_table(tmp_path / "b.csv"), UsageError) == f"{tmp_path / 'b.csv'}: no such file or folder"
    )


# Labels.


def test_float_labels_of_whole_value_are_numbers(tmp_path: Path) -> None:
    """A Parquet column of numbers with a gap somewhere holds them as 3.0."""
    path = write_parquet(tmp_path / "a.parquet", text=["a", "b", "c"], label=[3.0, 0.0, -1.0])
    assert [row.label for row in labelled(path)] == ["3", "0", "-1"]


def test_integer_labels_are_numbers(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=["a", "b"], label=[3, 10])
    assert [row.label for row in labelled(path)] == ["3", "10"]
    assert [row.label for row in labelled(write_jsonl(tmp_path / "a.jsonl", [{"text": "a", "label": 3}]))] == ["3"]


def rows_of(*labels: str) -> list[Labelled]:
    return [Labelled(RowPlace("a.csv", row, row + 2), "text", label) for row, label in enumerate(labels)]


def test_numbers_are_ordered_by_size_names_by_alphabet() -> None:
    assert label_order(rows_of("10", "9", "-1", "10")) == ("-1", "9", "10")
    assert label_order(rows_of("joy", "anger", "joy")) == ("anger", "joy")
    assert label_order(rows_of("10", "9", "joy")) == ("10", "9", "joy")


def test_labels_of_equal_size_have_one_order() -> None:
    """1, 01 and 001 are three labels; their order must not depend on the process's hash seed."""
    labels = [zeros + str(number) for number in range(1, 30) for zeros in ("", "0", "00")]
    assert label_order(rows_of(*labels)) == tuple(sorted(labels, key=lambda label: (int(label), label)))


def test_numbers_beyond_pythons_digit_limit_are_labels() -> None:
    huge = "9" * 5000
    assert set(label_order(rows_of(huge, "1"))) == {huge, "1"}


def test_label_is_a_name_or_its_index(tmp_path: Path) -> None:
    names = ("joy", "anger")
    split = to_split(rows_of("joy", "0", "1", "anger"), names, names)
    assert split.labels == (0, 0, 1, 1)
    assert to_split(rows_of("0", "1"), names, ("anger", "joy")).labels == (1, 0)  # another order of the numbers


def test_where_a_name_is_a_number_no_label_is_an_index(tmp_path: Path) -> None:
    """Labels 1 to 3: 1 is the first, not the second, and 0 is none."""
    assert to_split(rows_of("1", "3"), ("1", "2", "3"), ("1", "2", "3")).labels == (0, 2)
    assert "unknown label '0'" in message(lambda: to_split(rows_of("0"), ("1", "2", "3")))


@pytest.mark.parametrize("label", ["2", "-1", "Joy", "01", "joy ful"])
def test_unknown_label_is_an_error_with_the_known_ones(tmp_path: Path, label: str) -> None:
    said = message(lambda: to_split(rows_of("joy", label), ("joy", "anger"), ("joy", "anger")))
    assert said == (
        f"a.csv, line 3: unknown label {label!r} (the 2 known ones: joy, anger); "
        "correct them, or skip such rows (`unknown_labels` skip)"
    )


def test_all_unknown_labels_are_in_one_message() -> None:
    said = message(lambda: to_split(rows_of("joy", "fear", "pride", "fear"), ("joy", "anger")))
    assert said.startswith("a.csv, line 3: unknown label 'fear'; 3 rows have such a label: 'fear' (2), 'pride' (1)")


def test_unknown_labels_can_be_left_out(tmp_path: Path) -> None:
    folder = write_splits(tmp_path / "d", train=TRAIN, valid=VALID, test=[*TEST, ("strange", "fear")])
    task = load_table(folder, TaskConfig(name="d", unknown_labels="skip"))
    assert task.split("test").texts == ("test one",)
    place = RowPlace(str(folder / "test.csv"), 1, 3)
    assert task.left_out == (LeftOut(place, "unknown label 'fear'"),)
    assert task.notes == (f"{folder / 'test.csv'}: 1 row left out (line 3): unknown label 'fear' (1)",)


def test_numbers_whose_order_nothing_says_are_refused(tmp_path: Path) -> None:
    """Names in train, numbers in test: their order is the author's, not the alphabet's."""
    folder = write_splits(
        tmp_path / "d",
        train=TRAIN,
        valid=VALID,
        test=[(text, "0" if label == "joy" else "1") for text, label in TEST],
    )
    said = message(lambda: load_table(folder))
    assert said.startswith(f"{folder / 'test.csv'}, line 2: unknown label '0'")
    assert "it is not known which number is which label; add a label2idx.txt" in said
    write_bytes(folder / "label2idx.txt", "joy 0\nanger 1\n")
    task = load_table(folder)
    assert [task.labels[i] for i in task.targets("test")] == [label for _, label in TEST]


def test_unknown_label_does_not_list_a_hundred_others(tmp_path: Path) -> None:
    names = tuple(f"l{number:03}" for number in range(100))
    said = message(lambda: to_split(rows_of("x"), names))
    assert "the 100 known ones: l000" in said
    assert "l008" not in said
    assert ", …); correct them" in said


def test_unknown_label_in_valid_is_an_error_with_file_and_row(tmp_path: Path) -> None:
    folder = write_splits(tmp_path / "d", train=[("a", "joy"), ("b", "anger")], valid=[("c", "joy"), ("d", "fear")])
    said = message(lambda: load_table(folder))
    assert said.startswith(f"{folder / 'valid.csv'}, line 3: unknown label 'fear'")


def test_label_order_file_gives_names_by_number(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "label2idx.txt", "anger 1\n\njoy 0\nvery sad 2\r\n")
    assert read_label_order(path) == ("joy", "anger", "very sad")


def test_label_order_names_are_read_as_labels_are(tmp_path: Path) -> None:
    """Space around a label does not count, so neither does more than one before the number."""
    assert read_label_order(write_bytes(tmp_path / "label2idx.txt", "sad  0\n joy 1 \n")) == ("sad", "joy")


@pytest.mark.parametrize(
    "line", ["joy", "joy x", "joy -1", "joy 1.0", "0", "joy,1", "joy ²", pytest.param("joy " + "9" * 5000, id="huge")]
)
def test_malformed_label_order_line_is_an_error(tmp_path: Path, line: str) -> None:
    path = write_bytes(tmp_path / "label2idx.txt", f"anger 0\n\n{line}\n")
    assert message(lambda: read_label_order(path)).startswith(str(path))


@pytest.mark.parametrize("line", ["joy 0", "anger 1"])
def test_repeated_label_or_number_is_an_error(tmp_path: Path, line: str) -> None:
    path = write_bytes(tmp_path / "label2idx.txt", f"anger 0\n{line}\n")
    assert message(lambda: read_label_order(path)).startswith(f"{path}: the numbers must run from 0 to 1")


@pytest.mark.parametrize("content", ["anger 1\njoy 2\n", "anger 0\njoy 2\n"])
def test_gap_in_the_label_order_is_an_error(tmp_path: Path, content: str) -> None:
    path = write_bytes(tmp_path / "label2idx.txt", content)
    assert message(lambda: read_label_order(path)).startswith(f"{path}: the numbers must run from 0 to 1")


def test_a_folders_label_tree_comes_with_its_task(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,joy\nb,fear\nc,joy\n")
    (tmp_path / "valid.csv").write_text("text,label\nd,joy\n")
    assert load_table(tmp_path).label_tree == ()
    (tmp_path / "label_tree.tsv").write_text("joy\tgood \r\n\ngood\troot\nvery sad\tbad")
    task = load_table(tmp_path)
    assert task.label_tree == (("joy", "good"), ("good", "root"), ("very sad", "bad"))
    assert task.limited(1).label_tree == task.label_tree


@pytest.mark.parametrize("line", ["joy good", "joy\t", "joy\tgood\troot"])
def test_malformed_label_tree_line_is_an_error(tmp_path: Path, line: str) -> None:
    path = write_bytes(tmp_path / "label_tree.tsv", f"good\troot\n{line}\n")
    with pytest.raises(DataError, match="line 2: expected a child, a tab and its parent"):
        read_label_tree(path)


# Folders of splits.

TRAIN: Pairs = [(f"train {number}", ("joy", "anger")[number % 2]) for number in range(40)]
VALID: Pairs = [("valid one", "anger"), ("valid two", "joy")]
TEST: Pairs = [("test one", "joy")]


def test_published_layout(tmp_path: Path) -> None:
    """CSV of text, aug_text, label number, and label2idx.txt: texts and order are the file's own."""
    folder = tmp_path / "published"
    folder.mkdir()
    write_bytes(folder / "label2idx.txt", "trusting 0\nsad 1\nbored 2\n")
    write_bytes(folder / "label_tree.tsv", "sad\tnegative\n")
    write_bytes(folder / "train.csv", 'text,aug_text,label\n"I, too",me too,1\nYes,sure,0\n')
    write_bytes(folder / "valid.csv", "text,aug_text,label\nNo,never,1\n")
    write_bytes(folder / "test.csv", "text,aug_text,label\nMaybe,perhaps,0\n")
    task = load_table(folder)
    assert task.name == "published"
    assert task.labels == ("trusting", "sad", "bored")
    assert task.splits == {
        "train": Split(("I, too", "Yes"), (1, 0)),
        "valid": Split(("No",), (1,)),
        "test": Split(("Maybe",), (0,)),
    }
    assert task.source == str(folder)
    assert task.notes == ()


@pytest.mark.parametrize("alias", ["valid", "validation", "val", "dev"])
@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_validation_split_has_several_names(tmp_path: Path, alias: str, ending: str) -> None:
    folder = write_splits(tmp_path / "d", ending, train=TRAIN, test=TEST, **{alias: VALID})
    task = load_table(folder)
    assert task.split("valid").texts == ("valid one", "valid two")
    assert task.notes == ()


def test_splits_of_several_formats_make_one_task(tmp_path: Path) -> None:
    folder = write_splits(tmp_path / "d", train=TRAIN)
    write_jsonl(folder / "dev.jsonl", [{"text": text, "label": label} for text, label in VALID])
    write_parquet(folder / "test.parquet", text=[TEST[0][0]], label=[TEST[0][1]])
    task = load_table(folder)
    assert list(task.splits) == ["train", "valid", "test"]
    assert task.labels == ("anger", "joy")
    assert task.split("valid") == Split(("valid one", "valid two"), (0, 1))
    assert task.split("test") == Split(("test one",), (1,))


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("valid", ("dev.csv", "val.csv")),
        ("valid", ("valid.csv", "validation.jsonl")),
        ("train", ("train.csv", "train.tsv")),
        ("test", ("test.jsonl", "test.parquet")),
    ],
)
def test_split_claimed_twice_is_an_error_with_both_files(tmp_path: Path, split: str, names: tuple[str, str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    said = message(lambda: find_splits(tmp_path))
    assert said.startswith(f"{tmp_path}: ")
    assert said.endswith(f" are both the {split} split; keep one")
    assert all(name in said for name in names)


def test_a_split_in_shards_is_read_in_their_order(tmp_path: Path) -> None:
    """As the Hub has them, also in the folder `data` of a copy; a row is named by its shard."""
    data = tmp_path / "data"
    data.mkdir()
    for number in range(12):
        write_parquet(
            data / f"train-{number:05d}-of-00012.parquet", text=[f"a {number}", "b"], label=["joy", "anger"]
        )
    write_jsonl(data / "validation-00000-of-00001.jsonl", [{"text": "c", "label": "joy"}])
    (tmp_path / "README.md").touch()
    for folder in (data, tmp_path):
        task = load_table(folder)
        assert task.split("train").texts[::2] == tuple(f"a {number}" for number in range(12))
        assert task.split("train").places[-1] == RowPlace(str(data / "train-00011-of-00012.parquet"), 1)
        assert task.split("valid").texts == ("c",)


def test_shards_that_are_missing_or_twofold_are_errors(tmp_path: Path) -> None:
    for number in (0, 2):
        write_jsonl(tmp_path / f"train-{number:05d}-of-00003.jsonl", [{"text": f"{number}", "label": ""}] * 2)
    assert "of the 3 shards of train, number 1 is missing" in message(lambda: load_table(tmp_path))
    write_jsonl(tmp_path / "train-00001-of-00003.jsonl", [{"text": "1", "label": "joy"}])
    said = message(lambda: load_table(tmp_path))
    assert "4 rows can't be used: the label is '' (train-00000-of-00003.jsonl, line 1, " in said
    assert "train-00002-of-00003.jsonl, line 2)" in said
    (tmp_path / "train.csv").touch()
    said = message(lambda: find_splits(tmp_path))
    assert said.endswith("train.csv and train-00000-of-00003.jsonl are both the train split; keep one")


def test_folder_without_split_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train.txt").touch()
    (tmp_path / "test.csv").mkdir()
    said = message(lambda: load_table(tmp_path))
    assert said == f"{tmp_path}: no train, valid or test file with one of the extensions {', '.join(ENDINGS)}"


def test_folder_without_valid_holds_out_a_tenth_of_train(tmp_path: Path) -> None:
    folder = write_splits(tmp_path / "d", train=TRAIN, test=TEST)
    task = load_table(folder, TaskConfig(name="mine", split_seed=5))
    assert len(task.split("valid")) == 4
    assert set(task.split("valid").texts) | set(task.split("train").texts) == {text for text, _ in TRAIN}
    assert task.split("test").texts == ("test one",)
    assert task.notes == (f"{folder} has no validation split: 4 rows of train held out by seed 5, stratified",)
    whole = to_split(labelled(folder / "train.csv"), task.labels)
    assert {name: task.splits[name] for name in ("train", "valid")} == hold_out({"train": whole}, 5)[0]


def test_folder_with_test_only_has_no_other_split(tmp_path: Path) -> None:
    task = load_table(write_splits(tmp_path / "d", test=[("a", "joy"), ("b", "anger")]))
    assert list(task.splits) == ["test"]
    assert task.labels == ("anger", "joy")
    said = message(lambda: task.split("train"), MissingSplitError)
    assert "no train split" in said
    assert "(it has: test)" in said


def test_labels_come_from_train_alone(tmp_path: Path) -> None:
    """A model can't learn a label that only valid has."""
    folder = write_splits(tmp_path / "d", train=[("a", "joy"), ("b", "sad")], valid=[("c", "joy")])
    assert load_table(folder).labels == ("joy", "sad")


def test_given_labels_must_match_the_order_file(tmp_path: Path) -> None:
    folder = write_splits(tmp_path / "d", train=TRAIN, valid=VALID)
    task = load_table(folder, name="mine", licence="CC0", labels=("joy", "fear", "anger"))
    assert (task.name, task.licence, task.labels) == ("mine", "CC0", ("joy", "fear", "anger"))
    assert set(task.split("train").labels) == {0, 2}
    write_bytes(folder / "label2idx.txt", "anger 0\nfear 1\njoy 2\n")
    said = message(lambda: load_table(folder, name="mine", labels=("joy", "fear", "anger")))
    assert said.startswith(f"{folder / 'label2idx.txt'}: the labels are not those of task mine")
    assert load_table(folder).labels == ("anger", "fear", "joy")


def test_bad_row_in_a_folder_names_its_own_file(tmp_path: Path) -> None:
    folder = write_splits(tmp_path / "d", train=TRAIN, valid=VALID, test=[("fine", "joy"), (" ", "joy")])
    assert message(lambda: load_table(folder)).startswith(f"{folder / 'test.csv'}, line 3: ")


# One file.


def test_single_file_is_split_by_seed_and_says_so(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mine.csv", [(f"text {number}", "ab"[number % 2]) for number in range(100)])
    task = load_table(path, TaskConfig(name="mine", split_seed=3))
    assert task.name == "mine"
    assert {name: len(split) for name, split in task.splits.items()} == {"train": 80, "valid": 10, "test": 10}
    assert task.notes == ("mine.csv was split into train / valid / test by seed 3, stratified: 80 / 10 / 10 rows",)
    assert task.source == str(path)
    assert load_table(path, TaskConfig(name="mine", split_seed=3)) == task
    assert load_table(path, TaskConfig(name="mine", split_seed=4)).splits != task.splits


def test_single_file_labels_follow_their_texts(tmp_path: Path) -> None:
    truth = {f"text {number}": ("joy", "anger", "fear")[number % 3] for number in range(60)}
    task = load_table(write_csv(tmp_path / "mine.csv", list(truth.items())))
    found = {
        text: task.labels[int(str(label))]
        for split in task.splits.values()
        for text, label in zip(split.texts, split.labels, strict=True)
    }
    assert found == truth


def test_file_too_small_to_split_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mine.csv", [(f"text {number}", "ab"[number % 2]) for number in range(6)])
    said = message(lambda: load_table(path))
    assert str(path) in said
    assert "6 different texts, too few" in said
    folder = write_splits(tmp_path / "d", train=[(f"text {number}", "ab"[number % 2]) for number in range(6)])
    assert str(folder) in message(lambda: load_table(folder))


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_rows_are_read_one_by_one(tmp_path: Path, ending: str) -> None:
    """So that a file larger than memory can be read; ten megabytes of rows here."""
    path = tmp_path / f"large{ending}"
    line = "a long text " * 50
    rows = 20_000
    head, row = ("text\n", line) if ending == ".csv" else ("", json.dumps({"text": line}))
    with path.open("wb") as file:
        file.write(head.encode() + f"{row}\n".encode() * rows + b"\xff\n")
    tracemalloc.start()
    reader = read_rows(path, ["text"])
    count = sum(1 for _ in itertools.islice(reader, rows - 1000))
    assert count == rows - 1000
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    with pytest.raises(DataError, match=f"line {rows + 1 + bool(head)}: not UTF-8"):
        list(reader)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            gzip.compress(b"text,label\na,b\n", mtime=0),
            "is compressed by gzip.*end its name in .gz",
        ),
        (b"PK\x03\x04\xff\xfe", "is a zip archive or a spreadsheet"),
        ("text,label\ncafé,b\n".encode("latin-1"), "line 2: not UTF-8"),
        (b"\n\ntext,label\na,b\n", "an empty first line"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_csv_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        load_task(TaskConfig(name=str(path)))


# Rows without a text or label, and where rows were read.


def test_all_rows_that_cannot_be_used_are_in_one_message(tmp_path: Path) -> None:
    rows = [("fine", "joy"), ("", "joy"), ("well", "nan"), (" ", "joy"), ("ok", "joy"), *[("", "joy")] * 30]
    path = write_csv(tmp_path / "a.csv", rows)
    said = message(lambda: labelled(path))
    assert said.startswith(f"{path}: 33 rows can't be used: the text is empty (lines 3, 5, 7, 8, ")
    assert "; the label is 'nan' (line 4); and 13 more; fix or remove the row, give a name" in said
    assert said.endswith(", or skip rows without a text or label (`skip_empty`)")


def test_rows_without_a_text_or_label_can_be_left_out(tmp_path: Path) -> None:
    rows = [*TRAIN, ("", "joy"), ("no label", "")]
    path = write_csv(tmp_path / "a.csv", rows)
    task = load_table(path, TaskConfig(name="a", skip_empty=True))
    assert sum(map(len, task.splits.values())) == len(TRAIN)
    first, second = (RowPlace(str(path), row, row + 2) for row in (len(TRAIN), len(TRAIN) + 1))
    assert task.left_out == (LeftOut(first, "the text is empty"), LeftOut(second, "the label is ''"))
    assert f"2 rows left out (lines {first.line}, {second.line}): the text is empty (1)" in task.notes[0]


def test_leaving_out_does_not_cover_other_faults(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": None, "label": "joy"}, {"text": 3, "label": "joy"}])
    config = TaskConfig(name="a", skip_empty=True)
    assert message(lambda: read_labelled(path, config)).startswith(f"{path}, line 2: the text is 3, not a string")


def test_file_with_nothing_left_is_an_error(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [("", "joy")])
    config = TaskConfig(name="a", skip_empty=True)
    assert message(lambda: read_labelled(path, config)) == f"{path} has no rows with a text and a label"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_row_keeps_its_place_in_the_file(tmp_path: Path, kind: str) -> None:
    """Through split, limit and the rows that are left out."""
    rows = [(f"text {i}" if i % 7 else "", "joy" if i % 2 else "anger") for i in range(200)]
    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        write_csv(path, rows)
    elif kind == "jsonl":
        write_jsonl(path, [{"text": text, "label": label} for text, label in rows])
    else:
        write_parquet(path, text=[text for text, _ in rows], label=[label for _, label in rows])
    task = load_task(TaskConfig(name=str(path), skip_empty=True, limit=100))
    for part in task.splits.values():
        for text, place in zip(part.texts, part.places, strict=True):
            assert rows[place.row][0] == text
            assert place.file == str(path)
            assert place.line == {"csv": place.row + 2, "jsonl": place.row + 1, "parquet": None}[kind]


def test_a_file_to_evaluate_is_one_split_of_known_labels(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "new.csv", [(f"text {i}", "joy") for i in range(50)])
    task = load_table(path, known=("anger", "fear", "joy"))
    assert {name: len(part) for name, part in task.splits.items()} == {"test": 50}
    assert (task.labels, set(task.split("test").labels)) == (("anger", "fear", "joy"), {2})
    assert "unknown label 'joy'" in message(lambda: load_table(path, known=("anger", "fear")))


def test_a_folder_to_evaluate_keeps_its_own_numbers(tmp_path: Path) -> None:
    folder = write_splits(tmp_path / "d", train=TRAIN, test=[("a", "0"), ("b", "1")])
    write_bytes(folder / "label2idx.txt", "joy 0\nanger 1\n")
    task = load_table(folder, known=("anger", "joy"))
    assert list(task.splits) == ["train", "test"]  # nothing is held out
    assert task.split("test").labels == (1, 0)
