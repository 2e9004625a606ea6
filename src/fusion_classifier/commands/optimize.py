"""Writes a trained model in its fastest form, as measured on labelled texts."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion_classifier.classifier.folder import load_config
from fusion_classifier.classifier.models import find_model, find_run_or_model, is_optimized
from fusion_classifier.classifier.saved_encoders import checked_identities, placed
from fusion_classifier.classifier.tuned import tuned_on
from fusion_classifier.config import Precision
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.errors import UsageError
from fusion_classifier.onnx_export.optimize import PRECISIONS, HeldOut, Optimized, optimize
from fusion_classifier.runs.evaluate import evaluated_task, judging_split
from fusion_classifier.support.progress import Progress


def optimize_model(
    model: str,
    out: Path,
    *,
    task: str | None = None,
    data: Mapping[str, Any] | None = None,
    max_loss: float = 0.5,
    precisions: Sequence[Precision] | None = None,
    max_texts: int = 1000,
    encoders: bool = True,
    encoder_paths: Mapping[str, str] | None = None,
    progress: Progress,
    say: Callable[[str], None] = lambda _: None,
) -> Optimized:
    """Write a model in its fastest form, as `fec optimize` with these options; `say` takes messages for the user."""
    folder = find_run_or_model(model)
    if is_optimized(folder):
        raise UsageError(f"{model} is already optimized; give the model that it was made from")
    held_out = None
    if encoders:
        texts, targets, known = judging_split(folder, evaluated_task(folder, task, data or {}))
        if known:
            say(
                f"{folder} was trained on all of its rows and is measured on them; the loss on new texts may be "
                "larger; set `task` to labelled texts that it was not trained on"
            )
        rows = np.random.default_rng(0).permutation(len(texts))[:max_texts]
        held_out = HeldOut([texts[row] for row in rows], targets[rows])
        encoders_here = placed(load_config(find_model(folder)).encoders, encoder_paths or {})
        identities = checked_identities(encoders_here, resolve_device("cpu"))
        for warning in tuned_on(identities, held_out.texts, "texts that are measured here"):
            say(f"Warning: {warning}")
    return optimize(
        find_model(folder),
        out,
        held_out,
        max_loss=max_loss,
        precisions=precisions or PRECISIONS,
        encoder_paths=encoder_paths,
        progress=progress,
    )
