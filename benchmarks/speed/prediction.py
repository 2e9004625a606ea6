"""Speed of a fused classifier, for one text at a time and in bulk, and the overhead of fusion.

    python benchmarks/speed/prediction.py --task go_emotion --data DATA/go_emotion
    python benchmarks/speed/prediction.py --quick --json
    python benchmarks/speed/prediction.py --rows 1000000
    python benchmarks/speed/prediction.py --profile --task go_emotion --data DATA/go_emotion

A classifier on the three small encoders is trained on a few texts (its size matters here, not its accuracy), then:

- `p50_ms`, `p99_ms`: `predict_proba` of one text, texts of all lengths in turn.
- `rows_per_second`: `predict_proba_stream` over many texts, as `fec predict --file` calls it.
- `fusion_overhead`: its time in bulk relative to the encoders alone on the same texts, minus 1; both sides
  alternating, median over rounds. `fusion_overhead_processor` is the same in CPU time, which is less affected by
  other work.

`--rows` instead measures the peak memory of `fec predict --file … --out …`, in separate processes, for a hundredth, a
tenth and all of this number of rows of about 60 characters, from and to Parquet and JSONL. The model is a one-layer
BERT with random weights: this is about reading, batching and writing. Linux only.

`--profile` prints torch's profile of the head, and its total time.

Use an idle machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier.text_classifier import CHUNK_TEXTS
from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders.encode import encode
from fusion_classifier.errors import FecError
from fusion_classifier.features.arrays import from_arrays
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.inference import predict_logits

ENCODERS = ("smollm2-135m", "minilm-l6", "mpnet-base")
TRAINED_TEXTS = 400
# Runs the command line and prints its peak memory in KiB. (The system's figure for a child may include the memory of
# the parent that it was forked from.)
MEASURED = """
import atexit, re, runpy
atexit.register(lambda: print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]))
runpy.run_module("fusion_classifier", run_name="__main__")
"""
WRITTEN_ROWS = 16384  # rows written at once
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{number:04}" for number in range(1000))]


def now() -> np.ndarray:
    """Wall-clock seconds, and CPU seconds over all threads: (2,)."""
    return np.array([time.perf_counter(), time.process_time()])


def encoded_alone(classifier: FusionClassifier, texts: Sequence[str]) -> np.ndarray:
    """Seconds (see `now`) of the encoders, called in the same chunks as by the classifier."""
    started = now()
    for start in range(0, len(texts), CHUNK_TEXTS):
        for encoder in classifier.load_encoders():
            encode(encoder, texts[start : start + CHUNK_TEXTS])
    seconds: np.ndarray = now() - started
    return seconds


def predicted(classifier: FusionClassifier, texts: Sequence[str]) -> np.ndarray:
    """Seconds (see `now`) of the whole prediction."""
    started = now()
    for _ in classifier.predict_proba_stream(texts):
        pass
    seconds: np.ndarray = now() - started
    return seconds


def measure(texts: list[str], labels: list[str], *, quick: bool) -> dict[str, Any]:
    """All figures."""
    classifier = FusionClassifier(encoders=list(ENCODERS)).fit(texts[:TRAINED_TEXTS], labels[:TRAINED_TEXTS])
    classifier.keep_features = False  # as set by `from_pretrained`: with a store, a second round would encode nothing
    others = texts[TRAINED_TEXTS:]
    single, bulk, rounds = others[: 60 if quick else 300], others[: 512 if quick else 2048], 2 if quick else 3
    classifier.predict_proba(single[:5])
    latencies = []
    for text in single:
        started = time.perf_counter()
        classifier.predict_proba([text])
        latencies.append(1000 * (time.perf_counter() - started))
    ratios, rates = [], []
    for _ in range(rounds):
        alone, whole = encoded_alone(classifier, bulk), predicted(classifier, bulk)
        ratios.append(whole / alone)
        rates.append(len(bulk) / whole[0])
    return {
        "texts": len(bulk),
        "p50_ms": float(np.percentile(latencies, 50)),
        "p99_ms": float(np.percentile(latencies, 99)),
        "rows_per_second": statistics.median(rates),
        "fusion_overhead": float(np.median(ratios, axis=0)[0] - 1),
        "fusion_overhead_processor": float(np.median(ratios, axis=0)[1] - 1),
    }


def profile(texts: list[str], labels: list[str]) -> None:
    """Print a profile of the head."""
    classifier = FusionClassifier(encoders=list(ENCODERS)).fit(texts[:TRAINED_TEXTS], labels[:TRAINED_TEXTS])
    bulk = texts[TRAINED_TEXTS : TRAINED_TEXTS + 512]
    encoded = [(encoder.config, encode(encoder, bulk)) for encoder in classifier.load_encoders()]
    for _ in range(3):
        started = now()
        classifier._logits(encoded)
        took = now() - started
        print(f"head, {len(bulk)} texts: {took[0]:.3f} s, CPU time {took[1]:.3f} s")
    torch.set_num_threads(1)  # the profiler covers only this thread
    features = {config.name: from_arrays(arrays, ragged=True) for config, arrays in encoded}
    with torch.profiler.profile() as profiler:
        predict_logits(classifier.head_, features, len(bulk), torch.device("cpu"))
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))


def small_model(folder: Path) -> Path:
    """A trained classifier on a one-layer BERT with random weights."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder / "bert")
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    BertModel(BertConfig(vocab_size=len(WORDS), **size)).save_pretrained(folder / "bert")
    texts = list(islice(random_texts(), 200))
    classifier = FusionClassifier([str(folder / "bert")], head="linear", store=folder / "store")
    classifier.fit(texts, ["a", "b"] * 100).save_pretrained(folder / "model")
    return folder / "model"


def random_texts() -> Iterator[str]:
    """Yield texts of seven words, endlessly."""
    generator = np.random.default_rng(0)
    while True:
        for row in generator.integers(4, len(WORDS), (1024, 7)):
            yield " ".join(WORDS[i] for i in row)


def write_texts(path: Path, rows: int) -> None:
    """Write a file of texts in parts."""
    texts, schema = islice(random_texts(), rows), pa.schema([("text", pa.string())])
    if path.suffix == ".parquet":
        with pq.ParquetWriter(path, schema) as file:
            while part := list(islice(texts, WRITTEN_ROWS)):
                file.write_table(pa.table({"text": part}, schema))
    else:
        with path.open("w") as lines:
            lines.writelines(json.dumps({"text": text}) + "\n" for text in texts)


def memory(rows: int) -> list[dict[str, Any]]:
    """Peak memory of prediction in separate processes, by number of rows and file format."""
    result = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = small_model(folder)
        for count in (rows // 100, rows // 10, rows):
            for ending in (".parquet", ".jsonl"):
                texts, out = folder / f"texts{ending}", folder / f"out{ending}"
                write_texts(texts, count)
                given = ["predict", "--model", str(model), "--file", str(texts), "--out", str(out)]
                started = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, "-c", MEASURED, *given], check=True, stdout=subprocess.PIPE, text=True
                )
                seconds, peak = time.perf_counter() - started, int(done.stdout.split()[-1])
                result.append({"rows": count, "format": ending[1:], "peak_mb": peak * 1024 / 1e6, "seconds": seconds})
                print(json.dumps(result[-1]), file=sys.stderr, flush=True)
    return result


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="demo")
    parser.add_argument("--data")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, metavar="N", help="measure the peak memory of `fec predict` up to N rows")
    parser.add_argument("--profile", action="store_true", help="print a profile of the head")
    given = parser.parse_args()
    if given.rows:
        figures = memory(given.rows)
        for one in figures if not given.json else []:
            print(f"{one['rows']:>9,} rows, {one['format']}: {one['peak_mb']:.0f} MB, {one['seconds']:.0f} s")
        if given.json:
            print(json.dumps(figures, indent=1))
        return
    task = load_task(TaskConfig(name=given.task, data=given.data))
    train = task.split("train")
    order = np.random.default_rng(0).permutation(len(train.texts))
    texts = [train.texts[i] for i in order]
    targets = task.targets("train")
    labels = [task.labels[int(targets[i])] for i in order]
    if given.profile:
        profile(texts, labels)
        return
    result = measure(texts, labels, quick=given.quick)
    if given.json:
        print(json.dumps(result, indent=1))
        return
    print(f"one text: {result['p50_ms']:.0f} ms (median), {result['p99_ms']:.0f} ms (99%)")
    print(
        f"in bulk: {result['rows_per_second']:.1f} texts/s; fusion adds {100 * result['fusion_overhead']:.1f}%, "
        f"of the processor's time {100 * result['fusion_overhead_processor']:.1f}%"
    )


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
