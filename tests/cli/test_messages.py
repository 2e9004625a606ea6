"""Parameter names of the library become options."""

import io

import pytest
from rich.console import Console

from fusion_classifier.cli.messages import in_options, progress, use_names

OPTIONS = {"max_length": "--max-length", "learning_rate": "--lr", "task": "TASK", "truncate": "--truncate"}


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("raise `max_length` to keep it", "raise --max-length to keep it"),
        ("`learning_rate`: must be positive", "--lr: must be positive"),
        ("`encoders[0]`: no such folder", "--encoder: no such folder"),
        ("`encoders[1].max_length`: too short", "--max-length: too short"),
        ("`encoders['a b']`: unknown", "--encoder: unknown"),
        ("`task`: none", "TASK: none"),
        ("give `encoder_paths`", "give --encoder NAME=PATH"),
        ("`truncate=False` refuses it, `other=False` is nothing", "--no-truncate refuses it, other=False is nothing"),
        ("`y[17]` is None", "y[17] is None"),
        ("`config.yaml` and `data.max_length`", "config.yaml and data.max_length"),
        ("delete them by `fec store delete KEY`", "delete them by `fec store delete KEY`"),
        ("a ` alone, ``code`` and `no such_option`", "a ` alone, ``code`` and `no such_option`"),
    ],
)
def test_names_become_options(message: str, shown: str) -> None:
    assert in_options(message, OPTIONS) == shown


def test_notes_beside_the_progress_are_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusion_classifier.cli.messages._current", {})
    use_names(OPTIONS)
    console: Console = progress().console
    console.file = io.StringIO()
    console.print("raise `max_length`", markup=False)
    assert console.file.getvalue() == "raise --max-length\n"
