"""Which of the words after `fec predict` is the model."""

from pathlib import Path

import pytest

from fusion_classifier.cli.words import model_and_texts
from fusion_classifier.errors import UsageError


def test_the_first_word_is_the_model_where_it_is_one(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert model_and_texts([folder, "a text"], None, has_file=False) == (folder, ["a text"])
    assert model_and_texts(["go-emotions", "a text"], None, has_file=False) == ("go-emotions", ["a text"])
    assert model_and_texts([folder], None, has_file=True) == (folder, [])
    assert model_and_texts(["owner/model", "a text"], None, has_file=False) == ("owner/model", ["a text"])  # Hub


@pytest.mark.parametrize(
    "words",
    [
        ["what a day!"],
        ["what a day!", "wonderful"],
        ["wonderful"],
        ["嬉しいです"],
        ["so happy " * 100],  # longer than a path may be
        ["~nobody says so"],  # no user's home
        [""],
    ],
)
def test_texts_alone_go_to_the_model_of_the_package(words: list[str]) -> None:
    assert model_and_texts(words, None, has_file=False) == ("go-emotions", words)
    assert model_and_texts(words, "go-emotions", has_file=False) == ("go-emotions", words)


@pytest.mark.parametrize(
    ("words", "has_file"), [(["./runs/rewiews", "a text"], False), (["runs/x"], False), (["rewiews"], True)]
)
def test_a_mistyped_model_is_not_taken_for_a_text(words: list[str], has_file: bool) -> None:
    with pytest.raises(UsageError, match="--model go-emotions"):
        model_and_texts(words, None, has_file=has_file)
    assert model_and_texts(words, "go-emotions", has_file=has_file) == ("go-emotions", words)
