"""Encoders as the user gives them: `NAME`, `NAME=PATH`, `…?setting=value`, and objects."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.presets import PRESETS
from fusion_classifier.encoders.protocol import FunctionEncoder
from fusion_classifier.encoders.spec import SETTINGS, as_encoders, parse_encoder, parse_encoders, parse_layers
from fusion_classifier.errors import UsageError, WeightsError


def refused(spec: str, defaults: dict[str, str | None] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        parse_encoder(spec, defaults)
    return str(caught.value)


# Layers.


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=6))
def test_layers_are_the_numbers_as_written(layers: list[int]) -> None:
    assert parse_layers(",".join(map(str, layers))) == tuple(layers)


@given(first=st.integers(-50, 50), width=st.integers(0, 20))
def test_range_has_both_ends_and_does_not_cross_zero(first: int, width: int) -> None:
    last = first + width
    if first < 0 <= last:
        with pytest.raises(UsageError):
            parse_layers(f"{first}:{last}")
    else:
        layers = parse_layers(f"{first}:{last}")
        assert (layers[0], layers[-1], len(layers)) == (first, last, width + 1)
        assert list(layers) == sorted(set(layers))


@pytest.mark.parametrize("value", ["", "a", "1,", ",", "-1:-5", "-1:2", "1:2:3", ":", "1:", "1.5", "all"])
def test_layers_that_are_none_are_refused_with_an_example(value: str) -> None:
    with pytest.raises(UsageError, match=rf"`layers` {re.escape(repr(value))}: .*-5:-1"):
        parse_layers(value)


def test_layers_beyond_pythons_limit_of_digits_are_refused() -> None:
    with pytest.raises(UsageError):
        parse_layers("9" * 5000)


# One encoder.


@pytest.mark.parametrize("name", list(PRESETS))
def test_name_of_a_preset_is_that_preset(name: str) -> None:
    assert parse_encoder(name) == PRESETS[name].config
    assert parse_encoder(name).name == name


def test_any_other_name_is_a_model_with_default_settings() -> None:
    assert parse_encoder("org/model") == EncoderConfig(name="org/model", model="org/model")


def test_a_path_changes_neither_name_nor_settings() -> None:
    config = parse_encoder("bert-large=/models/a=b")
    assert config == PRESETS["bert-large"].config.model_copy(update={"path": "/models/a=b"})
    assert parse_encoder("bert-large=/models/bert?layers=-2").path == "/models/bert"


def test_settings_are_read_each_with_its_type() -> None:
    config = parse_encoder(
        "org/model?layers=2,4,6&pooling=tokens&template=Q: {text}\\nA:&max-length=64&dtype=float32"
        "&pool_special_tokens=true&revision=v1"
    )
    assert config == EncoderConfig(
        name=config.name,
        model="org/model",
        layers=(2, 4, 6),
        pooling="tokens",
        template="Q: {text}\nA:",
        max_length=64,
        dtype="float32",
        pool_special_tokens=True,
        revision="v1",
    )


def test_preset_keeps_what_the_settings_do_not_name() -> None:
    config = parse_encoder("llama2-7b-chat?pooling=last")
    assert (config.layers, config.pooling) == ((-5, -4, -3, -2, -1), "last")


def test_plus_is_a_plus_and_percent_escapes_the_rest() -> None:
    assert parse_encoder("org/model?template=a+b {text} c%26d%3De%2B").template == "a+b {text} c&d=e+"


def test_common_settings_hold_unless_an_encoder_has_its_own() -> None:
    defaults = {"pooling": "tokens", "layers": "-2", "template": None, "dtype": None}
    assert parse_encoder("org/model", defaults).pooling == "tokens"
    assert parse_encoder("org/model", defaults).layers == (-2,)
    own = parse_encoder("org/model?pooling=last", defaults)
    assert (own.pooling, own.layers, own.template) == ("last", (-2,), "{text}")
    assert parse_encoder("llama2-7b-chat", {"layers": None}).layers == (-5, -4, -3, -2, -1)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("bert-large?pooling=first", "bert-large"),
        ("bert-large?layers=-1&max_length=256", "bert-large"),
        ("bert-large?pooling=tokens&layers=-3:-2", "bert-large?layers=-3,-2&pooling=tokens"),
        ("bert-large=/somewhere?pooling=mean", "bert-large?pooling=mean"),
        ("org/model?template={text}\\n", "org/model?template={text}\\n"),
        ("org/model?revision=v1", "org/model?revision=v1"),
    ],
)
def test_name_has_the_settings_that_differ_from_the_models_own(spec: str, name: str) -> None:
    assert parse_encoder(spec).name == name


@pytest.mark.parametrize(
    "spec", ["bert-large?layers=-3:-2&pooling=tokens", "org/model?template=a {text}\\nb&dtype=float32"]
)
def test_name_written_as_an_encoder_gives_the_same_encoder(spec: str) -> None:
    config = parse_encoder(spec)
    assert parse_encoder(config.name) == config


def test_local_folder_is_named_by_its_last_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    assert parse_encoder(str(folder)).name == "my-model"
    assert parse_encoder(str(folder)).model == str(folder)
    assert parse_encoder(f"{folder}?layers=-2").name == "my-model?layers=-2"
    monkeypatch.chdir(folder)
    assert parse_encoder(".").name == "my-model"


def test_an_existing_path_is_a_path_whatever_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "lr=1e-5" / "epoch=6"
    folder.mkdir(parents=True)
    config = parse_encoder(f"{folder}?layers=-2")
    assert (config.model, config.path, config.name) == (str(folder), None, "epoch=6?layers=-2")


# What is refused.


@pytest.mark.parametrize("spec", ["", "=path", "?layers=1", "=path?layers=1"])
def test_encoder_without_a_name_is_refused(spec: str) -> None:
    assert refused(spec).startswith(f"`encoders`: {spec!r}: give a name")


@pytest.mark.parametrize("query", ["layer=1", "name=x", "path=/x", "model=y", "Layers=1", "=1"])
def test_unknown_setting_is_refused_with_those_there_are(query: str) -> None:
    said = refused(f"bert-large?{query}")
    assert f"unknown setting {query.partition('=')[0]!r}" in said
    assert said.endswith(", ".join(SETTINGS))


def test_unknown_command_wide_setting_is_refused() -> None:
    assert "unknown setting 'colour'" in refused("bert-large", {"colour": "red"})


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("pooling=sum", "pooling"),
        ("pooling=", "pooling"),
        ("pooling", "pooling"),
        ("template=no place", "template"),
        ("max_length=3", "max_length"),
        ("max_length=long", "max_length"),
        ("dtype=int8", "dtype"),
        ("pool-special-tokens=maybe", "pool_special_tokens"),
    ],
)
def test_value_that_a_setting_can_not_have_is_refused_by_name(query: str, field: str) -> None:
    said = refused(f"bert-large?{query}")
    assert said.startswith(f"`encoders`: 'bert-large?{query}': {field}: ")
    assert "\n" not in said


def test_setting_given_twice_is_refused() -> None:
    """Which of the two is meant is a guess."""
    assert "layers" in refused("bert-large?layers=-1&layers=-2")


@pytest.mark.parametrize("spec", ["~no-such-user/model", "x" * 300], ids=["home of nobody", "long"])
def test_name_that_can_be_no_path_is_refused_in_a_sentence(spec: str) -> None:
    assert "not a valid path" in refused(spec)


# Several.


def test_encoders_keep_their_order_and_share_the_defaults() -> None:
    configs = parse_encoders(["roberta-large", "bert-large?pooling=mean"], {"max_length": "32"})
    assert [config.model for config in configs] == ["roberta-large", "bert-large"]
    assert [config.max_length for config in configs] == [32, 32]
    assert [config.pooling for config in configs] == ["first", "mean"]


def test_no_encoder_is_refused() -> None:
    with pytest.raises(UsageError, match="`encoders`: give at least one"):
        parse_encoders([])


@pytest.mark.parametrize("other", ["bert-large", "bert-large=/other", "bert-large?layers=-1"])
def test_same_encoder_twice_is_refused_by_name(other: str) -> None:
    with pytest.raises(UsageError, match=r"`encoders\[2\]`: bert-large is given twice"):
        parse_encoders(["bert-large", "minilm-l6", other])


def test_same_model_with_other_settings_is_another_encoder() -> None:
    assert len(parse_encoders(["bert-large", "bert-large?layers=-2", "bert-large?layers=-3"])) == 3


# In Python.


def embed(texts: list[str]) -> np.ndarray:
    return np.ones((len(texts), 3))


def test_strings_configurations_and_objects_may_be_mixed() -> None:
    mine, config = FunctionEncoder(embed, "mine", "1"), PRESETS["bert-large"].config
    assert as_encoders(["minilm-l6?layers=-2", config, mine]) == (parse_encoder("minilm-l6?layers=-2"), config, mine)
    assert as_encoders("minilm-l6", features="tokens") == (parse_encoder("minilm-l6", features="tokens"),)
    for one in (config, mine):
        assert as_encoders(one) == (one,)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "`encoders`: give at least one"),
        (["minilm-l6", "bert-large?x=1"], r"`encoders\[1\]`: .*unknown setting 'x'"),
        (["minilm-l6", embed], r"`encoders\[1\]`: .* needs a name"),
        (["minilm-l6", 3], r"`encoders\[1\]`: int is not an encoder"),
        ([FunctionEncoder(embed, "bert-large", "1"), "bert-large"], r"`encoders\[1\]`: bert-large is given twice"),
    ],
)
def test_what_is_no_encoder_is_named_by_its_index(specs: list[object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        as_encoders(specs)


# Folders of sentence-transformers.


def sentence_folder(folder: Path, *kinds: str, pooling: dict[str, object] | None = None) -> Path:
    """A folder with the configuration files alone."""
    modules = [
        {"type": f"sentence_transformers.models.{kind}", "path": f"{i}_{kind}" if i else ""}
        for i, kind in enumerate(kinds)
    ]
    (folder / "1_Pooling").mkdir()
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 384}))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling or {"pooling_mode_cls_token": True}))
    return folder


@pytest.mark.parametrize(
    ("pooling", "ours"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "first"),
        ({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}, "max+mean"),
        ({"pooling_mode": "lasttoken"}, "last"),
    ],
)
def test_a_sentence_folder_sets_pooling_and_length(tmp_path: Path, pooling: dict[str, object], ours: str) -> None:
    folder = sentence_folder(tmp_path, "Transformer", "Pooling", "Normalize", pooling=pooling)
    config = parse_encoder(str(folder))
    assert (config.pooling, config.max_length, config.name) == (ours, 384, folder.name)
    assert parse_encoder(f"org/model={folder}").pooling == ours
    own = parse_encoder(f"{folder}?pooling=mean&max_length=99")
    assert (own.pooling, own.max_length) == ("mean", 99)
    assert parse_encoder(own.name.replace(folder.name, str(folder))) == own
    tokens = parse_encoder(str(folder), features="tokens")
    assert (tokens.pooling, tokens.max_length) == ("tokens", 256)
    assert parse_encoder(f"minilm-l6={folder}").pooling == "mean"  # a preset knows better


@pytest.mark.parametrize(
    ("kinds", "pooling"),
    [
        (("Transformer", "Pooling", "LayerNorm"), {}),
        (("Transformer", "Pooling", "Normalize", "Dense"), {}),
        (("WordEmbeddings", "Pooling"), {}),
        (("Transformer", "Pooling"), {"pooling_mode": "attention"}),
    ],
)
def test_more_than_a_transformer_is_to_be_given_as_an_object(
    tmp_path: Path, kinds: tuple[str, ...], pooling: dict[str, object]
) -> None:
    folder = sentence_folder(tmp_path, *kinds, pooling=pooling)
    with pytest.raises(UsageError, match=r"SentenceTransformer\("):
        parse_encoder(str(folder))
    assert parse_encoder(f"{folder}?pooling=mean").pooling == "mean"
    assert parse_encoder(str(folder), features="tokens").pooling == "tokens"


@pytest.mark.parametrize("content", ["{", "[1]", '{"a": 1}', "null", "[" * 100_000])
def test_a_broken_sentence_configuration_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(WeightsError, match="can't be read"):
        parse_encoder(str(tmp_path))
