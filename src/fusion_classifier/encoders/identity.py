"""What makes two encoders the same: the key under which features are kept.

The key hashes the contents of the model's files and every setting that decides a feature. A changed setting,
file or precision is another key, so stale features can't be read; where the files lie and what the encoder is
called does not matter.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any

import torch

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.device import resolve_dtype
from fusion_classifier.encoders.projection import fingerprint_of
from fusion_classifier.encoders.weights import Weights, fingerprint, locate
from fusion_classifier.support.files import user_path

logger = logging.getLogger(__name__)

# Raise it when the code comes to compute other features from the same model and settings.
FEATURE_VERSION = 1


@dataclass(frozen=True)
class EncoderIdentity:
    """An encoder whose files are found and whose precision is settled."""

    config: EncoderConfig
    weights: Weights
    fingerprint: str
    dtype: torch.dtype
    projection: str | None = None  # SHA-256 of its file

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides a feature, as plain JSON values."""
        return {
            "feature_version": FEATURE_VERSION,
            "fingerprint": self.fingerprint,
            "layers": self._layers,
            "pooling": self.config.pooling,
            "template": self.config.template,
            "max_length": self.config.max_length,
            "dtype": str(self.dtype).removeprefix("torch."),
            "pool_special_tokens": self.config.pool_special_tokens,
            # Named only where they are set: features from before these settings keep their key.
            **({} if self.config.quantization == "none" else {"quantization": self.config.quantization}),
            **({"projection": self.projection} if self.projection else {}),
        }

    @property
    def _layers(self) -> list[int] | str:
        """The layers as the key has them; which ones `thirds` are, the model's files say."""
        if self.config.layers is not None:
            return list(self.config.layers)
        return "thirds" if self.config.pooling == "tokens" else [-1]

    @property
    def key(self) -> str:
        """32 hexadecimal digits."""
        canonical = json.dumps(self.settings, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def identify(config: EncoderConfig, device: torch.device) -> EncoderIdentity:
    """Find an encoder's files and settle its precision on a device, without loading it.

    Raises:
        WeightsError: the files can't be found.
    """
    weights = locate(config)
    projection = None if config.projection is None else fingerprint_of(user_path(config.projection))
    found = EncoderIdentity(config, weights, fingerprint(weights), resolve_dtype(config.dtype, device), projection)
    logger.info(
        "encoder %s",
        config.name,
        extra={"weights": str(weights.folder), "fingerprint": found.fingerprint, "dtype": str(found.dtype)},
    )
    return found
