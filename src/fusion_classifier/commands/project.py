"""Fits a projection of an encoder's states on training texts; see `encoders.projection`."""

from pathlib import Path

import numpy as np
import torch

from fusion_classifier.config import EncoderConfig, ProjectionKind
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.loading import load_transformer
from fusion_classifier.encoders.projection import Projection, fit_projection, save_projection
from fusion_classifier.errors import UsageError
from fusion_classifier.runs.context import RunContext
from fusion_classifier.tasks.loaded import LoadedTask

TEXTS_PER_STEP = 256  # steps of the progress bar


def project(
    config: EncoderConfig,
    task: LoadedTask,
    out: Path,
    work: RunContext,
    *,
    kind: ProjectionKind = "pca",
    width: int | None = None,
    int8: bool = False,
    texts: int = 2000,
    seed: int = 0,
) -> Projection:
    """Fit a projection on the token states of training texts, and write it, as `fec project` with these options."""
    if config.projection is not None:
        raise UsageError(f"{config.name} already has a projection; give the encoder without it")
    if out.suffix != ".safetensors":
        raise UsageError(f"`out`: {out} must end in .safetensors")
    if kind == "none" and not int8:
        raise UsageError("`kind`: none changes nothing; choose another, or `int8`")
    tokens = config.model_copy(update={"pooling": "tokens"})
    identity = identify(tokens, work.device)
    with work.progress.bar(f"loading {config.name}", total=None):
        encoder = load_transformer(identity, work.device)
    unique = sorted(set(task.split("train").texts))
    chosen = np.random.default_rng(seed).permutation(len(unique))[:texts]
    states = []
    with work.progress.bar(f"encoding with {config.name}", total=len(chosen)) as bar:
        for start in range(0, len(chosen), TEXTS_PER_STEP):
            part = [unique[i] for i in chosen[start : start + TEXTS_PER_STEP]]
            states += encode(encoder, part)
            bar.advance(len(part))
    fitted_on: dict[str, object] = {"fingerprint": identity.fingerprint, "layers": list(encoder.layers)}
    sample = torch.from_numpy(np.concatenate(states))  # (T, layers, H)
    projection = fit_projection(sample, kind, width, int8=int8, fitted_on=fitted_on, seed=seed)
    save_projection(projection, out)
    return projection
