"""GGUF files: a small Llama written as one against the same weights in plain transformers."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from transformers import LlamaConfig, LlamaModel

import fusion_classifier.encoders.gguf as module
from fusion_classifier.commands.tune import tune_encoder
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.loading import load_encoder
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.encoders.tokenization import tokenize
from fusion_classifier.errors import UsageError, WeightsError
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.runs.context import RunContext
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.loaded import LoadedTask, Split
from fusion_classifier.training.tune_config import TuneConfig

CPU = torch.device("cpu")
TEXTS = ["hello there, all", "I am?", "ü", "the other", "a"]
HEADS, KEY_HEADS = 4, 2
MERGES = ["h e", "l l", "t h", "th e", "Ġ a", "o t"]
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def byte_letters() -> list[str]:
    """GPT-2's letter of each byte."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in kept] + [chr(256 + i) for i in range(256 - len(kept))]


VOCABULARY = ["<unk>", "<s>", "</s>", *byte_letters(), *(merge.replace(" ", "") for merge in MERGES)]


@pytest.fixture(scope="module")
def model() -> LlamaModel:
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
    )
    generator = torch.Generator().manual_seed(0)
    model = LlamaModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1 if "norm" in name else 0, 0.2, generator=generator)
    return model


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of a query or key matrix: the two halves of each head by turns."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


@pytest.fixture(scope="module")
def gguf_file(model: LlamaModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(3)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(48)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(len(VOCABULARY))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3, 3, 3] + [1] * (len(VOCABULARY) - 3))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    writer.add_tensor("token_embd.weight", state["embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["norm.weight"])
    for layer in range(3):
        for ours, theirs in NAMES.items():
            weight = state[f"layers.{layer}.{ours}.weight"]
            if theirs in ("attn_q", "attn_k"):
                weight = interleaved(weight, HEADS if theirs == "attn_q" else KEY_HEADS)
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def spec(path: Path, settings: str = "") -> str:
    return f"{path}?dtype=float32&layers=0,-2,-1&max_length=100{settings}"


def check_against(model: LlamaModel, path: Path) -> None:
    encoder = load_encoder(parse_encoder(spec(path)), CPU)
    for text, feature in zip(TEXTS, encode(encoder, TEXTS), strict=True):
        ids = encoder.tokenizer(text)["input_ids"]
        assert ids[0] == 1  # the start token, as the file asks for
        assert encoder.tokenizer.decode(ids[1:]) == text
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        expected = np.stack([states[layer][0, 1:].mean(0).numpy() for layer in (0, -2, -1)])
        np.testing.assert_allclose(feature, expected, atol=1e-5)


def test_a_gguf_file_gives_the_features_of_the_same_weights(model: LlamaModel, gguf_file: Path) -> None:
    check_against(model, gguf_file)
    check_against(model, gguf_file.parent)  # the folder names its only GGUF file
    check_against(model, gguf_file)  # unpacked by now


def test_a_file_too_large_to_keep_gives_them_too(
    model: LlamaModel, gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "KEEP_BELOW_BYTES", 10)
    check_against(model, gguf_file)
    assert not (tmp_path / "fec" / "gguf").exists()


def test_a_file_is_unpacked_once_for_each_precision(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = encode(load_encoder(parse_encoder(spec(gguf_file)), CPU), TEXTS)
    (folder,) = (tmp_path / "fec" / "gguf").iterdir()
    assert folder.name == f"{identify(parse_encoder(spec(gguf_file)), CPU).fingerprint[:32]}-float32"

    def fail(*_: object) -> None:
        raise AssertionError("the file was unpacked again")

    with monkeypatch.context() as patch:
        patch.setattr(module, "load_packed", fail)
        second = encode(load_encoder(parse_encoder(spec(gguf_file)), CPU), TEXTS)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    load_encoder(parse_encoder(f"{gguf_file}?dtype=bfloat16&max_length=100"), CPU)
    assert len(list((tmp_path / "fec" / "gguf").iterdir())) == 2


def test_a_gguf_file_counts_by_its_content_and_not_its_name(gguf_file: Path, tmp_path: Path) -> None:
    content = bytearray(gguf_file.read_bytes())
    (tmp_path / "other name.gguf").write_bytes(content)
    content[-1] ^= 1
    (tmp_path / "changed.gguf").write_bytes(content)
    key, renamed, changed = (
        identify(parse_encoder(spec(path)), CPU).key
        for path in (gguf_file, tmp_path / "other name.gguf", tmp_path / "changed.gguf")
    )
    assert key == renamed
    assert key != changed


def test_a_template_around_subwords_stays_whole(gguf_file: Path) -> None:
    encoder = load_encoder(parse_encoder(f"{gguf_file}?max_length=16&template=so: {{text}} the end"), CPU)
    (cut,) = tokenize(encoder, ["hello there, all of the others"])
    text = encoder.tokenizer.decode([i for i, own in zip(cut.ids, cut.own, strict=True) if own])
    assert len(cut) <= 16
    assert cut.truncated
    assert text.startswith("so: he")
    assert text.endswith(" the end")


def test_a_gguf_file_is_tuned_into_an_ordinary_folder(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = LoadedTask(
        "letters", ("a", "b"), {name: Split(("hello", "the") * 8, (0, 1) * 8) for name in ("train", "valid")}, ""
    )
    work = RunContext(FeatureStore(tmp_path / "store"), CPU, QUIET)
    config = TuneConfig(epochs=8, learning_rate=1e-2, batch_size=4)
    encoder = parse_encoder(f"{gguf_file}?dtype=float32&max_length=100")
    tuned = tune_encoder(config, encoder, task, tmp_path / "tuned", work)
    assert tuned.record["valid"]["accuracy"] == 1
    assert encode(load_encoder(parse_encoder(f"{tuned.folder}?max_length=100"), CPU), ["hello"])[0].shape == (32,)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "KEEP_BELOW_BYTES", 10)
    with pytest.raises(WeightsError, match="too large a GGUF file"):
        tune_encoder(config, encoder, task, tmp_path / "again", work)


def test_without_its_packages_the_extra_is_named(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    hidden = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "gguf" else hidden(name, *rest)
    )
    with pytest.raises(UsageError, match=r"needs gguf: pip install '.*\[gguf\]'"):
        load_encoder(parse_encoder(spec(gguf_file)), CPU)


def test_unpacking_draws_no_bar_and_restores_the_readers(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import transformers.modeling_gguf_pytorch_utils as reader

    tqdm = reader.tqdm
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    capfd.readouterr()
    load_encoder(parse_encoder(spec(gguf_file)), CPU)
    assert "it/s" not in capfd.readouterr().err
    assert reader.tqdm is tqdm
