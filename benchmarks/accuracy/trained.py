"""Systems that train the encoder, as functions of texts and labels: SetFit and full fine-tuning.

Nothing here imports the package, so it needs only torch, transformers and the peers' libraries.
"""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.special import softmax
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

Predict = Callable[[Sequence[str]], np.ndarray]

SETFIT_BATCH = 16
SETFIT_RATE = 2e-5
PREDICTED_BATCH = 64


@dataclass(frozen=True)
class SetFitPlan:
    """Sampling strategy for pairs and number of steps (of 16 pairs); -1 is the library's default.

    The default uses every pair of training texts, with the rarer kind (equal or different labels) repeated to balance
    both.
    """

    max_steps: int = -1
    bfloat16: bool = False


def setfit_default_steps(labels: np.ndarray) -> int:
    """Number of steps by the library's default: every pair once, including a text with itself, both kinds equally
    often."""
    counts = np.bincount(labels)
    same = int((counts * (counts + 1) // 2).sum())
    pairs = len(labels) * (len(labels) + 1) // 2
    return math.ceil(2 * max(same, pairs - same) / SETFIT_BATCH)


def train_setfit(
    folder: Path,
    texts: Sequence[str],
    labels: np.ndarray,
    n_classes: int,
    plan: SetFitPlan,
    seed: int,
    *,
    pair_rows: np.ndarray | None = None,
) -> Predict:
    """SetFit 1.2 with its defaults: cosine similarity loss on pairs, learning rate 2e-5, then logistic regression.

    Args:
        folder: the sentence encoder.
        texts: training texts, N of them.
        labels: their labels, (N,), integers below `n_classes`.
        n_classes: columns of the probabilities.
        plan: how many steps.
        seed: Seed for the order of pairs and for dropout.
        pair_rows: Rows from which pairs are formed. Default: all.

    Returns:
        Function from texts to probabilities (N, n_classes).
    """
    from setfit import SetFitModel  # noqa: PLC0415 - may not be installed
    from setfit import Trainer as SetFitTrainer  # noqa: PLC0415
    from setfit import TrainingArguments as SetFitArguments  # noqa: PLC0415

    rows = np.arange(len(texts)) if pair_rows is None else pair_rows
    set_seed(seed)
    model = SetFitModel.from_pretrained(str(folder), local_files_only=True)
    with tempfile.TemporaryDirectory() as checkpoints:
        arguments = SetFitArguments(
            output_dir=checkpoints,
            batch_size=SETFIT_BATCH,
            num_epochs=1,
            max_steps=plan.max_steps,
            body_learning_rate=SETFIT_RATE,
            seed=seed,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            show_progress_bar=False,
        )
        trainer = SetFitTrainer(model=model, args=arguments)
        trainer.st_trainer.remove_callback(ProgressCallback)
        # Without autocast's cache: a context around many steps would keep using the weights of the first.
        kind = "cuda" if torch.cuda.is_available() else "cpu"
        with torch.autocast(kind, torch.bfloat16, enabled=plan.bfloat16, cache_enabled=False):
            trainer.train_embeddings([texts[int(i)] for i in rows], labels[rows].tolist(), args=arguments)
        trainer.train_classifier(list(texts), labels.tolist(), args=arguments)

    def predict(of: Sequence[str]) -> np.ndarray:
        found = model.predict_proba(list(of), batch_size=PREDICTED_BATCH, as_numpy=True, show_progress_bar=False)
        every = np.zeros((len(of), n_classes))
        every[:, model.model_head.classes_] = np.asarray(found, dtype=np.float64)
        return every

    return predict


class MeanPooledClassifier(nn.Module):
    """A transformer, mean pooling (as these encoders were trained), dropout, one linear layer."""

    def __init__(self, encoder: nn.Module, width: int, n_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(0.1)
        self.linear = nn.Linear(width, n_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Logits (B, C) and, with labels, the mean cross-entropy."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (B, L, H)
        mask = attention_mask[:, :, None].to(states.dtype)
        logits = self.linear(self.dropout((states * mask).sum(1) / mask.sum(1))).float()
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


@dataclass(frozen=True)
class FineTuningPlan:
    """Hyper-parameters of fine-tuning, with linear decay of the learning rate over `epochs`."""

    learning_rate: float
    epochs: int
    batch_size: int = 32
    max_length: int = 128
    warmup: float = 0.06
    weight_decay: float = 0.01
    bfloat16: bool = False
    use_cpu: bool = False


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned encoder. `best_epoch` is the last one without validation texts."""

    trainer: Trainer
    tokenizer: Any
    plan: FineTuningPlan
    best_epoch: float

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities (N, C)."""
        return _softmax_of(self.trainer, _rows(self.tokenizer, self.plan, texts, None))


def train_finetuned(
    folder: Path,
    texts: Sequence[str],
    labels: np.ndarray,
    n_classes: int,
    plan: FineTuningPlan,
    seed: int,
    *,
    valid: tuple[Sequence[str], np.ndarray] | None = None,
    metrics: Callable[[np.ndarray, np.ndarray], float] | None = None,
) -> FineTuned:
    """Fine-tune all weights of an encoder and a linear layer with transformers' Trainer.

    Batches of similar length with padding to the longest of the batch.
    https://huggingface.co/docs/transformers/tasks/sequence_classification

    Args:
        folder: the encoder.
        texts: training texts, N of them.
        labels: their labels, (N,), integers below `n_classes`.
        n_classes: columns of the probabilities.
        plan: hyper-parameters.
        seed: Seed for the new layer, the order of batches and dropout.
        valid: Texts and labels for choosing the epoch. Default: keep the last epoch.
        metrics: Function from labels and logits to the score for that choice; required with `valid`.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    train = _rows(tokenizer, plan, texts, labels)
    evaluated = None if valid is None else _rows(tokenizer, plan, valid[0], valid[1])
    set_seed(seed)
    body = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    model = MeanPooledClassifier(body, body.config.hidden_size, n_classes)
    best = {"load_best_model_at_end": True, "metric_for_best_model": "score", "greater_is_better": True}
    with tempfile.TemporaryDirectory() as checkpoints:
        arguments = TrainingArguments(
            output_dir=checkpoints,
            learning_rate=plan.learning_rate,
            num_train_epochs=plan.epochs,
            per_device_train_batch_size=plan.batch_size,
            per_device_eval_batch_size=PREDICTED_BATCH,
            warmup_steps=plan.warmup,  # values below 1 are a share of all steps
            weight_decay=plan.weight_decay,
            lr_scheduler_type="linear",
            train_sampling_strategy="group_by_length",
            bf16=plan.bfloat16,
            use_cpu=plan.use_cpu,
            eval_strategy="no" if valid is None else "epoch",
            save_strategy="no" if valid is None else "epoch",
            save_only_model=True,
            save_total_limit=1,
            logging_strategy="no",
            disable_tqdm=True,
            report_to="none",
            seed=seed,
            label_names=["labels"],
            **({} if valid is None else best),
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=train,
            eval_dataset=evaluated,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=None if metrics is None else _scored_by(metrics),
        )
        trainer.train()
    scores = [line for line in trainer.state.log_history if "eval_score" in line]
    best_epoch = max(scores, key=lambda line: float(line["eval_score"]))["epoch"] if scores else plan.epochs
    return FineTuned(trainer, tokenizer, plan, float(best_epoch))


def _scored_by(metrics: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[EvalPrediction], dict[str, float]]:
    return lambda found: {"score": metrics(np.asarray(found.label_ids), np.asarray(found.predictions))}


def _rows(tokenizer: Any, plan: FineTuningPlan, texts: Sequence[str], labels: np.ndarray | None) -> Dataset:
    encoded: Mapping[str, Any] = tokenizer(list(texts), truncation=True, max_length=plan.max_length)
    columns: dict[str, Any] = {key: encoded[key] for key in ("input_ids", "attention_mask")}
    columns["length"] = [len(ids) for ids in encoded["input_ids"]]
    return Dataset.from_dict(columns | ({} if labels is None else {"labels": labels.tolist()}))


@torch.inference_mode()
def _softmax_of(trainer: Trainer, rows: Dataset) -> np.ndarray:
    """Probabilities in row order; predicted in order of length to reduce padding.

    Not `Trainer.predict`: with batches by length, it returns them in batch order.
    """
    model = trainer.model
    assert model is not None
    model.eval()
    columns = rows.select_columns(["input_ids", "attention_mask"])
    order = np.argsort(-np.asarray(rows["length"]), kind="stable")
    parts = []
    for start in range(0, len(order), PREDICTED_BATCH):
        batch = trainer.data_collator([columns[int(i)] for i in order[start : start + PREDICTED_BATCH]])
        with torch.autocast(trainer.args.device.type, torch.bfloat16, enabled=trainer.args.bf16):
            parts.append(model(**{k: v.to(trainer.args.device) for k, v in batch.items()})["logits"].float().cpu())
    logits = torch.cat(parts).double().numpy()
    probabilities = np.empty_like(logits)
    probabilities[order] = softmax(logits, axis=1)
    return probabilities
