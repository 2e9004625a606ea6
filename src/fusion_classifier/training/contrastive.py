"""Fine-tunes an encoder on few rows: texts of the same label move closer together, others move apart (pairs.py)."""

import math
import time
from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from fusion_classifier.encoders.batches import TOKEN_BUDGET, batches, padded
from fusion_classifier.encoders.loading import TransformerEncoder
from fusion_classifier.encoders.pooling import pooled
from fusion_classifier.encoders.tokenization import TokenizedText
from fusion_classifier.errors import DataError, NonFiniteError
from fusion_classifier.fusion.folds import fold_numbers
from fusion_classifier.support.progress import Progress
from fusion_classifier.tasks.label_names import name_as_text
from fusion_classifier.training.finetuned import Finetuned, Pass, memory_explained, parameter_counts
from fusion_classifier.training.loop import deterministic
from fusion_classifier.training.pairs import train_on_pairs
from fusion_classifier.training.tune_config import TuneConfig

RATE = 2e-4
HEAD_C = 10.0  # inverse strength of the head's L2 penalty
ABSENT = -100.0  # logit of a label that no training text has


def tune_contrastively(
    encoder: TransformerEncoder,
    config: TuneConfig,
    precision: torch.dtype,
    texts: Sequence[TokenizedText],
    labels: np.ndarray,
    n_labels: int,
    progress: Progress,
    title: str = "tuning",
) -> Finetuned:
    """Train all weights but the token embeddings, then fit logistic regression on the unit vectors.

    Nothing is held out: the number of steps is fixed, and the last weights are kept. No dropout. With the same seed
    on the same machine, the weights are bit-identical.

    Args:
        encoder: Loaded plain and in float32; its model is modified.
        config: Epochs, batch size, learning rate, warm-up, weight decay and seed.
        precision: Precision of the computation.
        texts: Training texts, N of them.
        labels: Label numbers (N,).
        n_labels: Number of labels of the task.
        progress: Progress bars.
        title: Text before the encoder's name in the bar. Default: tuning.
    """
    if not has_pairs(labels):
        raise DataError("contrastive tuning needs at least two labels, one of them with two texts or more")
    with memory_explained(encoder), deterministic(config.seed):
        history = _train(encoder, config, precision, texts, labels, progress, f"{title} {encoder.config.name}")
        head = _logistic_regression(_unit_vectors(encoder, texts, precision), labels, n_labels)
    parameters = parameter_counts(encoder.model)
    return Finetuned(encoder.model, head, history, len(history), rate(config), parameters)


def has_pairs(labels: np.ndarray) -> bool:
    """Whether there are texts of two labels, and a label with two texts."""
    counts = np.bincount(labels)
    return bool(np.count_nonzero(counts) >= 2 and counts.max() >= 2)


def out_of_fold(
    encoder: TransformerEncoder,
    config: TuneConfig,
    precision: torch.dtype,
    texts: Sequence[TokenizedText],
    labels: np.ndarray,
    n_labels: int,
    groups: np.ndarray,
    n_label_names: int,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Out-of-fold logits of tuned encoders, and of logistic regression on the frozen encoder.

    For each of five folds, the encoder is tuned on the other four, starting from its original weights, which are
    restored at the end. Equal texts are in the same fold. Other arguments as in `tune_contrastively`.

    Args:
        groups: Numbers that are the same for equal texts (N,) (`text_groups`).
        n_label_names: Number of label names at the end of `texts`: always trained on, never evaluated.

    Returns:
        Two arrays (N, C), float32: the tuned encoders' logits, and those of logistic regression on the frozen vectors
        with the same folds and penalty. None if some training folds have no pairs to learn from.
    """
    original = {name: tensor.detach().clone() for name, tensor in encoder.model.state_dict().items()}
    frozen = _unit_vectors(encoder, texts, precision)
    # Texts may have the same tokens, such as those that differ after `max_length`; padding changes their vectors.
    numbered: dict[tuple[int, ...], int] = {}
    alike = np.array([[numbered.setdefault(text.ids, len(numbered))] for text in texts])
    folds = fold_numbers(alike, labels, config.seed, n_label_names, groups)
    numbers = [int(fold) for fold in np.unique(folds[folds >= 0])]
    if not all(has_pairs(labels[folds != fold]) for fold in numbers):
        return None
    tuned, plain = (np.zeros((len(texts) - n_label_names, n_labels), dtype=np.float32) for _ in range(2))
    for fold in numbers:
        held, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        trained = [texts[int(i)] for i in others]
        title = f"cross-validating, {fold + 1} of {len(numbers)}: tuning"
        finetuned = tune_contrastively(encoder, config, precision, trained, labels[others], n_labels, progress, title)
        tuned[held] = _logits(finetuned.head, _unit_vectors(encoder, [texts[int(i)] for i in held], precision))
        plain[held] = _logits(_logistic_regression(frozen[others], labels[others], n_labels), frozen[held])
        encoder.model.load_state_dict(original)
    return tuned, plain


def with_label_names(
    texts: Sequence[str], labels: np.ndarray, names: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Texts and labels, with the name of each label that is a word as an additional text."""
    named = {number: text for number, name in enumerate(names) if (text := name_as_text(name))}
    return (*texts, *named.values()), np.concatenate([labels, np.array(list(named), dtype=labels.dtype)])


def rate(config: TuneConfig) -> float:
    """The highest learning rate."""
    return RATE if config.learning_rate is None else config.learning_rate


def _train(
    encoder: TransformerEncoder,
    config: TuneConfig,
    precision: torch.dtype,
    texts: Sequence[TokenizedText],
    labels: np.ndarray,
    progress: Progress,
    title: str,
) -> tuple[Pass, ...]:
    model = encoder.model
    model.eval()  # without dropout
    model.requires_grad_(True)
    # Half of a small model's parameters, of which few rows use few.
    model.get_input_embeddings().requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    steps_a_pass = math.ceil(len(labels) / config.batch_size)
    steps = train_on_pairs(
        lambda rows: _vectors(encoder, [texts[i] for i in rows]),
        trained,
        labels,
        steps=steps_a_pass * config.epochs,
        batch_size=config.batch_size,
        learning_rate=rate(config),
        weight_decay=config.weight_decay,
        warmup=config.warmup,
        seed=config.seed,
        bfloat16=precision == torch.bfloat16,
    )
    history: list[Pass] = []
    with progress.bar(title, total=steps_a_pass * config.epochs) as bar:
        for epoch in range(1, config.epochs + 1):
            started, losses = time.perf_counter(), []
            for _, loss in islice(steps, steps_a_pass):
                if not math.isfinite(loss):
                    raise NonFiniteError(
                        f"training diverged (loss {loss}); use a lower `learning_rate`, or `dtype` float32"
                    )
                losses.append(loss)
                bar.advance()
            history.append(Pass(epoch, float(np.mean(losses)), time.perf_counter() - started))
            bar.describe(f"{title} · epoch {epoch} · loss {history[-1].train_loss:.3f}")
    return tuple(history)


def _vectors(encoder: TransformerEncoder, texts: Sequence[TokenizedText]) -> Tensor:
    """Pooled vectors (B, F) of a batch, computed in parts of similar length to reduce padding."""
    parts = batches(texts, TOKEN_BUDGET[encoder.device.type])
    vectors = []
    for part in parts:
        ids, attention, counted, lengths = (
            tensor.to(encoder.device) for tensor in padded(encoder, [texts[i] for i in part])
        )
        states = encoder.model(input_ids=ids, attention_mask=attention.long()).last_hidden_state
        vectors.append(pooled(states[:, :, None], counted, lengths, encoder.config.poolings).flatten(1))
    order = np.argsort(np.concatenate(parts))
    return torch.cat(vectors)[torch.from_numpy(order).to(encoder.device)]


@torch.no_grad()
def _unit_vectors(encoder: TransformerEncoder, texts: Sequence[TokenizedText], precision: torch.dtype) -> np.ndarray:
    with torch.autocast(encoder.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        vectors = _vectors(encoder, texts)
    each = vectors.float().reshape(len(vectors), len(encoder.config.poolings), -1)  # (N, poolings, H)
    unit_vectors: np.ndarray = nn.functional.normalize(each, dim=-1).flatten(1).cpu().numpy()
    return unit_vectors


@torch.no_grad()
def _logits(head: nn.Linear, vectors: np.ndarray) -> np.ndarray:
    logits: np.ndarray = head(torch.from_numpy(vectors)).numpy()
    return logits


def _logistic_regression(vectors: np.ndarray, labels: np.ndarray, n_labels: int) -> nn.Linear:
    """Logistic regression as a linear layer with one output per label of the task."""
    model = LogisticRegression(C=HEAD_C, max_iter=1000).fit(vectors, labels)
    weight, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # one column for two labels: half of it, and its negation
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    head = nn.Linear(vectors.shape[1], n_labels)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(ABSENT)
        head.weight[model.classes_] = torch.from_numpy(weight).float()
        head.bias[model.classes_] = torch.from_numpy(bias).float()
    return head
