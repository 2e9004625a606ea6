"""Compare text classifiers on the same data and the same splits: accuracy, calibration, time and memory.

    python benchmarks/accuracy/accuracy.py --task go_emotion --data DATA/go_emotion --seeds 5 --out runs/accuracy
    python benchmarks/accuracy/accuracy.py --table runs/accuracy --plot accuracy.svg
    python benchmarks/accuracy/accuracy.py --list

Each task, system and seed runs in a separate process, so that peak memory is measured per run, and ends with a folder
`OUT/TASK/SYSTEM/SEED` with `result.json` and `predictions.parquet`, written atomically. Finished runs are skipped:
stop at any time and run the same command again. `OUT/TASK/SYSTEM/predictions.parquet` has all seeds, so that `fec
compare OUT/TASK/A OUT/TASK/B` compares two systems.

Everything is chosen on the validation split. The test split is predicted and scored only with `--test`, after all
choices are made; pass it from the start if you need it, since systems without it are trained again.

Seconds: `extract`, extraction of the training and validation features, measured if this run extracted all of them,
otherwise estimated from a rate measured on this machine (the result says which); `train`, the chosen setting only;
`search`, the other settings of its grid, once for all seeds; `infer`, prediction of the validation texts with
features ready; and `infer_from_text`, including extraction. Use an idle machine: these are wall-clock times;
`processor` is the CPU time of the whole process over all cores. `peak_mb` is the peak resident memory; `start_mb` is
the memory after imports and extraction, before training.

`--quick` uses 2,000 training and 500 validation rows, one seed, one setting instead of a grid and, by default, the
encoder minilm-l6 and the fast systems: a few minutes on two cores.
"""

import argparse
import importlib.util
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import accuracy_report
import numpy as np
import ours
import peers
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from peers import Fitted, Problem

from fusion_classifier.config import EncoderConfig, FeatureKind, TaskConfig
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.loading import load_transformer
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.encoders.weights import locate
from fusion_classifier.errors import FecError, UsageError, WeightsError
from fusion_classifier.evaluation.metrics import score
from fusion_classifier.evaluation.predictions import SplitPredictions, write_predictions
from fusion_classifier.features.extract import ExtractionReport, extract_features
from fusion_classifier.features.hashing import hash_texts, hexadecimal
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.features import extract_task
from fusion_classifier.support.files import atomic_file, atomic_folder, atomic_write
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.loaded import LoadedTask, Split
from fusion_classifier.tasks.registry import load_task

ENCODERS = ("smollm2-135m", "minilm-l6", "mpnet-base")
QUICK_TRAIN, QUICK_VALID = 2000, 500
QUICK_ENCODERS = ("minilm-l6",)
QUICK_SYSTEMS = ("majority", "tfidf", "lr", "svm", "knn", "linear", "llmembed", "fusion", "finetune-minilm-l6")
RATE_TEXTS = 512
PACKAGES = (
    "llm-fusion-classifier", "torch", "transformers", "scikit-learn", "numpy", "setfit", "sentence-transformers",
)  # fmt: skip


@dataclass(frozen=True)
class System:
    """One row of the comparison.

    `features` is the kind of features that the system reads; None if it reads texts. `one_seed` is the reason for
    running a single seed, empty otherwise. `needs` are libraries that the package itself does not need.
    """

    name: str
    title: str
    fit: Callable[[Problem], Fitted]
    features: FeatureKind | None = None
    encoders: tuple[str, ...] = ()
    one_seed: str = ""
    needs: tuple[str, ...] = ()


def systems_of(encoders: Sequence[str], token_encoders: Sequence[str]) -> dict[str, System]:
    """Every system by name, for the encoders as specified by the user; cheapest first."""
    several, same = tuple(encoders), "has no randomness"
    pooled = partial(System, features="pooled", encoders=several)
    listed = [
        System("majority", "Majority label", peers.majority, one_seed=same),
        System("tfidf", "TF-IDF (words, characters) + logistic regression", peers.tfidf, one_seed=same),
        pooled("lr", "Logistic regression, standardized features", peers.logistic, one_seed=same),
        pooled("svm", "Linear SVM, standardized features", peers.svm, one_seed="is practically deterministic"),
        pooled("knn", "k nearest neighbours, standardized features", peers.knn, one_seed=same),
        pooled("linear", "fec: head linear", partial(ours.head, name="linear")),
        pooled("llmembed", "fec: head llmembed, our recipe", partial(ours.head, name="llmembed")),
        pooled("llmembed-zscored", "Head llmembed, standardized features", ours.llmembed_zscored),
        pooled(
            "llmembed-published",
            "Head llmembed, published recipe",
            partial(ours.head, name="llmembed", recipe_name="published"),
        ),
        *(
            System(f"fusion-{slug(encoder)}", f"fec: {slug(encoder)} alone", OURS, "tokens", (encoder,))
            for encoder in token_encoders
            if len(token_encoders) > 1
        ),
        System("fusion", "fec: all encoders", OURS, "tokens", tuple(token_encoders)),
        System(
            "setfit",
            "SetFit, minilm-l6",
            setfit,
            encoders=("minilm-l6",),
            one_seed="costs too much",
            needs=("setfit", "sentence_transformers"),
        ),
        System("finetune-minilm-l6", "Fine-tuning, minilm-l6", finetune, encoders=("minilm-l6",)),
        System("finetune-mpnet-base", "Fine-tuning, mpnet-base", finetune, encoders=("mpnet-base",)),
    ]
    return {system.name: system for system in listed}


def setfit(problem: Problem) -> Fitted:
    """See `peers_trained.setfit`."""
    import peers_trained  # noqa: PLC0415 - slow to import, and only two systems need it

    return peers_trained.setfit(problem)


def finetune(problem: Problem) -> Fitted:
    """See `peers_trained.finetune`."""
    import peers_trained  # noqa: PLC0415

    return peers_trained.finetune(problem)


POOLED: FeatureKind = "pooled"
TOKENS: FeatureKind = "tokens"
OURS = partial(ours.head, name="fusion")
MAIN_SYSTEM = "fusion"  # the system that all others are compared with


def slug(encoder: str) -> str:
    """System name for an encoder: its name with settings but without its path, valid as a folder name."""
    name = parse_encoders([encoder], features="tokens")[0].name
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")


@dataclass(frozen=True)
class Setup:
    """Everything that must agree for two results to be in one table."""

    task: str
    data: str | None
    limit: int | None
    quick: bool
    encoders: tuple[str, ...]
    token_encoders: tuple[str, ...]
    splits: tuple[str, ...]
    out: Path
    store: Path | None

    def task_folder(self) -> Path:
        """The folder of the task's systems."""
        return self.out / Path(self.task).name

    def arguments(self) -> list[str]:
        """The command line of a subprocess with the same setup."""
        given = ["--task", self.task, "--out", str(self.out), "--splits", ",".join(self.splits)]
        given += ["--encoders", *self.encoders, "--token-encoders", *self.token_encoders]
        for option, value in (("--data", self.data), ("--limit", self.limit), ("--store", self.store)):
            given += [] if value is None else [option, str(value)]
        return given + (["--quick"] if self.quick else [])


@dataclass(frozen=True)
class Loaded:
    """The task, and the identification of its data in a result."""

    task: LoadedTask
    identity: Mapping[str, Any] = field(default_factory=dict)


def load(setup: Setup) -> Loaded:
    """The task with the splits that this run may use, limited as requested.

    Raises:
        FecError: It can't be read, lacks a split, or has several labels per text.
    """
    task = load_task(TaskConfig(name=setup.task, data=setup.data, limit=setup.limit))
    if task.multilabel:
        raise UsageError(f"{task.name}: texts have several labels; this comparison requires one label per text")
    rows = {"train": QUICK_TRAIN, "valid": QUICK_VALID, "test": QUICK_VALID} if setup.quick else {}
    splits = {name: task.split(name) for name in ("train", *setup.splits)}
    cut = {name: Split(s.texts[: rows.get(name)], s.labels[: rows.get(name)]) for name, s in splits.items()}
    task = replace(task, splits=cut, augmentation=None)
    identity = {name: split.fingerprint() for name, split in cut.items() if name != "test"}
    pooled, tokens = (
        [encoder.name for encoder in parse_encoders(list(specs), features=features)]
        for specs, features in ((setup.encoders, POOLED), (setup.token_encoders, TOKENS))
    )
    return Loaded(task, {"encoders": pooled, "token_encoders": tokens, "quick": setup.quick, **identity})


# --- one system and seed, in a separate process ----------------------------------------------------------


def run_one(system: System, seed: int, setup: Setup) -> None:
    """Extract, fit, predict, write the result folder."""
    loaded = load(setup)
    work = RunContext(FeatureStore(setup.store), resolve_device("auto"), QUIET)
    encoders = parse_encoders(list(system.encoders), features=system.features or "pooled") if system.encoders else ()
    folder = setup.task_folder() / system.name
    extraction = extract(loaded.task, encoders, setup, work) if system.features else NO_EXTRACTION
    visible = {name: loaded.task.splits[name] for name in ("train", "valid")}
    problem = Problem(
        task=replace(loaded.task, splits=visible),
        seed=seed,
        quick=setup.quick,
        settled=settled(folder, loaded),
        encoders=encoders,
        work=work,
        folder=folder / f".{seed}.work",
    )
    start_mb = peak_mb()
    started = time.perf_counter()
    fitted = system.fit(problem)
    fit_seconds = time.perf_counter() - started

    parts, seconds = [], {}
    for name in setup.splits:
        split = loaded.task.split(name)
        started = time.perf_counter()
        probabilities = fitted.predict(split.texts).astype(np.float32)
        seconds[name] = time.perf_counter() - started
        hashes = hexadecimal(hash_texts(split.texts))
        answers = {seed: probabilities.argmax(1)}
        parts.append(SplitPredictions(name, hashes, loaded.task.targets(name), {seed: probabilities}, answers))

    metrics: dict[str, dict[str, float | None]] = {}
    for part in parts:
        metrics[part.split] = dict(score(part.labels, part.by_seed[seed]))
        if not fitted.probabilistic:
            metrics[part.split] |= {"nll": None, "ece": None}
    share = len(loaded.task.split("valid")) / sum(len(split) for split in visible.values())
    result = {
        "task": loaded.task.name,
        "system": system.name,
        "title": system.title,
        "seed": seed,
        "data": loaded.identity,
        "rows": {name: len(split) for name, split in loaded.task.splits.items()},
        "labels": len(loaded.task.labels),
        "encoders": [encoder.name for encoder in encoders],
        "metrics": metrics,
        "probabilities": "given" if fitted.probabilistic else "softmax of scores: nll and ece do not apply",
        "hyperparameters": {"chosen": dict(fitted.chosen), "fixed": dict(fitted.fixed)},
        "seconds": {
            "extract": extraction.seconds,
            "extract_how": extraction.how,
            "search": fitted.search_seconds,
            "train": fitted.train_seconds or fit_seconds,
            "infer": seconds["valid"],
            "infer_from_text": seconds["valid"] + share * extraction.seconds,
            "processor": time.process_time(),
        },
        "searched": problem.settled is None and bool(fitted.chosen),
        "peak_mb": peak_mb(),
        "start_mb": start_mb,
        "notes": list(fitted.notes),
        "one_seed": system.one_seed,
        "environment": environment(),
    }
    with atomic_folder(folder / str(seed)) as temporary:
        write_predictions(parts, loaded.task.labels, temporary / "predictions.parquet")
        (temporary / "result.json").write_text(json.dumps(result, indent=1, default=as_json) + "\n", "utf-8")
    shutil.rmtree(problem.folder, ignore_errors=True)


def as_json(value: object) -> object:
    """Convert NumPy numbers to Python numbers."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")


def settled(folder: Path, loaded: Loaded) -> Mapping[str, Any] | None:
    """The hyper-parameters chosen by an earlier seed of this system on the same data."""
    for result in finished(folder, loaded).values():
        chosen = result["hyperparameters"]["chosen"]
        if chosen:
            return dict(chosen)
    return None


def peak_mb() -> float:
    """Peak resident memory of this process, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3 / 1.024)  # bytes on macOS, KiB elsewhere


def environment() -> dict[str, Any]:
    """Environment that times and figures may depend on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": versions,
    }


# --- the cost of extraction ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Extraction:
    """Extraction time of the training and validation features in seconds, and how it was determined."""

    seconds: float
    how: str


NO_EXTRACTION = Extraction(0.0, "reads texts itself")


def extract(task: LoadedTask, encoders: Sequence[EncoderConfig], setup: Setup, work: RunContext) -> Extraction:
    """Extract all missing features; the cost of the training and validation features.

    Measured if this call encoded all of them. Otherwise estimated from a recorded rate: that of an earlier complete
    extraction, or of a sample (`record_rate`). Features of other splits are extracted last and not counted.
    """
    counted = ["train", "valid"]
    unique = len({text for name in counted for text in task.split(name).texts})
    total, how = 0.0, []
    for encoder in encoders:
        report = extract_task(task, counted, [encoder], work)[0]
        place = rate_file(setup, identify(encoder, work.device))
        if report.encoded == report.texts:  # including label names
            keep_rate(place, report, "measured on all texts")
            seconds, source = report.seconds, "measured"
        else:
            recorded = json.loads(place.read_text("utf-8"))
            seconds = recorded["load_seconds"] + unique / recorded["texts_per_second"]
            source = f"from a rate {recorded['how']}"
        total += seconds
        how.append(f"{encoder.name}: {source}")
    extract_task(task, list(task.splits), encoders, work)
    return Extraction(total, "; ".join(how))


def rate_file(setup: Setup, identity: EncoderIdentity) -> Path:
    """File with the rate of an encoder, per task, since the lengths of texts differ."""
    return setup.task_folder() / "rates" / f"{identity.key}.json"


def keep_rate(path: Path, report: ExtractionReport, how: str, load_seconds: float = 0.0) -> None:
    """Record the rate of an encoder; including loading, unless its time is given."""
    rate = report.encoded / max(report.seconds - load_seconds, 1e-9)
    kept = {"encoder": report.encoder, "texts_per_second": rate, "load_seconds": load_seconds, "how": how}
    atomic_write(path, json.dumps(kept, indent=1) + "\n")


def record_rate(spec: str, features: FeatureKind, setup: Setup) -> None:
    """Measure an encoder's rate on a sample of the training texts, for features that are already in the store."""
    texts = load(setup).task.split("train").texts
    chosen = np.random.default_rng(0).permutation(len(texts))[:RATE_TEXTS]
    sample, device = [texts[i] for i in chosen], resolve_device("auto")
    identity = identify(parse_encoders([spec], features=features)[0], device)
    load_transformer(identity, device)  # warms up the disk cache, as during an extraction
    started = time.perf_counter()
    load_transformer(identity, device)
    load_seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        report = extract_features(sample, identity, FeatureStore(folder), device, QUIET)
    keep_rate(rate_file(setup, identity), report, f"measured on {len(set(sample))} of the texts", load_seconds)


# --- the driver --------------------------------------------------------------------------------------------


def finished(folder: Path, loaded: Loaded) -> dict[int, dict[str, Any]]:
    """The results of a system by seed.

    Raises:
        UsageError: A result is from other data or encoders.
    """
    results = {}
    # A killed process may leave a folder with another name: only numbers are seeds.
    places = [path for path in folder.glob("*/result.json") if path.parent.name.isdecimal()]
    for path in sorted(places, key=lambda path: int(path.parent.name)):
        result = json.loads(path.read_text("utf-8"))
        if result["data"] != loaded.identity:
            what = next(key for key in loaded.identity if result["data"].get(key) != loaded.identity[key])
            raise UsageError(
                f"{path.parent}: contains a result of another setup ({what} differs); choose another --out"
            )
        results[int(result["seed"])] = result
    return results


def missing(system: System, setup: Setup, loaded: Loaded, seeds: Sequence[int]) -> list[int]:
    """The seeds to run: those without a result, or whose result lacks a requested split."""
    done = finished(setup.task_folder() / system.name, loaded)
    wanted = seeds[:1] if system.one_seed else seeds
    return [seed for seed in wanted if seed not in done or not set(setup.splits) <= set(done[seed]["metrics"])]


def obstacle(system: System) -> str | None:
    """The reason why a system can't run here, or None."""
    for module in system.needs:
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed (pip install --constraint constraints.txt --group bench)"
    try:
        for encoder in parse_encoders(list(system.encoders)) if system.encoders else ():
            if locate(encoder).gguf_file and not system.features:
                return f"{encoder.name} is a GGUF file, which can't be trained"
    except WeightsError as error:
        return str(error)
    return None


def child(arguments: Sequence[str], log: Path) -> str | None:
    """Run this script with other arguments; the last line of its errors if it fails. All output is written to
    `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        command = [sys.executable, str(Path(__file__).resolve()), *arguments]
        code = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False).returncode
    if code == 0:
        return None
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return f"{lines[-1] if lines else f'exit code {code}'} (all of it: {log})"


def run_all(chosen: Sequence[System], seeds: Sequence[int], setup: Setup) -> list[str]:
    """Run everything unfinished, with a line of progress each; the failures."""
    loaded, failures, device = load(setup), [], resolve_device("auto")
    for folder in setup.task_folder().glob("*"):
        finished(folder, loaded)  # reject results of another setup before hours of work
    for system in chosen:
        folder = setup.task_folder() / system.name
        todo = missing(system, setup, loaded, seeds)
        reason = obstacle(system) if todo else None
        if reason:
            say(f"{system.name}: skipped, {reason}")
            continue
        if not todo:
            say(f"{system.name}: finished before")
        elif system.features:
            rates(system, system.features, setup, loaded.task, device)
        for seed in todo:
            say(f"{system.name}, seed {seed} …")
            started = time.perf_counter()
            arguments = [*setup.arguments(), "--one", system.name, "--seed", str(seed)]
            failure = child(arguments, folder / f"{seed}.log")
            if failure:
                failures.append(f"{system.name}, seed {seed}: {failure}")
                say(f"{system.name}, seed {seed}: FAILED, {failure}")
            else:
                say(f"{system.name}, seed {seed}: {time.perf_counter() - started:.0f} s")
        join_predictions(folder)
    return failures


def rates(system: System, features: FeatureKind, setup: Setup, task: LoadedTask, device: torch.device) -> None:
    """Record the rates of the encoders whose features are in the store, completely or in part."""
    hashes = hash_texts([text for name in ("train", "valid") for text in task.split(name).texts])
    for spec in system.encoders:
        identity = identify(parse_encoders([spec], features=features)[0], device)
        place = rate_file(setup, identity)
        if not place.exists() and FeatureStore(setup.store).of(identity).contains(hashes).any():
            say(f"rate of {slug(spec)}, {features} features …")
            failure = child([*setup.arguments(), "--rate", spec, "--features", features], place.with_suffix(".log"))
            if failure:
                raise FecError(f"rate of {slug(spec)}: {failure}")


def join_predictions(folder: Path) -> None:
    """Write the system's predictions for all seeds, for the splits that every seed has."""
    places = [path for path in folder.glob("*/predictions.parquet") if path.parent.name.isdecimal()]
    tables = [pq.read_table(path, partitioning=None) for path in places]
    if not tables:
        return
    metadata = tables[0].schema.metadata
    common = set.intersection(*(set(table["split"].to_pylist()) for table in tables))
    joined = pa.concat_tables(tables)
    joined = joined.filter(pc.is_in(joined["split"], pa.array(sorted(common))))
    # Validation before test, as in `fec run`.
    order = pa.array([("valid", "test").index(split) for split in joined["split"].to_pylist()])
    joined = joined.append_column("order", order).sort_by([(c, "ascending") for c in ("order", "seed", "row")])
    with atomic_file(folder / "predictions.parquet") as path:
        pq.write_table(joined.drop_columns("order").replace_schema_metadata(metadata), path)


def say(message: str) -> None:
    """Print a line of progress to standard error: standard output is for results."""
    print(message, file=sys.stderr, flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", help="named task, or path of your data")
    parser.add_argument("--data", help="folder with the named task's files")
    parser.add_argument("--systems", help="comma-separated names. Default: all")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, starting at 0")
    parser.add_argument("--encoders", nargs="+", help="with one vector per text, as for fec run --encoder")
    parser.add_argument("--token-encoders", nargs="+", help="for the head fusion. Default: --encoders")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--store", type=Path, help="feature store. Default: in the user's cache")
    parser.add_argument("--splits", choices=["valid", "valid,test"], default="valid")
    parser.add_argument("--test", action="store_true", help="the same as --splits valid,test")
    parser.add_argument("--limit", type=int, help="only the first N rows of each split")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true", help="name the systems")
    parser.add_argument("--table", type=Path, metavar="OUT", help="print the results in OUT as a table")
    parser.add_argument("--json", action="store_true", help="with --table, or after a run: JSON instead of Markdown")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.svg", help="plot of accuracy against time, with --table or after a run"
    )
    for option in ("--one", "--rate", "--features"):
        parser.add_argument(option, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.seeds < 1:
        parser.error("--seeds: give at least 1")
    if given.limit is not None and given.limit < 1:
        parser.error("--limit: give at least 1")
    if given.task is None and given.table is None and not given.list:
        parser.error("give --task, --table or --list")
    given.encoders = given.encoders or list(QUICK_ENCODERS if given.quick else ENCODERS)
    given.token_encoders = given.token_encoders or given.encoders
    if any(encoder.pooling == "tokens" for encoder in parse_encoders(given.encoders)):
        parser.error("--encoders: give those with pooling tokens by --token-encoders")
    return given


def report(out: Path, given: argparse.Namespace) -> None:
    """Print the table, or its JSON, and draw the plot."""
    for folder in out.glob("*/*"):
        join_predictions(folder)  # a killed run may have finished seeds without joining them
    rows = accuracy_report.read(out, MAIN_SYSTEM)
    print(json.dumps([row.figures() for row in rows], indent=1) if given.json else accuracy_report.markdown(rows))
    if given.plot:
        accuracy_report.plot(rows, given.plot)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = parse(arguments)
    systems = systems_of(given.encoders, given.token_encoders)
    if given.list:
        width = max(map(len, systems))
        print("\n".join(f"{name:{width}}  {system.title}" for name, system in systems.items()))
        return 0
    if given.table:
        report(given.table, given)
        return 0
    names = given.systems.split(",") if given.systems else list(QUICK_SYSTEMS if given.quick else systems)
    unknown = [name for name in names if name not in systems]
    if unknown:
        raise UsageError(f"unknown system {unknown[0]!r}; choose from {', '.join(systems)}")
    splits = ("valid", "test") if given.test or given.splits == "valid,test" else ("valid",)
    setup = Setup(
        given.task,
        given.data,
        given.limit,
        given.quick,
        tuple(given.encoders),
        tuple(given.token_encoders),
        splits,
        given.out,
        given.store,
    )
    if given.one:
        run_one(systems[given.one], given.seed, setup)
        return 0
    if given.rate:
        record_rate(given.rate, given.features, setup)
        return 0
    seeds = range(1 if given.quick else given.seeds)
    failures = run_all([systems[name] for name in names], seeds, setup)
    report(given.out, given)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
