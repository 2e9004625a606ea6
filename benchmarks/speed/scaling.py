"""Cost of extraction by number of rows, text length and number of workers, and the cost of a killed worker.

    python benchmarks/speed/scaling.py --task go_emotion_multilabel --data DATA/go_emotion_multilabel --plot out.svg
    python benchmarks/speed/scaling.py --quick --json

All with one encoder (default: MiniLM), each time into an empty store:

- `rows`: seconds of the local engine for 1,000 to 50,000 texts, with the model loaded; `rows_exponent` is the slope
  of log(seconds) against log(rows); 1 is linear.
- `lengths`: tokens per second for texts of 8 to 256 tokens.
- `workers`: texts per second of Ray with one and two workers of one core each, from the difference between two sizes,
  so without startup, which is reported separately (`start_seconds`: processes, imports, model).
- `ray_vs_local`: rate of Ray with two single-core workers relative to the local engine on two cores, alternating;
  median over three rounds. `ray_vs_local_with_start`: the same for the larger size, 20,000 texts, including
  startup.
- `killed`: one of two workers is killed with SIGKILL half-way; seconds compared with an undisturbed run, and the
  number of texts in the store at the end.

Needs: pip install -e '.[ray]'. Use an idle machine with two cores.
"""

import argparse
import json
import logging
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from extraction import CPU, Ours, sampled
from matplotlib.figure import Figure

from fusion_classifier.cluster import pool
from fusion_classifier.cluster.extract import extract_features_ray
from fusion_classifier.cluster.pool import RayEngine
from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders.loading import load_transformer
from fusion_classifier.errors import FecError
from fusion_classifier.features.hashing import hash_texts
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.registry import load_task

ROWS, QUICK_ROWS = (1000, 2000, 5000, 10_000, 20_000, 50_000), (500, 1000, 2000, 4000)
RAY_ROWS, RAY_PART = 20_000, 5  # and a fifth of them, to compute the difference
LENGTHS = (8, 16, 32, 64, 128, 256)
TOKENS, QUICK_TOKENS = 100_000, 40_000  # texts per length
CORES = 2
OBJECT_STORE_BYTES = 512 * 2**20


def texts_of(task: str, data: str | None, count: int) -> list[str]:
    """This number of distinct texts of a task; with numbered copies if it has fewer."""
    loaded = load_task(TaskConfig(name=task, data=data))
    texts = [text for split in ("train", "valid") for text in loaded.split(split).texts]
    found = sampled(texts, count)
    copies = 2
    while len(found) < count:
        found += [f"{text} {copies}" for text in sampled(texts, count - len(found))]
        copies += 1
    return found


# --- this machine ------------------------------------------------------------------------------------


def by_rows(encoder: str, texts: Sequence[str], sizes: Sequence[int]) -> dict[str, Any]:
    """Seconds of the local engine, and their growth."""
    Ours(encoder, texts[: sizes[0]])()  # warm-up
    found = [{"rows": size, "seconds": Ours(encoder, texts[:size])()} for size in sizes]
    slope, _ = np.polyfit(np.log([one["rows"] for one in found]), np.log([one["seconds"] for one in found]), 1)
    return {"rows": found, "rows_exponent": float(slope)}


def by_length(encoder: str, texts: Sequence[str], tokens: int) -> list[dict[str, Any]]:
    """Tokens per second for texts of equal length."""
    tokenizer = load_transformer(Ours(encoder, texts[:1]).identity, CPU).tokenizer
    ids = tokenizer(" ".join(texts), add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
    special = tokenizer.num_special_tokens_to_add()
    found = []
    for length in LENGTHS:
        own = length - special
        count = min(tokens // length, len(ids) // own)
        some = [tokenizer.decode(ids[i * own : (i + 1) * own]) for i in range(count)]
        lengths = [len(one) for one in tokenizer(some, truncation=True, max_length=256)["input_ids"]]
        seconds = Ours(encoder, some)()
        found.append({"length": float(np.mean(lengths)), "tokens_per_second": sum(lengths) / seconds})
    return found


# --- Ray ---------------------------------------------------------------------------------------------------


@contextmanager
def ray_of(cores: int) -> Iterator[RayEngine]:
    """Start Ray with this number of cores, one worker per core."""
    os.environ.update(pool.QUIET)
    import ray  # noqa: PLC0415 - reads its environment on import

    ray.init(
        num_cpus=cores,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield RayEngine(workers=cores)
    finally:
        ray.shutdown()


def ray_seconds(ours: Ours, engine: RayEngine) -> float:
    """Seconds of one extraction into an empty store, including startup of workers and model."""
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(folder)
        seconds = extract_features_ray(ours.texts, ours.identity, store, engine, QUIET).seconds
        assert store.of(ours.identity).contains(hash_texts(ours.texts)).all()
    return seconds


def by_workers(encoder: str, texts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Rates with one and two workers, and of the local engine alternately with the latter."""
    small, large = len(texts) // RAY_PART, len(texts)
    few, many = Ours(encoder, texts[:small]), Ours(encoder, texts)

    def rate(seconds_few: float, seconds_many: float) -> float:
        return (large - small) / (seconds_many - seconds_few)

    workers, ratios, with_start, local_rates = [], [], [], []
    for count in range(1, CORES + 1):
        with ray_of(count) as engine:
            ray_seconds(few, engine)  # warm-up: Ray keeps idle processes
            rates, starts = [], []
            for _ in range(rounds):
                a, b = ray_seconds(few, engine), ray_seconds(many, engine)
                rates.append(rate(a, b))
                starts.append(a - small / rates[-1])
                if count == CORES:
                    c, d = few(), many()
                    local_rates.append(rate(c, d))
                    ratios.append(rates[-1] / local_rates[-1])
                    with_start.append((d + many.load_seconds) / b)
        workers.append(
            {
                "workers": count,
                "texts_per_second": statistics.median(rates),
                "start_seconds": statistics.median(starts),
            }
        )
    return {
        "workers": workers,
        "local_texts_per_second": statistics.median(local_rates),
        "ray_vs_local": statistics.median(ratios),
        "ray_vs_local_with_start": statistics.median(with_start),
        "rates_from": [small, large],
    }


def killed(encoder: str, texts: Sequence[str]) -> dict[str, Any]:
    """Cost of a worker that dies half-way."""
    ours = Ours(encoder, texts)
    victims: list[int] = []

    def kill_after(seconds: float) -> None:
        time.sleep(seconds)
        for process in psutil.process_iter(["cmdline"]):
            if "ray::MapWorker" in " ".join(process.info["cmdline"] or []):
                os.kill(process.pid, signal.SIGKILL)
                victims.append(process.pid)
                return

    with ray_of(CORES) as engine:
        ray_seconds(ours, engine)
        undisturbed = ray_seconds(ours, engine)
        killer = threading.Thread(target=kill_after, args=(undisturbed / 2,), daemon=True)
        killer.start()
        disturbed = ray_seconds(ours, engine)  # asserts that every text is there
        killer.join()
    return {
        "texts": len(texts),
        "killed": len(victims),
        "seconds": disturbed,
        "seconds_undisturbed": undisturbed,
    }


# --- output ------------------------------------------------------------------------------------------------


def plot(result: dict[str, Any], encoder: str, path: Path) -> None:
    """Rows, lengths, workers."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    rows, lengths, workers = figure.subplots(1, 3)
    x, y = ([one[key] for one in result["rows"]] for key in ("rows", "seconds"))
    rows.loglog(x, y, "o-")
    rows.loglog(x, [y[-1] * size / x[-1] for size in x], ":", color="gray", label="linear")
    rows.set_title(f"{encoder}: exponent {result['rows_exponent']:.2f}")
    rows.set_xlabel("texts")
    rows.set_ylabel("seconds")
    rows.legend()
    rows.minorticks_off()
    lengths.semilogx(
        [one["length"] for one in result["lengths"]],
        [one["tokens_per_second"] for one in result["lengths"]],
        "o-",
        base=2,
    )
    lengths.set_title("length")
    lengths.set_xlabel("tokens per text")
    lengths.set_ylabel("tokens per second")
    lengths.set_ylim(0)
    names = [f"Ray,\n{one['workers']} × 1 core" for one in result["workers"]] + [f"local,\n{CORES} cores"]
    rates = [one["texts_per_second"] for one in result["workers"]] + [result["local_texts_per_second"]]
    workers.bar(names, rates, color=["C0"] * len(result["workers"]) + ["gray"])
    workers.set_title("workers")
    workers.set_ylabel("texts per second")
    for axes in (rows, lengths, workers):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="demo")
    parser.add_argument("--data")
    parser.add_argument("--encoder", default="minilm-l6")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    sizes = QUICK_ROWS if given.quick else ROWS
    texts = texts_of(given.task, given.data, sizes[-1])
    some = texts[:RAY_ROWS]
    result: dict[str, Any] = {"encoder": given.encoder, "task": given.task}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "rows": lambda: by_rows(given.encoder, texts, sizes),
        "lengths": lambda: {"lengths": by_length(given.encoder, texts, QUICK_TOKENS if given.quick else TOKENS)},
        "workers": lambda: by_workers(given.encoder, some, 1 if given.quick else 3),
        "killed": lambda: {"killed": killed(given.encoder, some)},
    }
    for name, part in parts.items():
        started = time.perf_counter()
        result |= part()
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    if given.plot:
        plot(result, given.encoder, given.plot)
    if given.json:
        print(json.dumps(result, indent=1))
        return
    first, last = result["rows"][0], result["rows"][-1]
    print(
        f"rows: {first['rows']:,} in {first['seconds']:.1f} s, {last['rows']:,} in {last['seconds']:.1f} s, "
        f"exponent {result['rows_exponent']:.3f}"
    )
    for one in result["lengths"]:
        print(f"texts of {one['length']:.0f} tokens: {one['tokens_per_second']:,.0f} tokens/s")
    for one in result["workers"]:
        print(
            f"Ray, {one['workers']} workers of one core: {one['texts_per_second']:,.0f} texts/s "
            f"after {one['start_seconds']:.1f} s"
        )
    print(f"local, {CORES} cores: {result['local_texts_per_second']:,.0f} texts/s")
    print(
        f"Ray / local: {result['ray_vs_local']:.2f}, with its start {result['ray_vs_local_with_start']:.2f} "
        f"at {result['rates_from'][1]:,} texts"
    )
    end = result["killed"]
    print(
        f"{end['texts']:,} texts with one of two workers killed half-way: {end['seconds']:.1f} s, "
        f"undisturbed {end['seconds_undisturbed']:.1f} s"
    )


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
