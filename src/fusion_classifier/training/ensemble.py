"""Trains the head `ensemble`: its members, and their weights, fitted on out-of-sample predictions.

    few texts    five folds: each member predicts the texts of a fold after training on the other four; then every
                 member is trained on all texts. With upper layers and more than 500 texts, only as many folds are
                 predicted as have 500 texts. With tens of texts the weights stay near the prior.
    many texts   members are trained once and evaluated on the validation split, used for no other choice.

Members with attention are trained to the end of their schedule: no epoch is chosen.
"""

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from fusion_classifier.config import TrainingConfig
from fusion_classifier.fusion.ensemble import EnsembleHead
from fusion_classifier.fusion.folds import ALWAYS, FOLDS, fold_numbers
from fusion_classifier.fusion.fusion import FusionHead
from fusion_classifier.fusion.head import OutOfFold
from fusion_classifier.fusion.linear import LinearHead
from fusion_classifier.support.progress import Progress
from fusion_classifier.training.calibration import fit_decision, fit_weights
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.decision import Decision, Member
from fusion_classifier.training.inference import predict_each, solved_features
from fusion_classifier.training.loop import epochs_of, fit_to_end
from fusion_classifier.training.result import TrainingResult
from fusion_classifier.training.scores import scores
from fusion_classifier.training.upper_layers import UpperTraining, tokens_per_text
from fusion_classifier.training.validate import epoch_of, validate

MIN_VALIDATION = 1000  # validation texts that replace the folds
MIN_OUT_OF_FOLD = 500  # out-of-fold texts that are enough for weights and temperature (docs/decisions.md)


def fit_ensemble(
    head: EnsembleHead,
    config: TrainingConfig,
    train_data: LabelledFeatures,
    valid_data: LabelledFeatures | None,
    seed: int,
    device: torch.device,
    progress: Progress,
    upper_layers: Mapping[str, Tensor] | None = None,
    *,
    every_text: bool = False,
) -> TrainingResult:
    """Train all members and fit their weights; arguments and errors as in `train`."""
    started = time.perf_counter()
    small = train_data.n_texts <= head.config.cross_validated_rows
    by_folds = small and (valid_data is None or len(valid_data) < MIN_VALIDATION)
    linear, with_names, folds = _fit_linear(head, train_data, seed, device, by_folds=by_folds)
    # Upper layers take most of the time. Offsets of rare labels (macro F1) need every text; weights do not.
    if by_folds and head.upper is not None and config.metric != "macro_f1" and not every_text:
        folds = _enough(folds)
    scales = torch.ones(len(head.members))  # the penalty makes the logits of linear members small
    scales[: len(linear)] = torch.tensor([member.scale for member in head.linear.values()])
    learned = train_data if with_names else train_data.texts
    splits = _splits_of(folds[: len(learned)])
    total = sum(epochs_of(config, size) * size for size in _sizes(learned, splits, len(head.attention)))
    with progress.bar(f"training seed {seed}", total=total) as bar:
        out_of_fold = [linear]
        if by_folds:
            out_of_fold.append(_out_of_fold(head, config, learned, splits, seed, device, bar.advance))
        for number, member in enumerate(head.attention):
            assert isinstance(member, FusionHead)
            loss = fit_to_end(member, config, learned, len(head.attention) * seed + number, device, bar.advance)
        bar.finish()
    if head.upper is not None:
        tokens = tokens_per_text(train_data, head.upper.encoder)
        start = UpperTraining(upper_layers or {}, config.precision, seed, device, tokens)
        splits = _splits_of(folds)  # of all rows: label names are always trained on
        total = sum(start.texts_trained(size) for size in _sizes(train_data, splits))
        with progress.bar(f"training seed {seed}, upper layers", total=total) as bar:
            if by_folds:
                out_of_fold.append(start.out_of_fold(head.upper, train_data, splits, bar.advance))
            start.fit(head.upper, train_data, bar.advance)
            bar.finish()
    if by_folds:
        held = np.flatnonzero(folds != ALWAYS)
        held_out = train_data.texts.take(held)
        parts = torch.cat(out_of_fold)[:, torch.from_numpy(held)]
    else:
        assert valid_data is not None
        held_out = valid_data
        parts = predict_each(head, head.parts, held_out.features, len(held_out), device)
    parts = scales[:, None, None] * parts
    mixture = fit_weights(parts, held_out.labels, head.prior(train_data.n_texts), held_out.weights)
    head.mixture.copy_(mixture * scales)
    mixed = torch.einsum("p,pnc->nc", mixture, parts)
    if valid_data is None:
        epoch = epoch_of(mixed, held_out, 1, loss, started)
    else:
        epoch = validate(head, valid_data, 1, loss, started, device)
    members = tuple(
        _member(name, float(weight), logits, held_out)
        for name, weight, logits in zip(head.members, mixture, parts, strict=True)
    )
    kept = OutOfFold(held, mixed) if by_folds else None
    return TrainingResult(head, Decision(), seed, 1, (epoch,), members=members, out_of_fold=kept)


def _fit_linear(
    head: EnsembleHead, data: LabelledFeatures, seed: int, device: torch.device, *, by_folds: bool
) -> tuple[Tensor, bool, np.ndarray]:
    """Fit the linear members: out-of-fold logits (P, n, C), whether label names improve the fit, and with `by_folds`
    the folds."""
    logits: list[Tensor] = []
    widest = head.linear["all"]
    assert isinstance(widest, LinearHead)
    of_all = solved_features(widest, data, device)  # once for all members: it reads the states of every token
    for member in head.linear.values():
        assert isinstance(member, LinearHead)
        x = of_all.take(head.columns_of(member), axis=1)
        logits.append(member.cpu().solve(x, data.labels, data.weights, seed, data.n_label_names, data.groups).logits)
        member.to(device)
    # Any folds will do if each member predicts texts that it was not trained on; equal texts must share a fold.
    folds = fold_numbers(of_all, data.labels, seed, data.n_label_names, data.groups) if by_folds else np.empty(0)
    return torch.stack(logits), widest.with_names, folds


def _enough(folds: np.ndarray) -> np.ndarray:
    """The folds (N,), where only the first ones, with at least `MIN_OUT_OF_FOLD` texts together, are held out."""
    sizes = np.bincount(folds[folds != ALWAYS], minlength=FOLDS)
    needed = 1 + int(np.searchsorted(sizes.cumsum(), MIN_OUT_OF_FOLD))
    return np.where(folds < needed, folds, ALWAYS)


def _splits_of(folds: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Held-out rows and training rows of each fold that has both (few distinct texts fill fewer folds)."""
    splits = [(np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)) for fold in range(FOLDS)]
    return [(held, others) for held, others in splits if len(held) and len(others)]


def _sizes(data: LabelledFeatures, splits: list[tuple[np.ndarray, np.ndarray]], repeats: int = 1) -> list[int]:
    """Number of texts in each training: on all, and on all but one fold."""
    return [len(data)] * repeats + [len(others) for _, others in splits]


def _out_of_fold(
    head: EnsembleHead,
    config: TrainingConfig,
    data: LabelledFeatures,
    splits: list[tuple[np.ndarray, np.ndarray]],
    seed: int,
    device: torch.device,
    advance: Callable[[int], None],
) -> Tensor:
    """Logits of the attention members for each text, from a head trained without its fold: (E, N, C)."""
    result = torch.zeros(head.sizes[1], data.n_texts, head.n_classes)
    for held, others in splits:
        member = FusionHead(head.config.attention, data.shapes, head.n_classes).to(device)
        fit_to_end(member, config, data.take(others), seed, device, advance)
        logits = predict_each(member, member.parts, data.take(held).features, len(held), device)  # (E, n, C)
        result[:, torch.from_numpy(held)] = logits
    return result


def _member(name: str, weight: float, logits: Tensor, held_out: LabelledFeatures) -> Member:
    decision = fit_decision(logits, held_out.labels, calibrate=False, weights=held_out.weights)
    answers = decision.labels(decision.probabilities(logits))
    reached = scores(held_out.labels, answers, held_out.weights)
    return Member(name=name, weight=weight, accuracy=reached.accuracy, weighted_f1=reached.weighted_f1)
