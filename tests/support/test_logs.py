"""What a command says it does: for a person, for a machine, and never a text of the data."""

import io
import json
import logging
from pathlib import Path

import pytest

from fusion_classifier.errors import UsageError
from fusion_classifier.support import logs

SECRET = "my-most-private-diary-entry"


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "fusion_classifier.x", "levelno": 20, "levelname": "INFO", "msg": message})
    vars(made).update(fields)
    return made


def test_a_line_for_a_person_has_the_fields_that_are_set() -> None:
    assert (
        logs.TextFormatter().format(record("encoded", texts=3, seconds=1.23456, key=None))
        == "encoded texts=3 seconds=1.235"
    )


def test_a_line_of_json_has_the_fields_of_the_record() -> None:
    line = json.loads(logs.JsonFormatter().format(record("encoded", texts=3)))
    assert set(line) == {"time", "level", "logger", "message", "texts"}
    assert (line["level"], line["message"], line["texts"]) == ("INFO", "encoded", 3)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_line_stays_one_line_whatever_is_in_it(as_json: bool) -> None:
    stream = io.StringIO()
    logs.to_stream(stream, as_json=as_json).handle(record("a\nb", label="x\r\ny\u2028z\x1b[31m"))
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_a_log_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"`log_file`.*can't be written"):
        logs.to_file(tmp_path)


@pytest.mark.slow
def test_a_run_logs_its_steps_and_no_text(tmp_path: Path) -> None:
    from command import fec

    rows = [f"{SECRET} number {i},{'good' if i % 2 else 'bad'}" for i in range(40)]
    (tmp_path / "own.csv").write_text("\n".join(["text,label", *rows]), "utf-8")
    done = fec(
        *("run", str(tmp_path / "own.csv"), "-e", "minilm-l6", "--head", "linear", "--epochs", "2"),
        *(
            "--no-cross-validate",
            "--no-report",
            "--store",
            str(tmp_path / "store"),
            "--out",
            str(tmp_path / "run"),
            "--json",
        ),
        *("--verbose", "--log-file", str(tmp_path / "logs" / "run.jsonl")),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["task"] == "own"
    written = (tmp_path / "logs" / "run.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in written.splitlines()]
    messages = [line["message"] for line in lines]
    assert messages[0] == "fec run"
    assert {"version", "commit", "python"} <= set(lines[0])
    for expected in ("task own", "encoder minilm-l6", "encoded with minilm-l6", "trained seed 0", "evaluating"):
        assert expected in messages
        assert expected in done.stderr
    assert next(line for line in lines if line["message"] == "encoder minilm-l6")["fingerprint"]
    assert SECRET not in written
    assert SECRET not in done.stderr
