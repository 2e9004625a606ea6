"""Encoders of English on texts in another script are warned of, and nothing else is."""

import pytest

from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.runs.writing_systems import unknown_script

ENGLISH, OTHER = "minilm-l6", "multilingual-e5-small"


@pytest.mark.parametrize("text", ["料理がとても美味しかったです", "Сегодня хорошая погода, 3 °C", "الطعام كان لذيذا"])
def test_another_script_is_told(text: str) -> None:
    encoder = parse_encoder(ENGLISH)
    (warning,) = unknown_script([text] * 3 + ["ok"], [encoder])
    assert f"and {ENGLISH} was trained on English" in warning
    (warning,) = unknown_script([text], [encoder, parse_encoder("mpnet-base")])
    assert f"and {ENGLISH} and mpnet-base were trained on English" in warning
    assert not unknown_script([text], [encoder, parse_encoder(OTHER)])
    assert not unknown_script([text], [parse_encoder("models/mine")])


@pytest.mark.parametrize("text", ["What a day! π ≈ 3.14", "Größe: żółć, naïve, ñandú", "12:30 🙂", ""])
def test_latin_letters_are_not(text: str) -> None:
    assert not unknown_script([text], [parse_encoder(ENGLISH)])
