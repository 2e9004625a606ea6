"""An encoder's files, whatever they hold, give features or one sentence, and take no more memory than they may.

FEC_FUZZ_EXAMPLES=2000 pytest tests/faults/test_model_folders.py tries more.
"""

import json
import random
import shutil
import struct
from pathlib import Path

import pytest
import torch
from fuzzing import damaged, fuzzed, given, mutated, settled, st
from safetensors.torch import load_file, save_file

from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.loading import load_encoder
from fusion_classifier.encoders.spec import parse_encoder

resource = pytest.importorskip("resource", reason="POSIX only")
pytestmark = [pytest.mark.linux, pytest.mark.slow]  # many commands or trainings

CPU = torch.device("cpu")
TEXTS = ["we won", "it is dark"]
MEMORY = 200  # MB that a refusal may take beside what a command takes by itself


def read(model: Path) -> str | None:
    """What is said of a model where its texts get no features."""
    return settled(lambda: encode(load_encoder(parse_encoder(f"{model}?dtype=float32&max_length=64"), CPU), TEXTS))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
@fuzzed
@given(seed=st.integers(0, 2**32))
def test_any_file_of_a_model(
    name: str, seed: int, bert_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model, draw = tmp_path_factory.mktemp("model") / "encoder", random.Random(seed)
    shutil.copytree(bert_folder, model)
    file = model / name
    if name.endswith(".json") and draw.random() < 0.9:
        file.write_text(json.dumps(mutated(json.loads(file.read_text("utf-8")), draw)), "utf-8")
    elif draw.random() < 0.1:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(damaged(file.read_bytes(), draw))
    read(model)


@pytest.mark.parametrize(
    ("claim", "value", "lacking"),
    [
        ("num_hidden_layers", 10**9, "nothing"),
        ("num_hidden_layers", -1, "nothing"),
        ("vocab_size", 2**40, "embeddings"),  # made up at that size, if they were not refused
        ("hidden_size", 2**22, "nothing"),
        ("intermediate_size", 2**40, "dense"),
        ("max_position_embeddings", 2**40, "position"),
    ],
)
def test_a_configuration_that_claims_too_much_is_refused(
    claim: str, value: int, lacking: str, bert_folder: Path, tmp_path: Path
) -> None:
    model = tmp_path / "encoder"
    shutil.copytree(bert_folder, model)
    described = json.loads((model / "config.json").read_text("utf-8")) | {claim: value}
    (model / "config.json").write_text(json.dumps(described), "utf-8")
    weights = load_file(model / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if lacking not in name}
    save_file(kept, model / "model.safetensors", metadata={"format": "pt"})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = read(model)
    assert said
    assert "claims" in said
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 < MEMORY


# --- code in a model's folder ------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_never_run(file: str, bert_folder: Path, tmp_path: Path) -> None:
    model, sign = tmp_path / "encoder", tmp_path / "was-run"
    shutil.copytree(bert_folder, model)
    (model / "evil.py").write_text(f"open({str(sign)!r}, 'w')\n", "utf-8")
    described = json.loads((model / file).read_text("utf-8"))
    classes = ("AutoConfig", "AutoModel", "AutoTokenizer")
    described["auto_map"] = dict.fromkeys(classes, "evil.Evil") | {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    described |= {"model_type": "evil"} if file == "config.json" else {"tokenizer_class": "Evil"}
    (model / file).write_text(json.dumps(described), "utf-8")
    read(model)
    assert not sign.exists()


def test_pickled_weights_are_refused_and_not_opened(bert_folder: Path, tmp_path: Path) -> None:
    model, sign = tmp_path / "encoder", tmp_path / "was-run"
    shutil.copytree(bert_folder, model)
    (model / "model.safetensors").unlink()
    # protocol 0: os.system('touch …')
    (model / "pytorch_model.bin").write_bytes(f"cos\nsystem\n(S'touch {sign}'\ntR.".encode())
    said = read(model)
    assert said
    assert "pickled weights" in said
    assert not sign.exists()


# --- GGUF --------------------------------------------------------------------------------------------------


def named(name: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name


ARCHITECTURE = named(b"general.architecture") + struct.pack("<I", 8) + named(b"llama")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"GGUF" + struct.pack("<I", 77),
        b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60) + ARCHITECTURE,
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**62),
        *(  # arrays of numbers, of strings, of arrays
            b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + ARCHITECTURE + named(b"x") + struct.pack("<IIQ", 9, kind, 2**40)
            for kind in (0, 12, 8, 9, 99)
        ),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + named(b"x") + struct.pack("<IIQ", 9, 9, 1) * 2000,
        b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + named(b"x") + struct.pack("<I", 2**31),
    ],
)
def test_a_gguf_header_that_claims_too_much_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "small.gguf"
    file.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = read(file)
    assert said
    assert "is not a readable GGUF file" in said
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 < MEMORY
