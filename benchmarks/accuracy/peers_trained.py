"""Peers that train the encoder itself: SetFit, and full fine-tuning with transformers' Trainer.

Apart from `peers.py` because their libraries take seconds to import, which the other systems need not wait for.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peers import Fitted, Predict, Problem, search, spread, weighted_f1
from scipy.special import softmax
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    set_seed,
)

from fusion_classifier.encoders.device import resolve_dtype
from fusion_classifier.encoders.weights import locate

SETFIT_PAIR_TEXTS = 8000
SETFIT_BATCH = 16
PREDICTED_BATCH = 64


def setfit(problem: Problem) -> Fitted:
    """SetFit: a sentence encoder tuned on pairs of texts of the same or another label, then logistic regression.

    Defaults of the library (batch 16, rate 2e-5, cosine similarity loss, one epoch, logistic regression), with the
    number of steps chosen on validation. SetFit is made for a few examples a label: all pairs of 20,000 texts would
    not fit into memory, and its maintainer's advice for large data is a small `max_steps`
    (https://github.com/huggingface/setfit/issues/472). Pairs, half of the same label, are drawn from 8,000
    training texts at most; the logistic regression is fitted on all of them.
    https://huggingface.co/docs/setfit/reference/trainer
    https://huggingface.co/docs/setfit/conceptual_guides/sampling_strategies
    """
    from setfit import SetFitModel  # noqa: PLC0415 - may not be installed
    from setfit import Trainer as SetFitTrainer  # noqa: PLC0415
    from setfit import TrainingArguments as SetFitArguments  # noqa: PLC0415

    (encoder,) = problem.encoders
    folder = locate(encoder).folder
    texts, labels = list(problem.texts("train")), problem.labels("train")
    rows = np.random.default_rng(problem.seed).permutation(len(texts))[:SETFIT_PAIR_TEXTS]

    def probabilities(model: Any, of: Sequence[str]) -> np.ndarray:
        found = np.asarray(model.predict_proba(list(of), as_numpy=True, show_progress_bar=False), dtype=np.float64)
        return spread(found, model.model_head.classes_, problem.n_classes)

    def fit(setting: Mapping[str, Any]) -> tuple[Any, np.ndarray]:
        set_seed(problem.seed)
        model = SetFitModel.from_pretrained(str(folder), local_files_only=True)
        with tempfile.TemporaryDirectory() as checkpoints:
            arguments = SetFitArguments(
                output_dir=checkpoints,
                batch_size=SETFIT_BATCH,
                num_epochs=1,
                max_steps=setting["max_steps"],
                body_learning_rate=2e-5,
                seed=problem.seed,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                show_progress_bar=False,
            )
            trainer = SetFitTrainer(model=model, args=arguments)
            # Without its cache: a context around many steps would go on using the weights of the first.
            with torch.autocast("cpu", torch.bfloat16, enabled=_bfloat16(problem), cache_enabled=False):
                trainer.train_embeddings([texts[i] for i in rows], labels[rows].tolist(), args=arguments)
            trainer.train_classifier(texts, labels.tolist(), args=arguments)
        return model, probabilities(model, problem.texts("valid"))

    grid = [{"max_steps": steps} for steps in ((50,) if problem.quick else (500, 1500))]
    best, others = search(problem, grid, fit)
    pairs = SETFIT_BATCH * best.setting["max_steps"]
    fixed = {
        "model": encoder.name,
        "batch_size": SETFIT_BATCH,
        "learning_rate": 2e-5,
        "pairs": pairs,
        "texts_of_pairs": len(rows),
        "bfloat16": _bfloat16(problem),
    }
    note = f"cost bounded: {pairs:,} pairs ({best.setting['max_steps']:,} steps) from {len(rows):,} texts; one seed"
    predict: Predict = lambda of: probabilities(best.state, of)  # noqa: E731
    return Fitted(predict, best.setting, fixed, others, best.seconds, notes=(note,))


def _bfloat16(problem: Problem) -> bool:
    return resolve_dtype("auto", problem.work.device) == "bfloat16"


class MeanPooledClassifier(nn.Module):
    """A transformer, the mean over its tokens' states (as these encoders were trained), dropout, one linear layer."""

    def __init__(self, encoder: nn.Module, width: int, n_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(0.1)
        self.linear = nn.Linear(width, n_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Logits (B, C), and with labels the mean cross-entropy."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (B, L, H)
        mask = attention_mask[:, :, None].to(states.dtype)
        logits = self.linear(self.dropout((states * mask).sum(1) / mask.sum(1))).float()
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


@dataclass(frozen=True)
class FineTuning:
    """What fine-tuning of one model tries: every learning rate with linear decay over so many epochs."""

    learning_rates: tuple[float, ...]
    epochs: int
    batch_size: int = 32
    max_length: int = 128
    warmup: float = 0.06
    weight_decay: float = 0.01


# Around what the BERT paper says (2e-5 to 5e-5, 2 to 4 epochs, https://arxiv.org/abs/1810.04805, A.3), higher for the
# six-layer model, which needs it (GoEmotions validation: 2e-4 ended a point of weighted F1 lower). The best epoch is
# kept, so `epochs` is an upper bound. An epoch of MPNet takes half an hour on a core: one rate and two epochs.
FINE_TUNING = {
    "minilm-l6": FineTuning((1e-4,), epochs=4),
    "mpnet-base": FineTuning((5e-5,), epochs=2),
}


def finetune(problem: Problem) -> Fitted:
    """All weights of one encoder and a linear layer trained with transformers' Trainer; rate and epoch on validation.

    Batches of similar length with padding to the longest of the batch, bfloat16 where the processor has it.
    https://huggingface.co/docs/transformers/tasks/sequence_classification
    """
    (encoder,) = problem.encoders
    plan = FINE_TUNING.get(encoder.model, FINE_TUNING["mpnet-base"])
    folder = locate(encoder).folder
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def rows(texts: Sequence[str], labels: np.ndarray | None) -> Dataset:
        encoded = tokenizer(list(texts), truncation=True, max_length=plan.max_length)
        columns: dict[str, Any] = {key: encoded[key] for key in ("input_ids", "attention_mask")}
        columns["length"] = [len(ids) for ids in encoded["input_ids"]]
        return Dataset.from_dict(columns | ({} if labels is None else {"labels": labels.tolist()}))

    started = time.perf_counter()
    train = rows(problem.texts("train"), problem.labels("train"))
    valid = rows(problem.texts("valid"), problem.labels("valid"))
    prepared = time.perf_counter() - started
    epochs = 1 if problem.quick else plan.epochs

    def fit(setting: Mapping[str, Any]) -> tuple[tuple[Trainer, float], np.ndarray]:
        set_seed(problem.seed)
        body = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        model = MeanPooledClassifier(body, body.config.hidden_size, problem.n_classes)
        with tempfile.TemporaryDirectory() as checkpoints:
            arguments = TrainingArguments(
                output_dir=checkpoints,
                learning_rate=setting["learning_rate"],
                num_train_epochs=epochs,
                per_device_train_batch_size=plan.batch_size,
                per_device_eval_batch_size=64,
                warmup_steps=plan.warmup,  # below 1: a share of all steps
                weight_decay=plan.weight_decay,
                lr_scheduler_type="linear",
                train_sampling_strategy="group_by_length",
                bf16=_bfloat16(problem),
                use_cpu=problem.work.device.type == "cpu",
                eval_strategy="epoch",
                save_strategy="epoch",
                save_only_model=True,
                save_total_limit=1,
                load_best_model_at_end=True,
                metric_for_best_model="weighted_f1",
                greater_is_better=True,
                logging_strategy="no",
                disable_tqdm=True,
                report_to="none",
                seed=problem.seed,
                label_names=["labels"],
            )
            trainer = Trainer(
                model=model,
                args=arguments,
                train_dataset=train,
                eval_dataset=valid,
                data_collator=DataCollatorWithPadding(tokenizer),
                compute_metrics=_weighted_f1_of,
            )
            trainer.train()
        scores = [line for line in trainer.state.log_history if "eval_weighted_f1" in line]
        best_epoch = max(scores, key=lambda line: float(line["eval_weighted_f1"]))["epoch"]
        return (trainer, float(best_epoch)), _softmax_of(trainer, valid)

    best, others = search(problem, [{"learning_rate": rate} for rate in plan.learning_rates], fit)
    trainer, best_epoch = best.state
    fixed = {
        "model": encoder.name,
        "best_epoch": best_epoch,
        "epochs": epochs,
        "batch_size": plan.batch_size,
        "max_length": plan.max_length,
        "warmup": plan.warmup,
        "weight_decay": plan.weight_decay,
        "bfloat16": _bfloat16(problem),
    }
    predict: Predict = lambda texts: _softmax_of(trainer, rows(texts, None))  # noqa: E731
    return Fitted(predict, best.setting, fixed, others, prepared + best.seconds)


def _weighted_f1_of(prediction: EvalPrediction) -> dict[str, float]:
    return {"weighted_f1": weighted_f1(np.asarray(prediction.label_ids), np.asarray(prediction.predictions))}


@torch.inference_mode()
def _softmax_of(trainer: Trainer, rows: Dataset) -> np.ndarray:
    """Probabilities in the order of the rows, which are predicted by length: little padding.

    Not by `Trainer.predict`: with batches by length it returns them in the order of its batches.
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
