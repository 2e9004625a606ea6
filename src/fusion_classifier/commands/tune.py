"""Fine-tunes an encoder on a task's train split, through transformers' `Trainer`; all weights, or LoRA adapters.

A tuned folder holds

    config.json, model.safetensors, tokenizer files    the tuned model: an encoder like any other, --encoder FOLDER
    classifier/head.safetensors                        the linear layer it was tuned with
    tuning.json                                        what from, on what, how, and how good on validation
    README.md                                          the same in a paragraph

The classifier is the encoder, its pooling, dropout and a linear layer. It reads the very vector that
`fec extract` takes from the last layer, so `load_tuned_classifier` is that extraction and one matrix product.
The head lies in a folder of its own: what is extracted with the encoder does not depend on it.
"""

import importlib.util
import json
import math
import os
import random
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from fusion_classifier.commands.tuned_folder import (
    KEPT_SETTINGS,
    TUNING_FILE,
    describe_base,
    model_folder,
    package_versions,
    read_classifier,
    tuned_card,
    write_encoder,
)
from fusion_classifier.config import EncoderConfig, TuneConfig
from fusion_classifier.encoders.batches import padded
from fusion_classifier.encoders.device import torch_dtype
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.loading import TransformerEncoder, load_encoder
from fusion_classifier.encoders.pooling import pooled
from fusion_classifier.encoders.tokenization import TokenizedText, tokenize
from fusion_classifier.errors import DataError, FecError, NonFiniteError, UsageError
from fusion_classifier.evaluation.metrics import score
from fusion_classifier.runs.context import Workspace
from fusion_classifier.runs.folder import environment
from fusion_classifier.support.files import atomic_folder, user_path
from fusion_classifier.support.progress import Bar
from fusion_classifier.tasks.loaded import LoadedTask, targets
from fusion_classifier.training.calibration import fit_decision, loss_of
from fusion_classifier.training.decision import Decision
from fusion_classifier.training.loop import Epoch, deterministic

# Devlin et al. (2019, appendix A.3) tune BERT with 2e-5 to 5e-5; the compact BERTs of Turc et al. (2019) also take
# 1e-4 and 3e-4; Hu et al. (2021, appendix D) RoBERTa's adapters, which start from nothing, with 4e-4 to 5e-4.
FULL_RATE, COMPACT_RATE, LORA_RATE = 5e-5, 1e-4, 5e-4
COMPACT_BELOW = 768  # width of BERT-base
DROPOUT, LORA_DROPOUT = 0.1, 0.05
MAX_NORM = 1.0
WITHOUT_PEFT = "--lora needs peft, which is not installed: pip install 'llm-fusion-classifier[tune]'"


@dataclass(frozen=True)
class Tuned:
    """What tuning came to: the folder, an `Epoch` a pass, and the saved classifier's logits for the validation
    texts in their order, (N, C) float32. `record` is what stands in `tuning.json`."""

    folder: Path
    history: tuple[Epoch, ...]
    best_epoch: int
    valid_logits: np.ndarray
    record: dict[str, Any]

    @property
    def best(self) -> Epoch:
        """The epoch with the best validation weighted F1, whose weights were kept."""
        return self.history[self.best_epoch - 1]


class PooledClassifier(nn.Module):
    """Encoder, pooling, dropout, linear: the same for every architecture, and what extraction will pool.

    `AutoModelForSequenceClassification` was the runner-up: it reads [CLS], or a decoder's last token, which
    sentence encoders trained with a mean have never learned to use.
    """

    def __init__(self, encoder: TransformerEncoder, n_labels: int) -> None:
        super().__init__()
        self.encoder: nn.Module = encoder.model
        self.ways = encoder.config.poolings
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(encoder.model.config.hidden_size * len(self.ways), n_labels)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, counted: Tensor, lengths: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Loss and logits of a padded batch.

        Args:
            input_ids, attention_mask, counted, lengths: as `padded` gives them.
            labels: (B,), or multi-label (B, C) of 0 and 1; `loss_of` goes by it.

        Raises:
            NonFiniteError: the loss is NaN or infinite.
        """
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (B, L, H)
        vectors = pooled(states[:, :, None], counted, lengths, self.ways).flatten(1)  # (B, F)
        with torch.autocast(states.device.type, enabled=False):  # as exact as `TunedClassifier` is
            logits = self.head(self.dropout(vectors))
            loss = loss_of(logits, labels)
        if not torch.isfinite(loss):
            raise NonFiniteError(
                f"training diverged (loss {float(loss.detach())}); use a lower --lr, or --dtype float32"
            )
        return {"loss": loss, "logits": logits}


def tune_encoder(
    config: TuneConfig,
    encoder: EncoderConfig,
    task: LoadedTask,
    out: Path,
    work: Workspace,
    *,
    overwrite: bool = False,
) -> Tuned:
    """Fine-tune an encoder on the train split and write it as an encoder folder.

    Validation chooses the epoch, by weighted F1; the test split is not read. The same seed on the same machine
    gives the same weights, bit by bit. Nothing is written before training has ended well.

    Args:
        config: how to train.
        encoder: which weights to start from; its pooling, template and max length are trained with. `layers` is
            not read: the classifier is put on the last.
        task: texts and labels, with or without several labels a text.
        out: the folder to write.
        work: device and progress.
        overwrite: whether a tuned folder that is there already may be replaced.

    Raises:
        UsageError: settings that can't be tuned with, or `out` is taken.
        MissingSplitError, DataError: no texts to train or validate on.
        WeightsError: the encoder's files can't be had or used.
        NonFiniteError: training diverged.
        FecError: peft is missing, the memory does not suffice, or `out` can't be written.
    """
    started = time.perf_counter()
    _check_settings(config, encoder)
    for name in ("train", "valid"):
        if not len(task.split(name)):
            raise DataError(f"the {name} split of {task.source} is empty")
    # Trained in float32 whatever it is computed in: steps of 1e-5 are lost in bfloat16 weights.
    weights = encoder.model_copy(update={"layers": (-1,), "dtype": "float32"})
    base = identify(weights, work.device)
    _check_out(out, base, overwrite=overwrite)
    with work.progress.bar(f"loading {encoder.name}", total=None):
        source = model_folder(base)
        loaded = load_encoder(weights, work.device, plain=True)
    precision = torch_dtype(identify(encoder, work.device).dtype)
    truncated, rows = _rows(loaded, task)
    if truncated:
        work.say(
            f"{encoder.name}: {truncated:,} texts were longer than {encoder.max_length} tokens and lost their end; "
            "raise --max-length to keep it"
        )
    with _same_every_time(config.seed):
        model = PooledClassifier(loaded, len(task.labels))
        model.encoder = _trainable(loaded, config.lora_rank)
        model.to(work.device)
        counts = {
            "all": sum(p.numel() for p in model.parameters()),
            "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        }
        history, best_epoch = _train(model, config, loaded, precision, rows, work)
    if config.lora_rank is not None:
        model.encoder = model.encoder.merge_and_unload()  # type: ignore[operator]  # peft's

    with atomic_folder(out) as folder, work.progress.bar("writing and measuring", total=None):
        write_encoder(source, loaded, model.encoder, model.head, folder)
        settings = {name: getattr(encoder, name) for name in KEPT_SETTINGS}
        untold = read_classifier(folder, encoder.name, settings, task.labels, Decision(), work.device)
        logits = untold.logits(task.split("valid").texts)
        truth = task.targets("valid")
        decision = fit_decision(torch.from_numpy(logits), truth)
        record = {
            "base": describe_base(encoder, base),
            "encoder": settings,
            "task": {
                "name": task.name,
                "licence": task.licence,
                "labels": list(task.labels),
                "multilabel": task.multilabel,
                "data": {
                    "train": {"rows": len(rows["train"]), "sha256": task.training.fingerprint()},
                    "valid": {"rows": len(rows["valid"]), "sha256": task.split("valid").fingerprint()},
                },
            },
            "tuning": config.model_dump() | {"learning_rate": _rate(config, loaded)},
            "parameters": counts,
            "best_epoch": best_epoch,
            "history": [asdict(epoch) for epoch in history],
            "decision": decision.model_dump(),
            "valid": _score(truth, torch.from_numpy(logits), decision),
            "environment": environment(work.device) | package_versions(config),
            "seconds": time.perf_counter() - started,
        }
        (folder / TUNING_FILE).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
        (folder / "README.md").write_text(tuned_card(record, precision), "utf-8")
    return Tuned(out, history, best_epoch, logits, record)


# --- before training ---------------------------------------------------------------------------------------


def _rate(config: TuneConfig, encoder: TransformerEncoder) -> float:
    """The learning rate given, or that of the kind of training and model."""
    if config.learning_rate is not None:
        return config.learning_rate
    if config.lora_rank is not None:
        return LORA_RATE
    width: int = encoder.model.config.hidden_size
    return COMPACT_RATE if width < COMPACT_BELOW else FULL_RATE


def _check_settings(config: TuneConfig, encoder: EncoderConfig) -> None:
    if set(encoder.poolings) & {"tokens", "pooler"}:
        raise UsageError(
            f"{encoder.name}: pooling {encoder.pooling} can't be tuned with; give ENCODER?pooling=mean "
            "(or max, first, last). The tuned encoder can then be read with pooling tokens too"
        )
    if len(encoder.templates) > 1:
        raise UsageError(f"{encoder.name}: several templates can't be tuned with; give one")
    if encoder.projection is not None:
        raise UsageError(f"{encoder.name}: a projection is fitted on fixed weights; tune first, then fec project")
    if encoder.quantization != "none":
        raise UsageError(
            f"{encoder.name}: weights in 8 bits can't be tuned; tune without quantization, then read the tuned "
            "encoder with TUNED?quantization=int8"
        )
    if encoder.dtype == "float16":
        raise UsageError(f"{encoder.name}: float16 overflows in training; give --dtype bfloat16 or float32")
    if config.lora_rank is not None and importlib.util.find_spec("peft") is None:
        raise FecError(WITHOUT_PEFT)


def _check_out(out: Path, base: EncoderIdentity, *, overwrite: bool) -> None:
    """Refuse a place that can't be written before hours of training, not after."""
    user_path(str(out), "out")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; name a folder")
    if out.resolve() in (base.weights.folder.resolve(), *base.weights.folder.resolve().parents):
        raise UsageError(f"--out {out}: the encoder's own files are in there; choose another folder")
    if out.is_dir() and any(out.iterdir()):
        if not (out / TUNING_FILE).is_file():
            raise UsageError(f"--out {out}: holds other files; choose another folder")
        if not overwrite:
            raise UsageError(
                f"--out {out}: holds a tuned encoder; choose another folder, or --overwrite to replace it"
            )
    there = next(folder for folder in out.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise FecError(f"--out {out}: can't be written (in {there}); choose another folder")


def _rows(encoder: TransformerEncoder, task: LoadedTask) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """How many texts lose their end; and by split a row a text, as `Trainer` wants them.

    `input_ids` is there for the sampler that groups texts by length; the batch is made from `text`.
    """
    parts = {"train": task.training, "valid": task.split("valid")}
    rows, truncated = {}, 0
    for name, split in parts.items():
        tokenized = tokenize(encoder, split.texts)
        truncated += sum(text.truncated for text in tokenized)
        labels = targets(split.labels, len(task.labels))
        rows[name] = [
            {"input_ids": text.ids, "text": text, "labels": label}
            for text, label in zip(tokenized, labels, strict=True)
        ]
    return truncated, rows


# --- training ----------------------------------------------------------------------------------------------


def _trainable(encoder: TransformerEncoder, rank: int | None) -> nn.Module:
    """The encoder's model with all weights to be trained, or with LoRA adapters on all its linear layers."""
    model: nn.Module = encoder.model
    if rank is None:
        return model.requires_grad_(True)
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - an extra

    # Twice the rank as alpha: the update keeps its size when the rank is changed.
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=LORA_DROPOUT, target_modules="all-linear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is going out of use
        adapted: nn.Module = get_peft_model(model, lora)
    return adapted


@contextmanager
def _same_every_time(seed: int) -> Iterator[None]:
    """Seeded and deterministic; `Trainer` also seeds Python and NumPy, whose state is the caller's."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with deterministic(seed):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def _train(
    model: PooledClassifier,
    config: TuneConfig,
    encoder: TransformerEncoder,
    precision: torch.dtype,
    rows: Mapping[str, list[dict[str, Any]]],
    work: Workspace,
) -> tuple[tuple[Epoch, ...], int]:
    """Train the model and put it back to its best epoch: the history, and which epoch that is."""
    steps = math.ceil(len(rows["train"]) / config.batch_size) * config.epochs
    with (
        tempfile.TemporaryDirectory(prefix="fec-tune-") as scratch,  # Trainer wants a folder, and leaves it empty
        work.progress.bar(f"tuning {encoder.config.name}", total=steps) as bar,
    ):
        arguments = TrainingArguments(
            output_dir=scratch,
            num_train_epochs=config.epochs,
            learning_rate=_rate(config, encoder),
            per_device_train_batch_size=config.batch_size,
            per_device_eval_batch_size=2 * config.batch_size,
            weight_decay=config.weight_decay,
            warmup_steps=config.warmup,  # below 1: a share of all steps
            max_grad_norm=MAX_NORM,
            lr_scheduler_type="linear",
            train_sampling_strategy="group_by_length",  # else a third of a batch is padding
            seed=config.seed,
            bf16=precision == torch.bfloat16,
            use_cpu=work.device.type == "cpu",
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
        arguments._n_gpu = min(1, arguments.n_gpu)  # several would each take a batch
        follow = _Follow(model, bar, f"tuning {encoder.config.name}")
        trainer = Trainer(
            model=model,
            args=arguments,
            data_collator=lambda chosen: _batch(encoder, chosen),
            train_dataset=rows["train"],
            eval_dataset=rows["valid"],
            compute_metrics=lambda found: _figures(found.predictions, found.label_ids),
            callbacks=[follow],
        )
        trainer.remove_callback(PrinterCallback)  # it prints to standard output
        try:
            trainer.train()
        except torch.OutOfMemoryError as error:
            raise FecError(
                f"{encoder.config.name}: the memory of {work.device.type} does not suffice; "
                "give a smaller --batch-size or --max-length, or --lora"
            ) from error
    model.load_state_dict(follow.best_state, strict=False)
    model.eval()
    return tuple(follow.history), follow.best_epoch


def _batch(encoder: TransformerEncoder, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Rows of `_rows` as one padded batch."""
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
    """What chooses the epoch; several labels a text are given at their best thresholds."""
    decision = fit_decision(torch.from_numpy(logits), truth, calibrate=False)
    answers = decision.labels(decision.probabilities(torch.from_numpy(logits)))
    return {
        "accuracy": float(accuracy_score(truth, answers)),
        "weighted_f1": float(f1_score(truth, answers, average="weighted", zero_division=0)),
    }


class _Follow(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Moves the bar, writes the history, and keeps the trained weights of the best epoch.

    In memory, not as checkpoints: those hold the optimizer too, three times the model, an epoch.
    """

    def __init__(self, model: nn.Module, bar: Bar, title: str) -> None:
        self.model, self.bar, self.title = model, bar, title
        self.history: list[Epoch] = []
        self.best_epoch, self.best = 0, (-math.inf, -math.inf)
        self.best_state: dict[str, Tensor] = {}
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
        # Where F1 ties, as it does on few texts, the lower loss is the better trained model.
        reached = (epoch.valid_weighted_f1, -epoch.valid_loss)
        if reached > self.best:
            self.best_epoch, self.best = epoch.epoch, reached
            trained = ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)
            self.best_state = {name: p.detach().to("cpu", copy=True) for name, p in trained}
        self.bar.describe(f"{self.title} · epoch {epoch.epoch} · valid weighted F1 {self.best[0]:.3f}")


# --- the folder --------------------------------------------------------------------------------------------


def _score(truth: np.ndarray, logits: Tensor, decision: Decision) -> dict[str, float]:
    """Every metric of the saved classifier on validation, which also chose its epoch and fitted its decision."""
    probabilities = decision.probabilities(logits)
    return score(truth, probabilities, decision.labels(probabilities))
