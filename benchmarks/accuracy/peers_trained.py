"""Peers of `accuracy.py` that train the encoder: SetFit, and full fine-tuning with transformers' Trainer.

Separate from `peers.py`, since their libraries are slow to import. Training is in `trained.py`; here the number of
steps, the learning rate and the epoch are chosen on validation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from peers import Fitted, Predict, Problem, search, weighted_f1
from trained import SETFIT_BATCH, SETFIT_RATE, FineTuned, FineTuningPlan, SetFitPlan, train_finetuned, train_setfit

from fusion_classifier.encoders.device import resolve_dtype
from fusion_classifier.encoders.weights import locate

SETFIT_PAIR_TEXTS = 8000


def setfit(problem: Problem) -> Fitted:
    """SetFit: a sentence encoder tuned on pairs of texts with equal or different labels, then logistic regression.

    Defaults of the library (batch size 16, learning rate 2e-5, cosine similarity loss, one epoch, logistic
    regression), with the number of steps chosen on validation. SetFit is designed for few examples per label: all
    pairs of 20,000 texts would not fit into memory, and its maintainer recommends a small `max_steps` for large data
    (https://github.com/huggingface/setfit/issues/472). Pairs, half of them with equal labels, are drawn from at most
    8,000 training texts; the logistic regression is fitted on all texts.
    https://huggingface.co/docs/setfit/reference/trainer
    https://huggingface.co/docs/setfit/conceptual_guides/sampling_strategies
    """
    (encoder,) = problem.encoders
    folder = locate(encoder).folder
    texts, labels = list(problem.texts("train")), problem.labels("train")
    rows = np.random.default_rng(problem.seed).permutation(len(texts))[:SETFIT_PAIR_TEXTS]

    def fit(setting: Mapping[str, Any]) -> tuple[Predict, np.ndarray]:
        plan = SetFitPlan(setting["max_steps"], _bfloat16(problem))
        predict = train_setfit(folder, texts, labels, problem.n_classes, plan, problem.seed, pair_rows=rows)
        return predict, predict(problem.texts("valid"))

    grid = [{"max_steps": steps} for steps in ((50,) if problem.quick else (500, 1500))]
    best, others = search(problem, grid, fit)
    pairs = SETFIT_BATCH * best.setting["max_steps"]
    fixed = {
        "model": encoder.name,
        "batch_size": SETFIT_BATCH,
        "learning_rate": SETFIT_RATE,
        "pairs": pairs,
        "texts_of_pairs": len(rows),
        "bfloat16": _bfloat16(problem),
    }
    note = f"cost bounded: {pairs:,} pairs ({best.setting['max_steps']:,} steps) from {len(rows):,} texts; one seed"
    return Fitted(best.state, best.setting, fixed, others, best.seconds, notes=(note,))


def _bfloat16(problem: Problem) -> bool:
    return resolve_dtype("auto", problem.work.device) == "bfloat16"


@dataclass(frozen=True)
class FineTuning:
    """Grid for fine-tuning one model: learning rates, with linear decay over this number of epochs."""

    learning_rates: tuple[float, ...]
    epochs: int


# Around the values in the BERT paper (2e-5 to 5e-5, 2 to 4 epochs, https://arxiv.org/abs/1810.04805, A.3), higher for
# the six-layer model, which needs it (GoEmotions validation: 2e-4 was one point of weighted F1 lower). The best epoch
# is kept, so `epochs` is an upper bound. An epoch of MPNet takes half an hour on one core: one rate and two epochs.
FINE_TUNING = {
    "minilm-l6": FineTuning((1e-4,), epochs=4),
    "mpnet-base": FineTuning((5e-5,), epochs=2),
}


def finetune(problem: Problem) -> Fitted:
    """Fine-tune all weights of one encoder and a linear layer; bfloat16 if the CPU supports it."""
    (encoder,) = problem.encoders
    tried = FINE_TUNING.get(encoder.model, FINE_TUNING["mpnet-base"])
    folder = locate(encoder).folder
    valid = list(problem.texts("valid")), problem.labels("valid")

    def plan_of(setting: Mapping[str, Any]) -> FineTuningPlan:
        return FineTuningPlan(
            setting["learning_rate"],
            1 if problem.quick else tried.epochs,
            bfloat16=_bfloat16(problem),
            use_cpu=problem.work.device.type == "cpu",
        )

    def fit(setting: Mapping[str, Any]) -> tuple[FineTuned, np.ndarray]:
        found = train_finetuned(
            folder,
            problem.texts("train"),
            problem.labels("train"),
            problem.n_classes,
            plan_of(setting),
            problem.seed,
            valid=valid,
            metrics=weighted_f1,
        )
        return found, found(valid[0])

    best, others = search(problem, [{"learning_rate": rate} for rate in tried.learning_rates], fit)
    plan = plan_of(best.setting)
    fixed = {
        "model": encoder.name,
        "best_epoch": best.state.best_epoch,
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "max_length": plan.max_length,
        "warmup": plan.warmup,
        "weight_decay": plan.weight_decay,
        "bfloat16": plan.bfloat16,
    }
    return Fitted(best.state, best.setting, fixed, others, best.seconds)
