"""POST /explain and files of texts, over HTTP."""

import copy
import gzip
import io
import json
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from spreadsheets import write_xlsx

from fusion_classifier import FusionClassifier
from fusion_classifier.serving import uploads
from fusion_classifier.serving.app import create_app
from fusion_classifier.serving.model import ServedModel
from fusion_classifier.serving.schemas import Info
from fusion_classifier.serving.settings import ServerSettings
from fusion_classifier.tasks.emotions import EXAMPLES

TEXT = "After the long meeting on Tuesday I was so grateful to the driver."
TEXTS = ["What a day, I won!", "Nobody came to my party.", 'Die Suppe war – naja, "lauwarm".']


@pytest.fixture(scope="module")
def client(demo_classifier: FusionClassifier) -> Iterator[TestClient]:
    settings = ServerSettings(payload_limit=200_000, max_client_batch_size=32)
    with TestClient(create_app(ServedModel(demo_classifier, "demo"), settings)) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_explanations_are_those_of_the_classifier(client: TestClient, demo_classifier: FusionClassifier) -> None:
    answer = client.post("/explain", json={"inputs": TEXT})
    assert answer.status_code == 200, answer.text
    expected = demo_classifier.explain_labels(TEXT)
    found = {one["label"]: one for one in answer.json()}
    assert next(iter(found)) == expected[0].label == "gratitude"
    for one in expected:
        assert found[one.label]["probability"] == pytest.approx(one.probability, abs=0.02)
        spans = [(word.text, word.start, word.end) for word in one.words]
        assert [(w["text"], w["start"], w["end"]) for w in found[one.label]["words"]] == spans
        weights = [word.weight for word in one.words]
        assert [w["weight"] for w in found[one.label]["words"]] == pytest.approx(weights, abs=0.2)  # bfloat16


def test_labels_can_be_chosen_and_long_texts_cut(client: TestClient) -> None:
    body = {"inputs": "word " * 400 + TEXT, "labels": ["joy", "anger"]}
    assert client.post("/explain", json=body).json()["error_type"] == "Tokenizer"
    found = client.post("/explain", json=body | {"truncate": True}).json()
    assert {one["label"] for one in found} == {"joy", "anger"}
    assert len(found[0]["words"]) == 32  # 31 read and the rest
    assert found[0]["words"][-1]["weight"] == 0


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"inputs": " \n"}, 400, "Empty"),
        ({"inputs": "a" * 101_000, "truncate": True}, 422, "Validation"),
        ({"inputs": "a", "labels": ["love"]}, 404, "NotFound"),
        ({"inputs": ["a"]}, 422, "Validation"),
        ({}, 422, "Validation"),
    ],
)
def test_refused_explanations(client: TestClient, body: object, status: int, kind: str) -> None:
    answer = client.post("/explain", json=body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind)


def sheet_to(cell: str) -> bytes:
    """A workbook that claims to reach to a cell."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", f'<c r="A1"/><c r="{cell}"/>')
    return stream.getvalue()


def _file(ending: str, tmp_path: Path) -> bytes:
    path = tmp_path / f"source{ending}"
    if ending == ".parquet":
        pq.write_table(pa.table({"id": [1, 2, 3], "label": TEXTS}), path)
    elif ending == ".jsonl":
        path.write_text("".join(json.dumps({"id": 1, "label": text}) + "\n" for text in TEXTS), "utf-8")
    elif ending == ".txt":
        path.write_text("\n".join(TEXTS), "utf-8")
    elif ending == ".json":
        path.write_text(json.dumps([{"id": 1, "label": text} for text in TEXTS]), "utf-8")
    elif ending == ".xlsx":
        pytest.importorskip("python_calamine")
        write_xlsx(path, Data=[["id", "label"], *([1, text] for text in TEXTS)])
    else:
        import csv

        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if ending == ".tsv" else ",")
            writer.writerows([["id", "label"], *([1, text] for text in TEXTS)])
    data = path.read_bytes()
    path.unlink()
    return data


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt", ".xlsx"])
def test_files_of_every_format_are_answered_and_not_kept(
    client: TestClient, demo_classifier: FusionClassifier, ending: str, folder: Path
) -> None:
    data = _file(ending, folder)
    columns = client.post("/file/columns", params={"name": f"a{ending}"}, content=data).json()["columns"]
    assert columns == ([] if ending == ".txt" else ["id", "label"])
    query = {"name": f"a{ending}", "text_column": "label", "format": "jsonl"}
    answer = client.post("/file/predict", params=query, content=data)
    assert answer.status_code == 200, answer.text
    rows = [json.loads(line) for line in answer.text.splitlines()]
    # As predict --file: all columns, and the answers beside them.
    given = "text" if ending == ".txt" else "label"
    assert [row[given] for row in rows] == TEXTS
    assert list(rows[0])[: len(columns)] == columns
    found = "label" if ending == ".txt" else "predicted_label"
    assert [row[found] for row in rows] == demo_classifier.predict(TEXTS).tolist()
    assert answer.headers["fec-texts"] == "3"
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("name", "data", "status", "message"),
    [
        ("a.csv", b"comment\nfine\n", 422, "No column 'text' (found: 'comment')"),
        ("a.csv", b"text\n", 422, "The file has no rows"),
        ("a.csv", b"text\n\xff\n", 422, "UTF-8"),
        ("a.parquet", b"PAR1 and no more", 422, "Not a readable .parquet file"),
        ("a.xlsx", b"x", 422, "Not a readable .xlsx file"),
        ("a.csv.gz", b"text\nfine\n", 422, "Not a readable .gz file"),
        ("a.txt.gz", gzip.compress(b"a" * 5_000_000), 413, "very large"),
        ("a.xlsx", sheet_to("XFD1048576"), 413, "very large"),
        ("a.ods", b"x", 422, "must end in one of .csv"),
        ("a.txt", b"a\n" * 110_000, 413, "200000 bytes"),
        ("a.txt", b"a\n" * 300, 413, "more than 200 texts"),
    ],
)
def test_errors_in_files_do_not_tell_where_they_are_kept(
    client: TestClient,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    data: bytes,
    status: int,
    message: str,
) -> None:
    monkeypatch.setattr(uploads, "MAX_TEXTS", 200)
    answer = client.post("/file/predict", params={"name": name}, content=data)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert str(folder) not in answer.text
    assert not list(folder.iterdir())


def test_rows_without_text_get_null_and_keep_columns(client: TestClient) -> None:
    query = {"name": "a.csv.gz", "text_column": "body", "encoding": "cp1252", "format": "jsonl"}
    data = gzip.compress("id;body\n7;schöner Tag\n8;\n".encode("cp1252"))
    answer = client.post("/file/predict", params=query, content=data)
    first, second = map(json.loads, answer.text.splitlines())
    assert (first["id"], first["body"]) == ("7", "schöner Tag")
    assert isinstance(first["label"], str)
    assert (second["id"], second["label"], second["score"]) == ("8", None, None)
    assert answer.headers["fec-texts"] == "1"
    query["encoding"] = "klingon"
    assert "klingon" in client.post("/file/predict", params=query, content=data).json()["error"]


def test_a_parquet_bomb_is_refused(client: TestClient, folder: Path) -> None:
    path = folder / "bomb.parquet"
    pq.write_table(pa.table({"text": ["a" * 5_000_000]}), path, compression="zstd", use_dictionary=False)
    data = path.read_bytes()
    path.unlink()
    assert len(data) < 200_000
    answer = client.post("/file/predict", params={"name": "bomb.parquet"}, content=data)
    assert answer.status_code == 413
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("task", "labels", "settings", "examples"),
    [
        ("tickets", None, {}, []),
        ("demo", ("billing", "shipping"), {}, []),  # a file of that name
        ("demo", None, {}, list(EXAMPLES)),
        ("demo", None, {"example": ["mine"]}, ["mine"]),
    ],
)
def test_examples_are_the_tasks_or_given(
    demo_classifier: FusionClassifier,
    task: str,
    labels: tuple[str, ...] | None,
    settings: dict[str, Any],
    examples: list[str],
) -> None:
    model = ServedModel(demo_classifier, "any")
    model.labels = list(labels or model.labels)
    model.classifier = copy.copy(demo_classifier)
    model.classifier.config_ = demo_classifier.config_.model_copy(update={"task": task})
    info = Info.of(model, ServerSettings(**settings))
    assert (info.task, info.examples) == (task, examples)
    assert bool(info.caveat) == (task == "demo" and labels is None)


def test_docs_are_served_where_they_are_switched_on(
    client: TestClient, demo_classifier: FusionClassifier, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.get("/docs").status_code == 404
    settings = ServerSettings(page=False, docs=True, api_key="a-key-of-the-tests")
    with TestClient(create_app(ServedModel(demo_classifier, "demo"), settings)) as other:
        with caplog.at_level("INFO", "fusion_classifier.serving"):
            text = other.get("/docs").text
            parts = re.findall(r'(?:src|href)="(/static/[^"]+)"', text)
            assert {other.get(part).status_code for part in parts} == {200}
        assert other.get("/static/nothing.js").status_code == 404
        assert other.get("/static/..%2fpage.py").status_code == 404
        assert other.get("/").status_code == 404
    routes = [record.route for record in caplog.records if record.message == "request"]  # type: ignore[attr-defined]
    assert routes == ["/docs", *["/static/{name}"] * len(parts)]


def test_without_a_page_there_is_none(demo_classifier: FusionClassifier) -> None:
    with TestClient(create_app(ServedModel(demo_classifier, "demo"), ServerSettings(page=False))) as client:
        assert client.get("/").status_code == 404
        assert client.post("/file/columns", params={"name": "a.csv"}).status_code == 404
        assert client.post("/explain", json={"inputs": TEXT}).status_code == 200
