"""Writes a classifier in its fastest form, without torch, that loses little accuracy on labelled texts.

    head.onnx            the head with its calibration, and the vectors by which unknown texts are detected
    encoder-0.onnx, …    each encoder with its pooling, in the chosen precision
    tokenizer-0/, …      its tokenizer
    known.safetensors    statistics of the training texts, if the model has them
    config.json          labels, decision, inputs, the encoders' settings, agreement and measurements
    predict.py           classifies texts with these files, without this package
    README.md            how to use it

The graphs are checked with the folder's own predict.py, before the folder is written.
"""

import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from fusion_classifier.classifier.prediction import TextPredictor
from fusion_classifier.config import Precision
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.onnx_export.quantize import quantize_encoder
from fusion_classifier.onnx_export.write import check_folder, readme, write_config, write_graphs
from fusion_classifier.support.extras import require
from fusion_classifier.support.files import atomic_folder
from fusion_classifier.support.progress import Progress
from fusion_classifier.training.decision import Decision

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
CHECKED_TEXTS = 64  # of the demo corpus, on which the float32 graphs must agree with PyTorch
TIMED_TEXTS = 32
TIMED_ROUNDS = 3
MAX_CHANGED = 0.05  # share of answers: on some hundred texts a loss of accuracy can go unseen
ORDINARY = "ordinary"  # the model itself, in addition to the candidates


@dataclass(frozen=True)
class Measured:
    """Measurements of one form of a model on the same texts.

    Attributes:
        precision: Its precision, or `ordinary`: the model itself, by torch.
        bytes: Size of its graphs; None for the model itself.
        ms: Milliseconds per text, one text at a time, the median over texts and rounds.
        accuracy: Accuracy; multi-label: share of texts with exactly the right labels.
        loss: Loss of accuracy relative to the model itself, in points.
        max_probability_difference: Largest difference between a probability and that of the model itself.
        equal_labels: Share of texts with the same answer as that of the model itself.
    """

    precision: str
    bytes: int | None
    ms: float
    accuracy: float
    loss: float
    max_probability_difference: float
    equal_labels: float


@dataclass(frozen=True)
class Optimized:
    """The folder, its files, the content of its `config.json`, and the measurements, the model itself first."""

    folder: Path
    files: tuple[str, ...]
    config: dict[str, Any]
    measured: tuple[Measured, ...] = ()


@dataclass(frozen=True)
class HeldOut:
    """Labelled texts that were not trained on: N texts, and labels (N,), or (N, C) of 0 and 1."""

    texts: Sequence[str]
    targets: np.ndarray


def optimize(
    model: Path,
    out: Path,
    held_out: HeldOut | None,
    *,
    max_loss: float = 0.5,
    precisions: Sequence[Precision] = PRECISIONS,
    check: int = CHECKED_TEXTS,
    encoder_paths: Mapping[str, str] | None = None,
    progress: Progress,
) -> Optimized:
    """Write a classifier in its fastest form.

    Args:
        model: Model folder.
        out: Folder to write.
        held_out: Texts on which each form is measured. None: the head alone is exported, in float32.
        max_loss: Points of accuracy that may be lost. float32 always qualifies: it rounds less than the model itself.
        precisions: Forms to choose from.
        check: Number of texts of the demo corpus on which the float32 graphs must agree with PyTorch.
        encoder_paths: Paths of the encoders' weights, by encoder name.
        progress: Shows the progress.
    """
    require("optimizing a model", "onnx", *PACKAGES)
    check_folder(out)
    classifier = TextPredictor.from_pretrained(model, device="cpu", encoder_paths=encoder_paths or {})
    if not isinstance(classifier, TextPredictor):
        raise UsageError(f"{model} is already optimized; give the model that it was made from")
    measured: tuple[Measured, ...] = ()
    with atomic_folder(out) as folder, progress.bar("optimizing", total=None) as bar:
        described = write_graphs(
            classifier, folder, encoders=held_out is not None, check=check, describe=bar.describe
        )
        if held_out is not None:
            measured = _chosen(classifier, folder, described, held_out, max_loss, precisions, bar.describe)
            write_config(folder, described)
        (folder / "README.md").write_text(readme(described), "utf-8")
        bar.finish()
        files = tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()))
    return Optimized(out, files, described, measured)


def _chosen(
    classifier: TextPredictor,
    folder: Path,
    described: dict[str, Any],
    held_out: HeldOut,
    max_loss: float,
    precisions: Sequence[Precision],
    describe: Callable[[str], None],
) -> tuple[Measured, ...]:
    """Write and measure each form, and keep the best in the folder, with its entries in `described`."""
    from fusion_classifier.classifier.standalone import Classifier  # noqa: PLC0415 - an extra

    scratch = folder / "candidates"
    places: dict[str, Path] = {}
    for precision in precisions:
        describe(f"making {precision}")
        places[precision] = _candidate(folder, scratch / precision, described, precision)
    forms: dict[str, Callable[[Sequence[str]], np.ndarray]] = {ORDINARY: classifier.predict_proba}
    forms |= {precision: Classifier(place).predict_proba for precision, place in places.items()}
    describe("measuring")
    seconds = _seconds(forms, held_out.texts[:TIMED_TEXTS])
    answers = {name: form(held_out.texts) for name, form in forms.items()}
    measured = [
        _measured(
            name, places.get(name), seconds[name], answer, answers[ORDINARY], held_out, classifier.config_.decision
        )
        for name, answer in answers.items()
    ]
    best = _best(measured[1:], max_loss)
    if best.precision != "float32":
        for path in folder.glob("encoder-*.onnx*"):
            path.unlink()
        for path in (scratch / best.precision).glob("encoder-*.onnx*"):
            path.replace(folder / path.name)
    shutil.rmtree(scratch)
    described |= {"precision": best.precision, "candidates": [asdict(form) for form in measured]}
    return tuple(measured)


def _best(measured: Sequence[Measured], max_loss: float) -> Measured:
    """The fastest form within the limits."""
    good = [form for form in measured if form.precision == "float32" or _is_close(form, max_loss)]
    if good:
        return min(good, key=lambda form: form.ms)
    losses = "; ".join(
        f"{form.precision} loses {form.loss:.2f} points and changes "
        f"{100 * (1 - form.equal_labels):.1f}% of the answers"
        for form in measured
    )
    raise FecError(
        f"no precision loses at most {max_loss:g} points of accuracy (`max_loss`) and changes at most "
        f"{100 * MAX_CHANGED:g}% of the answers: {losses}; nothing was written; allow more precisions"
    )


def _is_close(form: Measured, max_loss: float) -> bool:
    return form.loss <= max_loss and round(1 - form.equal_labels, 6) <= MAX_CHANGED  # 1 - 0.95 is above 0.05


def _candidate(folder: Path, place: Path, described: Mapping[str, Any], precision: Precision) -> Path:
    """A folder with the encoders in a precision; files that all precisions share are linked."""
    place.mkdir(parents=True)
    quantized = {one["onnx"] for one in described["encoders"]} if precision != "float32" else set()
    for path in folder.iterdir():
        if path.name in quantized:
            quantize_encoder(path, place / path.name, precision)
        elif path.is_dir() and path.name != place.parent.name:
            shutil.copytree(path, place / path.name)  # a tokenizer
        elif path.is_file() and path.name.removesuffix(".data") not in quantized:
            (place / path.name).hardlink_to(path)  # Windows lets only administrators make symbolic links
    (place / "config.json").unlink()
    write_config(place, {**described, "precision": precision})
    return place


def _seconds(forms: Mapping[str, Callable[[Sequence[str]], np.ndarray]], texts: Sequence[str]) -> dict[str, float]:
    """Seconds per text of each form, one text at a time; the forms alternate, so load affects all equally."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(TIMED_ROUNDS + 1):  # the first warms up
        for text in texts:
            for name, form in forms.items():
                started = time.perf_counter()
                form([text])
                if turn:
                    seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _measured(
    name: str,
    place: Path | None,
    seconds: float,
    probabilities: np.ndarray,
    ordinary: np.ndarray,
    held_out: HeldOut,
    decision: Decision,
) -> Measured:
    def right(predicted: np.ndarray, labels: np.ndarray) -> float:
        same = decision.labels(predicted) == labels
        return float((same if same.ndim == 1 else same.all(1)).mean())

    size = None if place is None else sum(path.stat().st_size for path in place.glob("*.onnx*"))
    return Measured(
        precision=name,
        bytes=size,
        ms=1000 * seconds,
        accuracy=right(probabilities, held_out.targets),
        loss=100 * (right(ordinary, held_out.targets) - right(probabilities, held_out.targets)),
        max_probability_difference=float(np.abs(probabilities - ordinary).max()),
        equal_labels=right(probabilities, decision.labels(ordinary)),
    )
