"""Extract features of a model of Llama-2-7b's true shape, with random weights, and report the peak of memory.

    python benchmarks/large_model.py --folder /disk/with/14-GB

The weights (13.5 GB, bfloat16, safetensors in shards as on the Hub) are written to the folder once and used again.
A process of its own loads them and extracts a few texts into an empty store: five layers, mean over tokens. It
prints the peak of its resident memory, which must stay near the size of the weights: no second copy. Random weights
say nothing about accuracy; memory and time are those of the real model. `--layers` makes it smaller.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, LlamaConfig, PreTrainedTokenizerFast

from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders import identify, parse_encoder
from fusion_classifier.features import FeatureStore, extract_features
from fusion_classifier.progress import Progress
from fusion_classifier.tasks import load_task

LAYERS = 32


def write_model(folder: Path, layers: int) -> None:
    """Random weights in shards of one layer each, an index, a configuration and a tokenizer of words."""
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=layers,
        num_attention_heads=32,
        max_position_embeddings=4096,
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
    words = sorted(
        {word for text in load_task(TaskConfig(name="demo")).split("train").texts for word in text.split()}
    )
    vocabulary = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", *words][:32000])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    config.save_pretrained(folder)  # last: what says that all is there


def extract(folder: Path, texts: int) -> None:
    """The measured process."""
    device = torch.device("cpu")
    identity = identify(parse_encoder(f"{folder}?layers=-5,-4,-3,-2,-1&dtype=bfloat16"), device)
    with tempfile.TemporaryDirectory() as store:
        started = time.perf_counter()
        extract_features(
            load_task(TaskConfig(name="demo")).split("train").texts[:texts],
            identity,
            FeatureStore(store),
            device,
            Progress(),
        )
        elapsed = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"texts": texts, "seconds": elapsed, "peak_gb": peak / 1e9}))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the weights are, or are to be written")
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--extract", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.extract:
        extract(given.folder, given.texts)
        return
    if not (given.folder / "config.json").is_file():
        write_model(given.folder, given.layers)
    size = sum(file.stat().st_size for file in given.folder.glob("*.safetensors"))
    command = [sys.executable, __file__, "--extract", "--folder", str(given.folder), "--texts", str(given.texts)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print(json.dumps({"weights_gb": size / 1e9} | found, indent=1))


if __name__ == "__main__":
    main()
