"""Extracts features with a model in the size of Llama-2-7b, with random weights, and reports peak memory.

    python benchmarks/speed/large_model.py --folder /disk/with/14-GB
    python benchmarks/speed/large_model.py --folder /disk/with/14-GB --int8
    python benchmarks/speed/large_model.py --folder /disk/with/4-GB --gguf Q4_0

The weights (13.5 GB, bfloat16, safetensors in shards as on the Hub) are written to the folder once and reused. A
separate process loads them and extracts a few texts into an empty store: five layers, mean over tokens. It prints its
peak resident memory, which must stay near the size of the weights (no second copy), and its peak private memory,
without pages of the weight files, which the system can reclaim. Random weights say nothing about accuracy; memory and
time are those of the real model. `--layers` makes it smaller; `--gguf` writes one quantized file like llama.cpp
(Q4_0: 3.8 GB, Q8_0: 7.2 GB), which is unpacked to bfloat16 when it is loaded."""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import psutil
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, LlamaConfig, PreTrainedTokenizerFast

from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.features.extract import extract_features
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.support.files import atomic_file
from fusion_classifier.support.progress import Progress
from fusion_classifier.tasks.registry import load_task

LAYERS = 32
WIDTH, INNER, HEADS, VOCABULARY, CONTEXT = 4096, 11008, 32, 32000, 4096
QUANTIZED_SCALE = 0.003  # scale of a block's integers, so that weights are as small as a trained model's


def write_model(folder: Path, layers: int) -> None:
    """Write random weights in shards of one layer each, an index, a configuration and a word tokenizer."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        max_position_embeddings=CONTEXT,
        bos_token_id=1,
        eos_token_id=2,
        dtype="bfloat16",
    )
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in AutoModel.from_config(config).state_dict().items()}
    shards: dict[str, list[str]] = {}
    for name in shapes:
        shards.setdefault(name.split(".")[1] if name.startswith("layers.") else "rest", []).append(name)
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    places: dict[str, str] = {}
    for shard, names in shards.items():
        tensors = {
            name: torch.ones(shapes[name], dtype=torch.bfloat16)
            if "norm" in name
            else torch.empty(shapes[name], dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
            for name in names
        }
        file = f"model-{shard}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}), "utf-8")
    texts = load_task(TaskConfig(name="demo")).split("train").texts
    words = ["<unk>", "<s>", "</s>", *sorted({word for text in texts for word in text.split()})][:VOCABULARY]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    config.save_pretrained(folder)  # written last, as a mark of completeness


def write_gguf(path: Path, layers: int, kind: GGMLQuantizationType) -> None:
    """Write random weights in one file: matrices in blocks of a scale and small integers, norms unquantized."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "llama", use_temp_file=True)  # tensors are buffered on disk, not in memory
    writer.add_block_count(layers)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    letters = [chr(byte) for byte in range(33, 127)]
    words = ["<unk>", "<s>", "</s>", *letters, "th"]
    words += [f"<{i}>" for i in range(VOCABULARY - len(words))]
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types([3, 3, 3] + [1] * (VOCABULARY - 3))
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    generator = np.random.default_rng(0)

    def matrix(name: str, rows: int, columns: int) -> None:
        values, size = GGML_QUANT_SIZES[kind]
        blocks = generator.integers(0, 256, (rows, columns // values, size), dtype=np.uint8)
        blocks[..., :2] = np.frombuffer(
            np.float16(QUANTIZED_SCALE).tobytes(), dtype=np.uint8
        )  # the scale comes first
        writer.add_tensor(name, blocks.reshape(rows, -1), raw_dtype=kind)

    def norm(name: str) -> None:
        writer.add_tensor(name, np.ones(WIDTH, dtype=np.float32))

    matrix("token_embd.weight", VOCABULARY, WIDTH)
    norm("output_norm.weight")
    for layer in range(layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{layer}.{name}.weight", WIDTH, WIDTH)
        for name in ("ffn_gate", "ffn_up"):
            matrix(f"blk.{layer}.{name}.weight", INNER, WIDTH)
        matrix(f"blk.{layer}.ffn_down.weight", WIDTH, INNER)
        for name in ("attn_norm", "ffn_norm"):
            norm(f"blk.{layer}.{name}.weight")
    with atomic_file(path) as temporary:
        writer.write_header_to_file(temporary)
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def extract(model: Path, texts: int, quantization: str) -> None:
    """The measured process."""
    device = torch.device("cpu")
    settings = f"layers=-5,-4,-3,-2,-1&dtype=bfloat16&quantization={quantization}"
    identity = identify(parse_encoder(f"{model}?{settings}"), device)
    done = Event()
    with ThreadPoolExecutor() as pool, tempfile.TemporaryDirectory() as store:
        own = pool.submit(peak_own_memory, done)
        started = time.perf_counter()
        try:
            extract_features(
                load_task(TaskConfig(name="demo")).split("train").texts[:texts],
                identity,
                FeatureStore(store),
                device,
                Progress(),
            )
            elapsed = time.perf_counter() - started
        finally:
            done.set()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {"texts": texts, "seconds": elapsed, "peak_gb": peak / 1e9, "peak_own_gb": own.result() / 1e9}
    print(json.dumps(figures))


def peak_own_memory(done: Event) -> int:
    """Peak private memory of the process in bytes, without pages of files."""
    process, most = psutil.Process(), 0
    while not done.wait(0.05):
        memory = process.memory_info()
        most = max(most, memory.rss - memory.shared)
    return most


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder with the weights, written if missing")
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--gguf", choices=["Q4_0", "Q8_0"], help="one quantized file instead of bfloat16")
    parser.add_argument("--int8", action="store_true", help="8-bit weights in linear layers")
    parser.add_argument("--extract", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.extract:
        extract(given.extract, given.texts, "int8" if given.int8 else "none")
        return
    model = given.folder
    if given.gguf:
        model = given.folder / f"llama-{given.layers}-layers.{given.gguf}.gguf"
        if not model.is_file():
            write_gguf(model, given.layers, GGMLQuantizationType[given.gguf])
        size = model.stat().st_size
    else:
        if not (model / "config.json").is_file():
            write_model(model, given.layers)
        size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    command = [sys.executable, __file__, "--folder", str(given.folder), "--extract", str(model)]
    command += ["--texts", str(given.texts), *(["--int8"] if given.int8 else [])]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print(json.dumps({"weights_gb": size / 1e9} | found, indent=1))


if __name__ == "__main__":
    main()
