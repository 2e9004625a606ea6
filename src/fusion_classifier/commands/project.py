"""Fits a projection of an encoder's states on training texts; `encoders.projection` says what it is for."""

from pathlib import Path

import numpy as np
import torch

from fusion_classifier.config import EncoderConfig, ProjectionKind
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.loading import load_transformer
from fusion_classifier.encoders.projection import Projection, fit_projection, save_projection
from fusion_classifier.errors import UsageError
from fusion_classifier.runs.context import Workspace
from fusion_classifier.tasks.loaded import LoadedTask

CHUNK_TEXTS = 256


def project(
    config: EncoderConfig,
    task: LoadedTask,
    out: Path,
    work: Workspace,
    *,
    kind: ProjectionKind = "pca",
    width: int | None = None,
    int8: bool = False,
    texts: int = 2000,
    seed: int = 0,
) -> Projection:
    """Fit a projection on the token states of some texts of the train split, and write it.

    Args:
        config: the encoder, without a projection of its own.
        task: where the texts come from; only train is read.
        out: file to write, ending in .safetensors.
        work: device and progress.
        kind: `pca`, `random` or `none`.
        width: of the projected states.
        int8: whether they are kept in 8 bits.
        texts: how many texts, at most.
        seed: of their choice, and of a random projection.

    Raises:
        UsageError, DataError, WeightsError: see the messages.
    """
    if config.projection is not None:
        raise UsageError(f"{config.name}: has a projection already; give the encoder without")
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: name a file that ends in .safetensors")
    if kind == "none" and not int8:
        raise UsageError("--kind none without --int8 changes nothing; give --width, or --int8")
    tokens = config.model_copy(update={"pooling": "tokens"})
    identity = identify(tokens, work.device)
    with work.progress.bar(f"loading {config.name}", total=None):
        encoder = load_transformer(identity, work.device)
    unique = sorted(set(task.split("train").texts))
    chosen = np.random.default_rng(seed).permutation(len(unique))[:texts]
    states = []
    with work.progress.bar(f"encoding with {config.name}", total=len(chosen)) as bar:
        for start in range(0, len(chosen), CHUNK_TEXTS):
            part = [unique[i] for i in chosen[start : start + CHUNK_TEXTS]]
            states += encode(encoder, part)
            bar.advance(len(part))
    fitted_on: dict[str, object] = {"fingerprint": identity.fingerprint, "layers": list(encoder.layers)}
    sample = torch.from_numpy(np.concatenate(states))  # (T, layers, H)
    projection = fit_projection(sample, kind, width, int8=int8, fitted_on=fitted_on, seed=seed)
    save_projection(projection, out)
    return projection
