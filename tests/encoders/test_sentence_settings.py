"""Models of sentence-transformers give the vectors of `SentenceTransformer(...).encode`.

Each kind of model is compared with its modules written out in torch, and with sentence-transformers where that is
installed.
"""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import architectures
import httpx
import numpy as np
import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.loading import load_encoder
from fusion_classifier.encoders.sentence_settings import folder_reader, hub_reader, sentence_settings
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.errors import UsageError, WeightsError

CPU = torch.device("cpu")
RNG = np.random.default_rng(1)
TEXTS = [" ".join(RNG.choice(architectures.WORDS, n)) for n in (1, 3, 7, 20, 60, 100)]
PROMPT = "so good "


def module(folder: Path, place: str, config: dict[str, Any]) -> None:
    (folder / place).mkdir()
    (folder / place / "config.json").write_text(json.dumps(config))


def sentence_model(
    folder: Path,
    pooling: dict[str, Any],
    *,
    kind: str = "bert",
    dense: tuple[int, ...] = (),
    normalize: bool = False,
    prompts: dict[str, Any] | None = None,
    length: dict[str, Any] | None = None,
) -> Path:
    """A random model, saved as sentence-transformers does."""
    architectures.make(kind, folder)
    names = ["Transformer", "Pooling", *["Dense"] * len(dense), *["Normalize"] * normalize]
    places = ["", *(f"{i}_{name}" for i, name in enumerate(names) if i)]
    modules = [
        {"idx": i, "name": str(i), "path": place, "type": f"sentence_transformers.models.{name}"}
        for i, (place, name) in enumerate(zip(places, names, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps(length or {"max_seq_length": 64}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts or {}))
    module(folder, "1_Pooling", {"word_embedding_dimension": 32} | pooling)
    width = 32 * sum(value is True for value in pooling.values()) or 32
    for number, out in enumerate(dense, 2):
        activation = "torch.nn.modules.activation.Tanh" if number == 2 else "torch.nn.modules.linear.Identity"
        place = f"{number}_Dense"
        module(
            folder,
            place,
            {"in_features": width, "out_features": out, "bias": True, "activation_function": activation},
        )
        generator = torch.Generator().manual_seed(number)
        state = {"linear.weight": torch.randn(out, width, generator=generator), "linear.bias": torch.ones(out)}
        save_file(state, folder / place / "model.safetensors")
        width = out
    if normalize:
        (folder / places[-1]).mkdir()
    return folder


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The smallest of a row."""
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def ours(folder: Path, settings: str = "") -> np.ndarray:
    encoder = load_encoder(parse_encoder(f"{folder}?dtype=float32{settings}"), CPU)
    return np.stack(encode(encoder, TEXTS)).reshape(len(TEXTS), -1)


def states(folder: Path, prompt: str, limit: int = 64) -> list[torch.Tensor]:
    """Last hidden states (L, H) of each text by plain transformers."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        rows = [tokenizer(prompt + text, truncation=True, max_length=limit)["input_ids"] for text in TEXTS]
        return [model(torch.tensor([ids])).last_hidden_state[0] for ids in rows]


def weighted(x: torch.Tensor) -> torch.Tensor:
    weights = torch.arange(1, len(x) + 1)[:, None]
    return (x * weights).sum(0) / weights.sum()


WAYS: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "cls": ("cls_token", lambda x: x[0]),
    "max": ("max_tokens", lambda x: x.max(0).values),
    "mean": ("mean_tokens", lambda x: x.mean(0)),
    "mean_sqrt_len_tokens": ("mean_sqrt_len_tokens", lambda x: x.sum(0) / len(x) ** 0.5),
    "weightedmean": ("weightedmean_tokens", weighted),
    "lasttoken": ("lasttoken", lambda x: x[-1]),
}


def check(folder: Path, expected: torch.Tensor, **settings: Any) -> None:
    found = ours(folder)
    assert cosine(found, expected.numpy()) > 0.9999
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, show_progress_bar=False, **settings)
    assert cosine(found, theirs) > 0.9999


@pytest.mark.parametrize("form", ["old", "new"])
@pytest.mark.parametrize("mode", WAYS)
def test_every_pooling_is_read(mode: str, form: str, tmp_path: Path) -> None:
    name, pool = WAYS[mode]
    old = {f"pooling_mode_{other}": other == name for other, _ in WAYS.values()}
    folder = sentence_model(tmp_path / "m", old if form == "old" else {"pooling_mode": mode}, normalize=True)
    check(folder, torch.stack([pool(x) for x in states(folder, "")]))


def test_several_poolings_are_joined_in_their_order(tmp_path: Path) -> None:
    """Here with the mean before the maximum, there always after it."""
    both = {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}
    folder = sentence_model(tmp_path / "m", both)
    assert parse_encoder(str(folder)).pooling == "max+mean"
    check(folder, torch.stack([torch.cat([x.max(0).values, x.mean(0)]) for x in states(folder, "")]))


@pytest.mark.parametrize("normalize", [False, True])
def test_dense_layers_are_applied(normalize: bool, tmp_path: Path) -> None:
    folder = sentence_model(tmp_path / "m", {"pooling_mode_mean_tokens": True}, dense=(48, 20), normalize=normalize)
    expected = torch.stack([x.mean(0) for x in states(folder, "")])
    for number, way in ((2, torch.tanh), (3, torch.nn.Identity())):
        generator = torch.Generator().manual_seed(number)
        out = 48 if number == 2 else 20
        expected = way(expected @ torch.randn(out, expected.shape[1], generator=generator).T + 1)
    check(folder, expected)
    config = parse_encoder(str(folder))
    assert config.dense
    assert load_encoder(config, CPU).shape == (20,)
    # A pooling of one's own leaves them out.
    assert ours(folder, "&pooling=mean&max_length=64").shape == (len(TEXTS), 32)
    key = identify(config, CPU).key
    save_file(
        {"linear.weight": torch.ones(20, 48), "linear.bias": torch.ones(20)}, folder / "3_Dense/model.safetensors"
    )
    assert identify(config, CPU).key != key


@pytest.mark.parametrize(
    ("prompts", "taken"),
    [
        ({"prompts": {"query": PROMPT, "x": "bad "}, "default_prompt_name": "query"}, "query"),
        ({"prompts": {"query": "bad ", "Classification": PROMPT}, "default_prompt_name": "query"}, "Classification"),
        ({"prompts": {"classification": PROMPT}, "default_prompt_name": None}, "classification"),
        ({"prompts": {"query": PROMPT}, "default_prompt_name": None}, None),
        ({"prompts": {"query": "", "document": ""}, "default_prompt_name": None}, None),
    ],
)
def test_the_prompt_is_that_for_classification_or_the_default(
    prompts: dict[str, Any], taken: str | None, tmp_path: Path
) -> None:
    folder = sentence_model(tmp_path / "m", {"pooling_mode_mean_tokens": True}, prompts=prompts)
    assert parse_encoder(str(folder)).template == ("{text}" if taken is None else f"{PROMPT}{{text}}")
    expected = torch.stack([x.mean(0) for x in states(folder, PROMPT if taken else "")])
    check(folder, expected, **({"prompt_name": taken} if taken else {}))


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("e5-base-v2", "query: "),
        ("multilingual-e5-small", "query: "),
        ("multilingual-e5-large-instruct", ""),
        ("nomic-embed-text-v1.5", "classification: "),
        ("my-model", ""),
    ],
)
def test_models_without_a_prompt_have_that_of_their_card(name: str, prompt: str, tmp_path: Path) -> None:
    assert parse_encoder(str(sentence_model(tmp_path / name, {"pooling_mode": "mean"}))).template == prompt + "{text}"
    assert parse_encoder(f"intfloat/{name}").template == prompt + "{text}"


def test_the_length_may_stand_in_the_tokenizer(tmp_path: Path) -> None:
    """As new versions save it."""
    folder = sentence_model(
        tmp_path / "m", {"pooling_mode": "mean"}, length={"transformer_task": "feature-extraction"}
    )
    assert parse_encoder(str(folder)).max_length == 130  # the model's positions
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 16}))
    assert parse_encoder(str(folder)).max_length == 16
    check(folder, torch.stack([x.mean(0) for x in states(folder, "", 16)]))


def test_without_a_length_it_is_the_positions_for_tokens(tmp_path: Path) -> None:
    """RoBERTa has two more, for padding."""
    length = {"transformer_task": "feature-extraction"}
    folder = sentence_model(tmp_path / "m", {"pooling_mode": "mean"}, kind="roberta", length=length)
    config = parse_encoder(str(folder))
    assert config.max_length == json.loads((folder / "config.json").read_text())["max_position_embeddings"] - 2
    load_encoder(config, CPU)  # accepts it


def test_a_decoder_is_pooled_with_its_special_tokens(tmp_path: Path) -> None:
    folder = sentence_model(tmp_path / "m", {"pooling_mode": "mean"}, kind="llama")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["cls_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert parse_encoder(str(folder)).pool_special_tokens
    check(folder, torch.stack([x.mean(0) for x in states(folder, "")]))


def test_old_folders_have_their_transformer_in_a_folder(tmp_path: Path) -> None:
    folder = sentence_model(tmp_path / "m", {"pooling_mode": "mean"})
    (folder / "0_Transformer").mkdir()
    for path in [*folder.glob("*config.json"), *folder.glob("*.safetensors"), folder / "tokenizer.json"]:
        path.rename(folder / "0_Transformer" / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    assert parse_encoder(str(folder)).max_length == 64
    check(folder, torch.stack([x.mean(0) for x in states(folder / "0_Transformer", "")]))


def test_what_stores_hold_of_such_folders_is_found_again(tmp_path: Path) -> None:
    """The settings of before: pooling and length, nothing of normalization."""
    folder = sentence_model(tmp_path / "m", {"pooling_mode_cls_token": True}, normalize=True)
    settings = identify(parse_encoder(f"{folder}?dtype=float32"), CPU).settings
    del settings["fingerprint"]
    assert settings == {
        "feature_version": 1,
        "layers": [-1],
        "pooling": "first",
        "template": "{text}",
        "max_length": 64,
        "dtype": "float32",
        "pool_special_tokens": None,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"1_Pooling/config.json": {"pooling_mode": "mean", "include_prompt": False}}, "leaves out the prompt"),
        ({"sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": True}}, "lower-casing"),
        ({"2_Dense/config.json": {"activation_function": "my.Activation"}}, "activation my.Activation"),
        ({"2_Dense/config.json": {"use_residual": True}}, "dense layer with another input"),
    ],
)
def test_what_is_not_read_is_refused_with_the_way_out(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    prompts = {"prompts": {"classification": PROMPT}}
    folder = sentence_model(tmp_path / "m", {"pooling_mode": "mean"}, dense=(8,), prompts=prompts)
    for name, content in change.items():
        (folder / name).write_text(json.dumps(content))
    with pytest.raises(UsageError, match=rf"{message}.*SentenceTransformer\("):
        sentence_settings(folder_reader(folder), str(folder))


def test_pickled_dense_layers_are_not_read(tmp_path: Path) -> None:
    folder = sentence_model(tmp_path / "m", {"pooling_mode": "mean"}, dense=(8,))
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="pickled weights are not read"):
        identify(parse_encoder(str(folder)), CPU)


def refused(status: int) -> errors.HfHubHTTPError:
    response: Any = httpx.Response(status, request=httpx.Request("GET", "https://hub"))
    return errors.HfHubHTTPError("no", response=response)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.LocalEntryNotFoundError("no network"), None),
        (errors.OfflineModeIsEnabled("offline"), None),
        (refused(500), "HTTP 500"),
        (refused(403), "rejected the token"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
    ],
    ids=["no network", "offline", "500", "403", "full disk"],
)
def test_only_a_missing_file_or_network_is_no_file(
    error: Exception, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    read = hub_reader("some/model", f"revision of {said}")  # answers are kept by revision
    if said is None:
        assert read("modules.json") is None
    else:
        with pytest.raises(WeightsError, match=f"some/model: .*{said}"):
            read("modules.json")
