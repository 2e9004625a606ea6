"""Smaller states: standardized, projected and, optionally, stored in 8 bits.

Token states of a large model are big: 8 KB per token and layer for Llama-2-7b in float16. A projection is fitted once
on the states of a sample of training texts and then belongs to the encoder, as its weights do:

    z = clip((x − mean) / std, ±8)      layer by layer, (layers, H)
    y = z P / spread                    P (H, d): principal components of z, or random and orthonormal
    int8: round(16 y), clipped to ±127

`spread` gives every component unit variance, so that 8 bits are enough for each. Without P (kind `none`) the states
keep their width. Heads standardize what they read, so the factor 16 needs no inversion.

Sources: principal components, Hotelling 1933; random projections, Johnson and Lindenstrauss 1984, and for their
use Bingham and Mannila: Random projection in dimensionality reduction, KDD 2001. Loss of accuracy: docs/fusion.md.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fusion_classifier.config import ProjectionKind
from fusion_classifier.encoders.statistics import clipped_statistics
from fusion_classifier.errors import DataError, UsageError, WeightsError
from fusion_classifier.support.files import atomic_file

CLIP = 8.0
INT8_STEPS = 16.0  # per standard deviation
MAX_BYTES = 2**33  # of a projection file's tensors; no text model needs more


@dataclass(frozen=True)
class Projection:
    """A fitted projection; all tensors are float32."""

    mean: Tensor  # (layers, H)
    std: Tensor  # (layers, H)
    matrix: Tensor | None  # (layers, H, d)
    spread: Tensor  # (layers, d)
    int8: bool  # whether projected states are stored in 8 bits
    fitted_on: dict[str, object]  # the model's "fingerprint" and "layers"

    @property
    def width(self) -> int:
        """Width d of a projected state."""
        return int(self.spread.shape[1])

    def project(self, states: Tensor) -> Tensor:
        """States (…, layers, H) projected: (…, layers, d), float32, each component of unit variance."""
        z = ((states.float() - self.mean) / self.std).clamp(-CLIP, CLIP)
        if self.matrix is not None:
            z = torch.einsum("...lh,lhd->...ld", z, self.matrix)
        return z / self.spread

    def to(self, device: torch.device) -> "Projection":
        """The same projection on a device."""
        tensors: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **tensors)


def quantize(feature: np.ndarray) -> np.ndarray:
    """A projected feature as int8: 16 steps per standard deviation, clipped at ±127."""
    return np.clip(np.rint(feature * INT8_STEPS), -127, 127).astype(np.int8)


def fit_projection(
    states: Tensor,
    kind: ProjectionKind,
    width: int | None,
    *,
    int8: bool,
    fitted_on: dict[str, object],
    seed: int = 0,
) -> Projection:
    """Fit a projection on a sample of states.

    Args:
        states: (T, layers, H).
        kind: `pca`, `random` or `none`.
        width: Width d of projected states; None only for `none`.
        int8: Whether projected states are stored in 8 bits.
        fitted_on: The model's "fingerprint" and "layers".
        seed: Seed of a random projection. Default: 0.
    """
    count, layers, hidden = states.shape
    if kind != "none" and (width is None or not 1 <= width < hidden):
        raise UsageError(f"`width` {width}: give 1 to {hidden - 1}, less than the encoder's {hidden}")
    if count <= (width or 1):
        raise DataError(f"{count:,} tokens are too few to fit a projection to width {width}; raise `texts`")
    x = states.double()
    mean, std = clipped_statistics(x)
    z = ((x - mean) / std).clamp(-CLIP, CLIP)
    if kind == "none":
        return Projection(mean.float(), std.float(), None, torch.ones(layers, hidden), int8, fitted_on)
    assert width is not None
    matrices = []
    generator = torch.Generator().manual_seed(seed)
    for layer in range(layers):
        if kind == "pca":
            covariance = z[:, layer].T @ z[:, layer] / count
            matrices.append(torch.linalg.eigh(covariance).eigenvectors[:, -width:].flip(1))
        else:
            noise = torch.randn(hidden, width, generator=generator, dtype=torch.float64)
            matrices.append(torch.linalg.qr(noise).Q)
    matrix = torch.stack(matrices)
    spread = torch.einsum("tlh,lhd->tld", z, matrix).std(0).clamp(min=1e-6)
    return Projection(mean.float(), std.float(), matrix.float(), spread.float(), int8, fitted_on)


def save_projection(projection: Projection, path: Path) -> None:
    """Write a projection as safetensors."""
    tensors = {"mean": projection.mean, "std": projection.std, "spread": projection.spread}
    if projection.matrix is not None:
        tensors["matrix"] = projection.matrix
    metadata = {"int8": json.dumps(projection.int8), "fitted_on": json.dumps(projection.fitted_on, sort_keys=True)}
    with atomic_file(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)


def load_projection(path: Path) -> Projection:
    """Read what `save_projection` wrote."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such projection file; `fec project` makes one")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            size = sum(4 * torch.Size(file.get_slice(name).get_shape()).numel() for name in file.keys())  # noqa: SIM118
            if size > MAX_BYTES:
                raise WeightsError(f"{path}: {size:,} bytes are too many for a projection")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        mean, std, spread = tensors["mean"], tensors["std"], tensors["spread"]
        matrix = tensors.get("matrix")
        found = Projection(
            mean, std, matrix, spread, bool(json.loads(metadata["int8"])), json.loads(metadata["fitted_on"])
        )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} is not a projection that `fec project` wrote ({error})") from error
    layers, hidden = mean.shape if mean.ndim == 2 else (0, 0)
    fits = std.shape == mean.shape and spread.ndim == 2 and spread.shape[0] == layers and layers > 0
    if matrix is not None:
        fits = fits and matrix.shape == (layers, hidden, spread.shape[1])
    else:
        fits = fits and spread.shape == mean.shape
    if not fits or not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise WeightsError(f"{path}: the tensors of this projection do not fit together")
    return found
