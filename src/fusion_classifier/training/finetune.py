"""Fine-tunes an encoder with a linear layer on top, through transformers' `Trainer`: all weights, or LoRA adapters.

Needs accelerate, and for LoRA peft: the extra `tune`.
"""

import logging
import math
import random
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from fusion_classifier.encoders.batches import padded
from fusion_classifier.encoders.loading import TransformerEncoder
from fusion_classifier.encoders.pooling import pooled
from fusion_classifier.encoders.tokenization import TokenizedText
from fusion_classifier.errors import NonFiniteError
from fusion_classifier.fusion.loss import loss_of
from fusion_classifier.support.progress import Bar, Progress
from fusion_classifier.tasks.loaded import Split, targets
from fusion_classifier.training.calibration import fit_decision
from fusion_classifier.training.finetuned import Finetuned, memory_explained, parameter_counts
from fusion_classifier.training.loop import deterministic
from fusion_classifier.training.result import Epoch
from fusion_classifier.training.scores import scores
from fusion_classifier.training.tune_config import TuneConfig

# Devlin et al. (2019, appendix A.3) tune BERT with 2e-5 to 5e-5; the compact BERTs of Turc et al. (2019) also take
# 1e-4 and 3e-4; Hu et al. (2021, appendix D) train RoBERTa's adapters with 4e-4 to 5e-4.
FULL_RATE, COMPACT_RATE, LORA_RATE = 5e-5, 1e-4, 5e-4
COMPACT_BELOW = 768  # width of BERT-base
DROPOUT, LORA_DROPOUT = 0.1, 0.05
MAX_NORM = 1.0

Rows = list[dict[str, Any]]


class PooledClassifier(nn.Module):
    """Encoder, pooling, dropout and linear layer, with the same pooling as extraction for every architecture.

    `AutoModelForSequenceClassification` reads [CLS], or a decoder's last token, which encoders trained with mean
    pooling have never learned to use.
    """

    def __init__(self, encoder: TransformerEncoder, n_labels: int) -> None:
        super().__init__()
        self.encoder: nn.Module = encoder.model
        self.poolings = encoder.config.poolings
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(encoder.model.config.hidden_size * len(self.poolings), n_labels)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, counted: Tensor, lengths: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Loss and logits of a padded batch.

        Args:
            input_ids, attention_mask, counted, lengths: As returned by `padded`.
            labels: Label numbers (B,), or multi-label (B, C) of 0 and 1.
        """
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (B, L, H)
        vectors = pooled(states[:, :, None], counted, lengths, self.poolings).flatten(1)  # (B, F)
        with torch.autocast(states.device.type, enabled=False):  # same precision as `TunedClassifier`
            logits = self.head(self.dropout(vectors))
            loss = loss_of(logits, labels)
        if not torch.isfinite(loss):
            raise NonFiniteError(
                f"training diverged (loss {float(loss.detach())}); use a lower `learning_rate`, or `dtype` float32"
            )
        return {"loss": loss, "logits": logits}


def finetune(
    encoder: TransformerEncoder,
    config: TuneConfig,
    precision: torch.dtype,
    rows: Mapping[str, Rows],
    n_labels: int,
    progress: Progress,
) -> Finetuned:
    """Train the model of an encoder, loaded plain and in float32, on rows from `rows_of`, and keep the best epoch.

    With the same seed on the same machine, the weights are bit-identical.
    """
    title = f"tuning {encoder.config.name}"
    steps = math.ceil(len(rows["train"]) / config.batch_size) * config.epochs
    with (
        _reproducible(config.seed),
        tempfile.TemporaryDirectory(
            prefix="fec-tune-"
        ) as scratch,  # Trainer needs a folder, but writes nothing to it
        progress.bar(title, total=steps) as bar,
    ):
        model = PooledClassifier(encoder, n_labels)
        model.encoder = _trainable(encoder, config.lora_rank)
        model.to(encoder.device)
        best = _BestEpoch(model, bar, title)
        trainer = Trainer(
            model=model,
            args=_arguments(config, encoder, precision, scratch),
            data_collator=lambda chosen: _batch(encoder, chosen),
            train_dataset=rows["train"],
            eval_dataset=rows["valid"],
            compute_metrics=lambda predicted: _figures(predicted.predictions, predicted.label_ids),
            callbacks=[best],
        )
        trainer.remove_callback(PrinterCallback)  # it prints to standard output
        with memory_explained(encoder, ", or train LoRA adapters"):
            trainer.train()
    model.load_state_dict(best.state, strict=False)
    model.eval()
    parameters = parameter_counts(model)
    merged = model.encoder if config.lora_rank is None else model.encoder.merge_and_unload()  # type: ignore[operator]
    return Finetuned(merged, model.head, tuple(best.history), best.epoch, learning_rate(config, encoder), parameters)


def _arguments(config: TuneConfig, encoder: TransformerEncoder, precision: torch.dtype, scratch: str) -> Any:
    arguments = TrainingArguments(
        output_dir=scratch,
        num_train_epochs=config.epochs,
        learning_rate=learning_rate(config, encoder),
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=2 * config.batch_size,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup,  # values below 1 are a share of all steps
        max_grad_norm=MAX_NORM,
        lr_scheduler_type="linear",
        train_sampling_strategy="group_by_length",  # otherwise a third of a batch is padding
        seed=config.seed,
        bf16=precision == torch.bfloat16,
        use_cpu=encoder.device.type == "cpu",
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        logging_nan_inf_filter=False,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        label_names=["labels"],
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # with several GPUs, each would take a batch
    return arguments


def rows_of(texts: Sequence[TokenizedText], split: Split, n_labels: int) -> Rows:
    """One row per text of a split, in the format of `Trainer`.

    `input_ids` is for the sampler that groups texts by length; batches are built from `text`.
    """
    labels = targets(split.labels, n_labels)
    return [{"input_ids": text.ids, "text": text, "labels": label} for text, label in zip(texts, labels, strict=True)]


def learning_rate(config: TuneConfig, encoder: TransformerEncoder) -> float:
    """The given learning rate, or the default for this kind of training and width of model."""
    if config.learning_rate is not None:
        return config.learning_rate
    if config.lora_rank is not None:
        return LORA_RATE
    return COMPACT_RATE if encoder.model.config.hidden_size < COMPACT_BELOW else FULL_RATE


def _trainable(encoder: TransformerEncoder, rank: int | None) -> nn.Module:
    """The encoder's model with all weights trainable, or with LoRA adapters on all its linear layers."""
    model: nn.Module = encoder.model
    if rank is None:
        return model.requires_grad_(True)
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - an extra

    # alpha is twice the rank, so that the size of the update does not depend on the rank.
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=LORA_DROPOUT, target_modules="all-linear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses a deprecated name of transformers
        adapted: nn.Module = get_peft_model(model, lora)
    return adapted


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Seeded and deterministic block. Process-wide state that `Trainer` changes is restored."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    logger = logging.getLogger("transformers")
    level = logger.level
    try:
        with deterministic(seed):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        logger.setLevel(level)


def _batch(encoder: TransformerEncoder, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Rows of `rows_of` as one padded batch."""
    texts: list[TokenizedText] = [row["text"] for row in rows]
    ids, attention, counted, lengths = padded(encoder, texts)
    return {
        "input_ids": ids,
        "attention_mask": attention.long(),
        "counted": counted,
        "lengths": lengths,
        "labels": torch.from_numpy(np.stack([row["labels"] for row in rows])),
    }


def _figures(logits: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Metrics for choosing the epoch; multi-label: at the best thresholds."""
    decision = fit_decision(torch.from_numpy(logits), truth, calibrate=False)
    answers = decision.labels(decision.probabilities(torch.from_numpy(logits)))
    reached = scores(truth, answers)
    return {"accuracy": reached.accuracy, "weighted_f1": reached.weighted_f1}


class _BestEpoch(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Advances the bar, records the history, and keeps the trained weights of the best epoch.

    In memory: `Trainer`'s checkpoints include the optimizer, three times the size of the model per epoch.
    """

    def __init__(self, model: nn.Module, bar: Bar, title: str) -> None:
        self.model, self.bar, self.title = model, bar, title
        self.history: list[Epoch] = []
        self.epoch, self.reached = 0, (-math.inf, -math.inf)
        self.state: dict[str, Tensor] = {}
        self.train_loss = math.nan
        self.started = time.perf_counter()

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.bar.advance()

    def on_log(self, *_: Any, logs: Mapping[str, float], **__: Any) -> None:
        self.train_loss = float(logs.get("loss", self.train_loss))

    def on_evaluate(self, *_: Any, metrics: Mapping[str, float], **__: Any) -> None:
        epoch = Epoch(
            epoch=len(self.history) + 1,
            train_loss=self.train_loss,
            valid_loss=float(metrics["eval_loss"]),
            valid_accuracy=metrics["eval_accuracy"],
            valid_weighted_f1=metrics["eval_weighted_f1"],
            seconds=time.perf_counter() - self.started,
        )
        self.history.append(epoch)
        # If F1 ties, as on few texts, the lower loss decides.
        reached = (epoch.valid_weighted_f1, -epoch.valid_loss)
        if reached > self.reached:
            self.epoch, self.reached = epoch.epoch, reached
            trained = ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)
            self.state = {name: p.detach().to("cpu", copy=True) for name, p in trained}
        self.bar.describe(f"{self.title} · epoch {epoch.epoch} · valid weighted F1 {self.reached[0]:.3f}")
