"""Compares extraction with the original code, with sentence-transformers, and with the machine's limit.

    python benchmarks/speed/extraction.py --task go_emotion --data DATA/go_emotion
    python benchmarks/speed/extraction.py --task go_emotion --data DATA/go_emotion --quick --json

Each figure is a ratio of two sides, measured alternately on the same texts in this run, as the median over rounds:

- `vs_original`: SmolLM2, five layers, mean over tokens, as extracted by the published code (batches of 2 texts, each
  padded to 200 tokens, float32 on a CPU, all hidden states kept, vocabulary logits computed, mean including padding),
  against `fec extract` with its store.
- `vs_sentence_transformers`: MiniLM and MPNet sentence vectors by `SentenceTransformer.encode` at the best batch size
  and precision found here, against `fec extract` with its store. The smaller of the two counts. Vectors are compared.
- `share_of_gemm`: SmolLM2; rate of multiplications of weights with real tokens, divided by the rate of a large
  bfloat16 matrix product. Attention, normalization and the rest are not counted.
- `overhead`: share of `fec extract`'s time outside the model: tokenizing, pooling, storing.

Needs: pip install --group bench. Use an idle machine.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders import packed
from fusion_classifier.encoders.batches import jobs_of
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.loading import TransformerEncoder, load_transformer
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.encoders.weights import locate
from fusion_classifier.errors import FecError
from fusion_classifier.features.arrays import PooledFeatures
from fusion_classifier.features.extract import WINDOW_TEXTS, extract_features, read_features
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.registry import load_task

CPU = torch.device("cpu")
LLM, SENTENCE_ENCODERS = "smollm2-135m", ("minilm-l6", "mpnet-base")
PADDED_TO, ORIGINAL_BATCH = 200, 2
GEMM_SIZE = 4096
PEER_BATCHES = (32, 64, 128)
WARM_UP_TEXTS = 64


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def sampled(texts: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """A random sample of distinct texts."""
    unique = sorted(set(texts))
    return [unique[i] for i in np.random.default_rng(seed).permutation(len(unique))[:count]]


def identity_of(spec: str) -> EncoderIdentity:
    """The encoder with pooled features."""
    return identify(parse_encoders([spec], features="pooled")[0], CPU)


class Ours:
    """`fec extract` into an empty store; the time to load the model is measured and excluded."""

    def __init__(self, spec: str, texts: Sequence[str]) -> None:
        self.identity, self.texts = identity_of(spec), texts
        load_transformer(self.identity, CPU)
        self.load_seconds = min(seconds(lambda: load_transformer(self.identity, CPU)) for _ in range(3))

    def __call__(self) -> float:
        with tempfile.TemporaryDirectory() as folder:
            report = extract_features(self.texts, self.identity, FeatureStore(folder), CPU, QUIET)
        return report.seconds - self.load_seconds

    def vectors(self) -> np.ndarray:
        """The stored features (N, …)."""
        with tempfile.TemporaryDirectory() as folder:
            store = FeatureStore(folder)
            extract_features(self.texts, self.identity, store, CPU, QUIET)
            (features,) = read_features(self.texts, [self.identity], store).values()
        assert isinstance(features, PooledFeatures)
        return features.values


def original(texts: Sequence[str]) -> Callable[[], float]:
    """The published extraction loop, implemented from its description."""
    encoder = load_transformer(identity_of(LLM), CPU, plain=True)  # for its tokenizer
    tokenizer, weights = encoder.tokenizer, locate(encoder.config)
    source: dict[str, Any] = {"gguf_file": weights.gguf_file} if weights.gguf_file else {}
    model = AutoModelForCausalLM.from_pretrained(weights.folder, dtype=torch.float32, **source).eval()
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token

    def work() -> None:
        for start in range(0, len(texts), ORIGINAL_BATCH):
            batch = tokenizer(
                list(texts[start : start + ORIGINAL_BATCH]),
                padding="max_length",
                truncation=True,
                max_length=PADDED_TO,
                return_tensors="pt",
            )
            with torch.no_grad():
                states = model(**batch, output_hidden_states=True).hidden_states
            torch.stack([layer.mean(1) for layer in states[-5:]], dim=1).numpy()

    return lambda: seconds(work)


def peer(spec: str, texts: Sequence[str], dtype: torch.dtype, batch_size: int) -> Callable[[], np.ndarray]:
    """`SentenceTransformer.encode` with these settings."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - may not be installed

    folder = locate(parse_encoders([spec], features="pooled")[0]).folder
    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": dtype})

    def encode(of: Sequence[str] = texts) -> np.ndarray:
        return np.asarray(model.encode(list(of), batch_size=batch_size, show_progress_bar=False), dtype=np.float32)

    encode(texts[:WARM_UP_TEXTS])
    return encode


def best_peer(spec: str, texts: Sequence[str]) -> tuple[str, Callable[[], np.ndarray]]:
    """The fastest of several settings on these texts."""
    tried: dict[str, Callable[[], np.ndarray]] = {}
    for dtype, batch_size in itertools.product((torch.bfloat16, torch.float32), PEER_BATCHES):
        if dtype == torch.float32 and batch_size != PEER_BATCHES[0]:
            continue  # twice as slow at any batch size
        tried[f"{str(dtype).removeprefix('torch.')}, batch {batch_size}"] = peer(spec, texts, dtype, batch_size)
    times = {setting: seconds(encode) for setting, encode in tried.items()}
    setting = min(times, key=lambda name: times[name])
    print(f"{spec}, sentence-transformers: {times}", file=sys.stderr)
    return setting, tried[setting]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines of the rows of two matrices."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    result: np.ndarray = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return result


def gemm_rate() -> float:
    """Floating-point operations per second of a large bfloat16 matrix product, on all cores."""
    a, b = (torch.randn(GEMM_SIZE, GEMM_SIZE, dtype=torch.bfloat16) for _ in range(2))
    a @ b
    return 2 * GEMM_SIZE**3 / min(seconds(lambda: a @ b) for _ in range(3))


def weight_operations(encoder: TransformerEncoder) -> int:
    """Floating-point operations per token with the weights of the blocks; embeddings are looked up."""
    linear = (module for module in encoder.model.modules() if isinstance(module, torch.nn.Linear))
    return 2 * sum(module.weight.numel() for module in linear)


class ModelAlone:
    """The model alone, on the same batches with the same number of threads: no tokenizing, pooling or storing."""

    def __init__(self, spec: str, texts: Sequence[str]) -> None:
        self.encoder = load_transformer(identity_of(spec), CPU)
        ordered = sorted(texts, key=lambda text: (len(text), text))
        windows = [ordered[i : i + WINDOW_TEXTS] for i in range(0, len(ordered), WINDOW_TEXTS)]
        jobs = [job for window in windows for job in jobs_of(self.encoder, window)]
        self.batches = [[text.ids for text in job.by_template[0]] for job in jobs]
        self.tokens = sum(len(ids) for batch in self.batches for ids in batch)

    def __call__(self) -> float:
        threads = torch.get_num_threads()

        def forward(batch: list[tuple[int, ...]]) -> None:
            with torch.inference_mode():
                packed.states(self.encoder.model, batch, self.encoder.layers, self.encoder.first_position)

        started = time.perf_counter()
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as executor:
            list(executor.map(forward, self.batches))
        elapsed = time.perf_counter() - started
        torch.set_num_threads(threads)
        return elapsed


def padded_share(encoder: TransformerEncoder, texts: Sequence[str], batch_size: int) -> float:
    """Share of padding in batches of this size, sorted by length as in sentence-transformers."""
    lengths = sorted((len(ids) for ids in encoder.tokenizer(list(texts))["input_ids"]), reverse=True)
    batches = [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]
    return 1 - sum(lengths) / sum(len(batch) * batch[0] for batch in batches)


def measure(texts: Sequence[str], *, quick: bool, only: str | None = None) -> dict[str, Any]:
    """All figures, or those for one comparison."""
    rounds = 1 if quick else 3
    result: dict[str, Any] = {"texts": len(texts), "threads": torch.get_num_threads(), "rounds": rounds}
    if only != "sentence-transformers":
        result |= against_original(texts, rounds, quick=quick)
    if only != "original":
        peers = against_sentence_transformers(texts, rounds, quick=quick)
        result["sentence_transformers"] = peers
        result["vs_sentence_transformers"] = min(one["ratio"] for one in peers.values())
    return result


def against_original(texts: Sequence[str], rounds: int, *, quick: bool) -> dict[str, Any]:
    """SmolLM2: the original's extraction, and the machine's limit."""
    few = texts[: 12 if quick else 48]
    some = texts[: 1024 if quick else 2048]
    theirs, ours, alone = original(few), Ours(LLM, some), ModelAlone(LLM, some)
    operations, ratios, shares, overheads, taken = weight_operations(alone.encoder), [], [], [], []
    for _ in range(rounds):
        t_original, t_ours, t_alone, rate = theirs() / len(few), ours() / len(some), alone() / len(some), gemm_rate()
        ratios.append(t_original / t_ours)
        shares.append(operations * alone.tokens / len(some) / t_ours / rate)
        overheads.append(1 - t_alone / t_ours)
        taken.append(t_ours)
        print(
            f"{LLM}: original {t_original:.4f} s per text, ours {t_ours:.5f}, model alone {t_alone:.5f}",
            file=sys.stderr,
        )
    return {
        "vs_original": statistics.median(ratios),
        "share_of_gemm": statistics.median(shares),
        "overhead": statistics.median(overheads),
        "vs_original_rounds": ratios,
        "smollm2_texts_per_second": 1 / statistics.median(taken),
    }


def against_sentence_transformers(texts: Sequence[str], rounds: int, *, quick: bool) -> dict[str, Any]:
    """Figures by encoder; `share_of_gemm` for our multiplications with real tokens, `padding` for their batches."""
    peers: dict[str, Any] = {}
    for spec, count in zip(SENTENCE_ENCODERS, (2048, 512) if quick else (4096, 2048), strict=True):
        some = texts[:count]
        setting, encode = best_peer(spec, some)
        ours, turns = Ours(spec, some), []
        alone, rates = ModelAlone(spec, some), []
        for _ in range(max(rounds, 2)):
            turns.append((seconds(encode), ours()))
            rates.append(gemm_rate())
        ratios = [t_peer / t_ours for t_peer, t_ours in turns]
        peers[spec] = {
            "ratio": statistics.median(ratios),
            "ratios": ratios,
            "setting": setting,
            "texts_per_second": len(some) / statistics.median(t_ours for _, t_ours in turns),
            "peer_texts_per_second": len(some) / statistics.median(t_peer for t_peer, _ in turns),
            "share_of_gemm": statistics.median(
                weight_operations(alone.encoder) * alone.tokens / t_ours / rate
                for (_, t_ours), rate in zip(turns, rates, strict=True)
            ),
            "padding": padded_share(alone.encoder, some, PEER_BATCHES[0]),
            "least_cosine": float(cosines(encode(), ours.vectors().reshape(len(some), -1)).min()),
        }
    return peers


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="demo")
    parser.add_argument("--data")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=["original", "sentence-transformers"])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    task = load_task(TaskConfig(name=given.task, data=given.data))
    result = measure(
        sampled(task.split("train").texts, 2048 if given.quick else 4096), quick=given.quick, only=given.only
    )
    if given.json or given.only:
        print(json.dumps(result, indent=1))
        return
    print(f"original's way / ours, SmolLM2: {result['vs_original']:.1f} x")
    for spec, one in result["sentence_transformers"].items():
        print(
            f"sentence-transformers ({one['setting']}) / ours, {spec}: {one['ratio']:.2f} x "
            f"(rounds from {min(one['ratios']):.2f} to {max(one['ratios']):.2f}; "
            f"{one['peer_texts_per_second']:.0f} and {one['texts_per_second']:.0f} texts/s; "
            f"cosine at least {one['least_cosine']:.5f})"
        )
    print(f"share of a matrix product's rate, SmolLM2: {result['share_of_gemm']:.2f}")
    print(f"tokenizing, pooling, storing: {100 * result['overhead']:.1f}% of the time")


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
