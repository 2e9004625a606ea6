"""SetFit and full fine-tuning for the learning curves, with parallel training runs on a GPU or CPUs.

    python benchmarks/accuracy/learning_curve_peers.py --data DATA --encoder minilm-l6 --out peers.jsonl

Needs torch, transformers, sentence-transformers, datasets, setfit and scikit-learn, but not this package. Each
training run is scored on the validation and the test split (`--splits`), one row of the JSONL file each; finished
ones are skipped. `learning_curve.py --summary` reads the file along with its own.

SetFit 1.2 with its defaults and the following number of steps of 16 pairs: every pair once, which is the library's
default, if that is at most 1,000 steps; otherwise 20 pairs of each kind per text, as in SetFit's paper, but at least
1,000 steps and at most 3,000. Fine-tuning: learning rate 1e-4, batches of 32, 4 epochs, or as many as are needed for
1,000 steps, at most 30. Seconds are for this machine with that many parallel training runs.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from curve_data import DATASETS, DRAWS, SIZES, Cell, Corpus, draw_rows, key_of, load_corpus, same_as_all
from curve_rows import append_row, read_rows, row_of

SETFIT_ALL_PAIRS, SETFIT_MAX, SETFIT_PAIRS_PER_TEXT = 1000, 3000, 20
FINE_TUNING_RATE, FINE_TUNING_BATCH = 1e-4, 32
FINE_TUNING_STEPS, FINE_TUNING_EPOCHS = 1000, (4, 30)
SETFIT_SIZES: tuple[int | str, ...] = (8, 16, 64)
FINE_TUNING_SIZES: tuple[int | str, ...] = (64, 256, "all")
FEW_ONLY = frozenset(
    {"ED", "go_emotion"}
)  # too many pairs for SetFit at 64 rows per class of 27 and 32 classes: skipped


@dataclass(frozen=True)
class Order:
    """Settings of a worker process."""

    data: Path
    encoder: Path
    splits: tuple[str, ...]
    threads: int
    until: float  # wall-clock time after which no new run starts
    done: frozenset[tuple[str, str, str, int, str]]


def setfit_steps(labels: np.ndarray) -> int:
    """Number of SetFit steps by the rule above; -1: the library's default."""
    from trained import SETFIT_BATCH, setfit_default_steps  # noqa: PLC0415 - the parent needs no torch

    default = setfit_default_steps(labels)
    if default <= SETFIT_ALL_PAIRS:
        return -1
    wanted = 2 * SETFIT_PAIRS_PER_TEXT * len(labels) // SETFIT_BATCH
    return min(default, max(SETFIT_ALL_PAIRS, wanted), SETFIT_MAX)


def fine_tuning_epochs(rows: int) -> int:
    """Number of fine-tuning epochs by the rule above."""
    least, most = FINE_TUNING_EPOCHS
    steps = -(-rows // FINE_TUNING_BATCH)
    return min(most, max(least, -(-FINE_TUNING_STEPS // steps)))


def train_part(
    system: str, texts: Sequence[str], labels: np.ndarray, n_classes: int, seed: int, encoder: Path
) -> tuple[Any, dict[str, Any]]:
    """Train `setfit` or `finetune`.

    Returns:
        Function from texts to probabilities (N, C), and the setting.
    """
    import torch  # noqa: PLC0415
    from trained import FineTuningPlan, SetFitPlan, train_finetuned, train_setfit  # noqa: PLC0415

    if system == "setfit":
        steps = setfit_steps(labels)
        return train_setfit(encoder, texts, labels, n_classes, SetFitPlan(steps), seed), {"max_steps": steps}
    setting: dict[str, Any] = {"learning_rate": FINE_TUNING_RATE, "epochs": fine_tuning_epochs(len(texts))}
    plan = FineTuningPlan(**setting, batch_size=FINE_TUNING_BATCH, use_cpu=not torch.cuda.is_available())
    return train_finetuned(encoder, texts, labels, n_classes, plan, seed), setting


def train_cell(cell: Cell, corpus: Corpus, encoder: Path) -> tuple[Any, dict[str, Any]]:
    """Train a cell's system on its draw.

    Returns:
        Function from texts to probabilities, and the row's fields: rows, train_seconds, setting, machine.
    """
    import torch  # noqa: PLC0415

    rows = draw_rows(corpus.pool.labels, cell.size, cell.draw)
    part = corpus.pool.take(rows)
    started = time.perf_counter()
    predict, setting = train_part(cell.system, part.texts, part.labels, len(corpus.classes), cell.draw, encoder)
    seconds = time.perf_counter() - started
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    return predict, {"rows": rows, "train_seconds": seconds, "setting": setting, "machine": machine}


def planned(
    datasets: Sequence[str], sizes: Sequence[int | str], draws: Sequence[int], systems: Sequence[str]
) -> list[Cell]:
    """The cells in order of importance: SetFit by size, then fine-tuning by size; every draw of all data sets."""
    order: list[Cell] = []
    groups: tuple[tuple[str, tuple[int | str, ...]], ...] = (
        ("setfit", SETFIT_SIZES),
        ("finetune", FINE_TUNING_SIZES),
    )
    for system, of_system in groups:
        if system not in systems:
            continue
        for size in (s for s in of_system if s in sizes):
            wanted = [name for name in datasets if not (system == "setfit" and size == 64 and name in FEW_ONLY)]
            order += [Cell(name, size, draw, system) for draw in draws for name in wanted]
    return order


_CORPORA: dict[str, Corpus] = {}
_ORDER: list[Order] = []


def _begin(order: Order) -> None:
    _ORDER[:] = [order]
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    torch.set_num_threads(order.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def _run(cell: Cell) -> tuple[Cell, list[dict[str, Any]]]:
    (order,) = _ORDER
    if cell.dataset not in _CORPORA:
        _CORPORA[cell.dataset] = load_corpus(order.data, cell.dataset)
    corpus = _CORPORA[cell.dataset]
    splits = [s for s in order.splits if not (s == "test" and corpus.test is None) and cell.key(s) not in order.done]
    if time.time() > order.until or not splits or same_as_all(corpus.pool.labels, cell.size):
        return cell, []
    predict, fields = train_cell(cell, corpus, order.encoder)
    rows, seconds = fields.pop("rows"), fields.pop("train_seconds")
    found = []
    for split in splits:
        started = time.perf_counter()
        probabilities = predict(corpus.judged(split).texts)
        spent = time.perf_counter() - started
        found.append(
            row_of(
                cell,
                split,
                corpus,
                probabilities,
                rows=rows,
                train_seconds=seconds,
                predict_seconds=spent,
                extra=fields,
            )
        )
    return cell, found


def as_float32(encoder: Path, folder: Path) -> Path:
    """A copy of an encoder's folder with float32 weights."""
    import torch  # noqa: PLC0415
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    shutil.copytree(encoder, folder)
    file = folder / "model.safetensors"
    weights = {name: w.float() if w.dtype == torch.float16 else w for name, w in load_file(file).items()}
    file.unlink()
    save_file(weights, file, {"format": "pt"})
    return folder


def run(cells: Sequence[Cell], order: Order, out: Path, workers: int, grace: float) -> int:
    """Train the cells in worker processes; their rows are appended as they finish.

    Returns:
        Number of failed training runs.
    """
    failed, started = 0, time.time()
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(order,))
    futures = {pool.submit(_run, cell): cell for cell in cells}
    try:
        for future in as_completed(futures, timeout=max(0.0, order.until + grace - time.time())):
            try:
                cell, rows = future.result()
            except Exception as error:
                failed += 1
                print(f"{futures[future]}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                continue
            for row in rows:
                append_row(out, row)
            if rows:
                spent = time.time() - started
                scores = ", ".join(f"{row['split']} {100 * row['accuracy']:.1f}" for row in rows)
                name = f"{cell.system} {cell.dataset} {cell.size} draw {cell.draw}"
                print(f"{spent:6.0f} s  {name}: {scores}, {rows[0]['train_seconds']:.0f} s", flush=True)
    except TimeoutError:
        print("time limit reached: running cells are aborted", file=sys.stderr, flush=True)
        for process in list(pool._processes.values()):
            process.kill()
    pool.shutdown(wait=True, cancel_futures=True)
    return failed


def _sizes(text: str) -> tuple[int | str, ...]:
    return tuple(part if part == "all" else int(part) for part in text.split(","))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, help="Folder of the data sets.")
    parser.add_argument("--encoder", type=Path, required=True, help="Folder of the sentence encoder.")
    parser.add_argument("--out", type=Path, required=True, help="JSONL file that rows are appended to.")
    parser.add_argument("--done", type=Path, help="JSONL file with further cells to skip.")
    parser.add_argument("--datasets", default=",".join(DATASETS), help="Default: all.")
    parser.add_argument(
        "--sizes", type=_sizes, default=SIZES, help="Rows per class, or all. Default: 8,16,64,256,all."
    )
    parser.add_argument("--draws", default=",".join(map(str, range(DRAWS))), help="Default: 0,1,2,3,4.")
    parser.add_argument("--systems", default="setfit,finetune", help="Default: setfit,finetune.")
    parser.add_argument("--splits", default="valid,test", help="Splits to score. Default: valid,test.")
    parser.add_argument("--workers", type=int, default=1, help="Number of parallel training runs. Default: 1.")
    parser.add_argument("--threads", type=int, default=1, help="Threads per run. Default: 1.")
    parser.add_argument(
        "--minutes", type=float, default=600.0, help="Minutes after which no run starts. Default: 600."
    )
    parser.add_argument("--grace", type=float, default=60.0, help="Seconds for running cells to finish. Default: 60.")
    given = parser.parse_args()
    os.environ.update(
        HF_HUB_OFFLINE="1",
        HF_DATASETS_OFFLINE="1",
        TOKENIZERS_PARALLELISM="false",
        OMP_NUM_THREADS=str(given.threads),
        HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    )
    until = time.time() + 60 * given.minutes
    done = frozenset(key_of(row) for file in (given.out, given.done) if file for row in read_rows(file))
    cells = planned(
        given.datasets.split(","), given.sizes, [int(d) for d in given.draws.split(",")], given.systems.split(",")
    )
    with tempfile.TemporaryDirectory() as folder:
        encoder = as_float32(given.encoder, Path(folder) / "encoder")
        order = Order(given.data, encoder, tuple(given.splits.split(",")), given.threads, until, done)
        return min(1, run(cells, order, given.out, given.workers, given.grace))


if __name__ == "__main__":
    sys.exit(main())
