"""`fec tune --objective contrastive` on the draws of the learning curves, then logistic regression.

    python benchmarks/accuracy/contrastive.py --data DATA --encoder minilm-l6 --out contrastive.jsonl

Each draw tunes the encoder from its original weights. Logistic regression (scikit-learn, C = 10) is fitted to the
unit vectors of the draw's rows, and scored on the validation rows, or the test rows (`--split test`). `train_seconds`
is the time for tuning and regression, with the encoder loaded; `processor_seconds` is the CPU time for the same,
which depends less on other programs. Each result is one row of the JSONL file, in the format of `learning_curve.py`;
finished ones are skipped. `--set FIELD=VALUE` changes a setting of `TuneConfig`.

`--peers FILE` adds the mean of the same draws from the file of `learning_curve_peers.py` or `learning_curve.py`.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from curve_data import Cell, Corpus, draw_rows, key_of, load_corpus
from curve_rows import append_row, read_rows, row_of
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.loading import TransformerEncoder, load_encoder
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.encoders.tokenization import tokenize
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training.contrastive import tune_contrastively, with_label_names
from fusion_classifier.training.tune_config import TuneConfig

SYSTEM, PEER = "contrastive", "setfit"
DATASETS, SIZES, DRAWS = "trec,sst5,go_emotion,subj", "8,16", "0,1,2"
C = 10.0


def unit_vectors(encoder: TransformerEncoder, texts: tuple[str, ...], precision: torch.dtype) -> np.ndarray:
    """Features (N, F), float32, computed like `fec extract` with this precision."""
    with torch.autocast(encoder.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        vectors = np.stack([vector.reshape(-1) for vector in encode(encoder, texts)]).astype(np.float32)
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def run(
    cell: Cell, corpus: Corpus, split: str, encoder: TransformerEncoder, precision: torch.dtype, config: TuneConfig
) -> dict[str, Any]:
    """Tune, fit and score a draw; returns its row."""
    rows = draw_rows(corpus.pool.labels, cell.size, cell.draw)
    part, judged = corpus.pool.take(rows), corpus.judged(split)
    started, processor = time.perf_counter(), time.process_time()
    names = corpus.classes if config.label_names else ()
    texts, labels = with_label_names(part.texts, part.labels, names)
    tune_contrastively(encoder, config, precision, tokenize(encoder, texts), labels, len(corpus.classes), QUIET)
    encoder.model.requires_grad_(False)
    model = LogisticRegression(C=C, max_iter=2000).fit(unit_vectors(encoder, part.texts, precision), part.labels)
    processor = time.process_time() - processor
    seconds, started = time.perf_counter() - started, time.perf_counter()
    probabilities = np.zeros((len(judged), len(corpus.classes)))
    probabilities[:, model.classes_] = model.predict_proba(unit_vectors(encoder, judged.texts, precision))
    return row_of(
        cell,
        split,
        corpus,
        probabilities,
        rows=rows,
        train_seconds=seconds,
        predict_seconds=time.perf_counter() - started,
        extra={
            "processor_seconds": round(processor, 4),
            "setting": config.model_dump(),
            "threads": torch.get_num_threads(),
            "machine": encoder.device.type,
        },
    )


def summary(rows: list[dict[str, Any]], peers: list[dict[str, Any]]) -> str:
    """Print one line per data set and size: mean accuracy and seconds over the draws, and the peer's."""
    lines = []
    for dataset, size in dict.fromkeys((row["dataset"], row["n"]) for row in rows):
        ours = {row["draw"]: row for row in rows if (row["dataset"], row["n"]) == (dataset, size)}
        split = next(iter(ours.values()))["split"]
        theirs = {
            row["draw"]: row
            for row in peers
            if (row["dataset"], row["n"], row["split"], row["system"]) == (dataset, size, split, PEER)
        }
        line = f"{dataset} {size} {split}: {_means(ours, ours)}"
        if both := ours.keys() & theirs.keys():
            line += f"; of draws {sorted(both)}: {_means(ours, both)}, {PEER} {_means(theirs, both)}"
        lines.append(line)
    return "\n".join(lines)


def _means(rows: dict[int, dict[str, Any]], draws: Any) -> str:
    accuracy, seconds = (np.mean([rows[draw][key] for draw in draws]) for key in ("accuracy", "train_seconds"))
    return f"{100 * accuracy:.1f} ({seconds:.1f} s)"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, help="Folder of the data sets.")
    parser.add_argument("--encoder", required=True, help="Encoder, as for fec.")
    parser.add_argument("--out", type=Path, required=True, help="JSONL file that rows are appended to.")
    parser.add_argument("--datasets", default=DATASETS, help=f"Default: {DATASETS}.")
    parser.add_argument("--sizes", default=SIZES, help=f"Rows per class. Default: {SIZES}.")
    parser.add_argument("--draws", default=DRAWS, help=f"Default: {DRAWS}.")
    parser.add_argument("--split", choices=("valid", "test"), default="valid", help="Split to score. Default: valid.")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="May be repeated.")
    parser.add_argument("--peers", type=Path, help="JSONL file with rows of SetFit.")
    given = parser.parse_args()
    fields: dict[str, Any] = {"objective": "contrastive"} | dict(word.split("=", 1) for word in given.set)
    device = resolve_device("auto")
    start = parse_encoder(given.encoder, features="pooled").model_copy(update={"layers": (-1,)})
    precision = getattr(torch, identify(start, device).dtype)
    encoder = load_encoder(start.model_copy(update={"dtype": "float32"}), device, plain=True)
    original: dict[str, Tensor] = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    done = {key_of(row) for row in read_rows(given.out)}
    for dataset in given.datasets.split(","):
        corpus = load_corpus(given.data, dataset)
        for size in map(int, given.sizes.split(",")):
            for draw in map(int, given.draws.split(",")):
                cell = Cell(dataset, size, draw, SYSTEM)
                if cell.key(given.split) in done:
                    continue
                encoder.model.load_state_dict(original)
                config = TuneConfig.model_validate(fields | {"seed": draw})
                row = run(cell, corpus, given.split, encoder, precision, config)
                append_row(given.out, row)
                print(
                    f"{dataset} {size} draw {draw}: {100 * row['accuracy']:.1f}, {row['train_seconds']:.1f} s "
                    f"({row['processor_seconds']:.1f} s of the processor)",
                    flush=True,
                )
    peers = read_rows(given.peers) if given.peers else []
    print(summary([row for row in read_rows(given.out) if row["split"] == given.split], peers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
