"""Overlap: which texts of one split also stand in another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_classifier.evaluation.overlap import overlap
from fusion_classifier.tasks.normalize import normalized

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("i love it", "I LOVE it!!!"),
        ("so_good", "so good"),
        ("a b", "  a…\n\tb."),
        ("straße", "STRASSE"),
        ("don't", "don’t"),
        ("great 👍", "great"),
        ("café", "cafe\u0301"),
    ],
)
def test_case_punctuation_and_composition_do_not_count(text: str, same: str) -> None:
    assert overlap([text], [same]).tolist() == [True]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("good", "goods"),
        ("a b", "ab"),
        ("resume", "résumé"),
        ("10", "1 0"),
        ("खाना", "खाने"),
        ("की", "के"),
        ("مَلِك", "مُلْك"),
    ],
)
def test_words_of_other_letters_are_not_the_same(text: str, other: str) -> None:
    """Vowel signs are letters of a word, although Unicode calls them marks."""
    assert overlap([text], [other]).tolist() == [False]


def test_text_without_letter_or_digit_is_compared_as_it_is() -> None:
    assert overlap(["😀", "!!!", "👍", "…"], ["😀", "???", "..."]).tolist() == [True, False, False, False]


@given(texts=st.lists(TEXTS, max_size=8), train=st.lists(TEXTS, max_size=8))
def test_answer_is_a_bool_for_each_text_in_order(texts: list[str], train: list[str]) -> None:
    found = overlap(texts, train)
    assert found.dtype == np.bool_
    assert found.shape == (len(texts),)
    assert found.tolist() == [bool(overlap([text], train)[0]) for text in texts]


@given(texts=st.lists(TEXTS, min_size=1, max_size=8), more=st.lists(TEXTS, max_size=4))
def test_every_text_of_train_is_found(texts: list[str], more: list[str]) -> None:
    assert overlap(texts, more + texts).all()


@given(texts=st.lists(TEXTS, max_size=8))
def test_nothing_overlaps_with_an_empty_split(texts: list[str]) -> None:
    assert not overlap(texts, []).any()


@given(text=TEXTS)
def test_normalizing_twice_changes_nothing(text: str) -> None:
    assert normalized(normalized(text)) == normalized(text)
