"""The identity of an encoder: the key under which its features are stored.

The key is a hash of the contents of the model's files and every setting that affects a feature; for an encoder that
is a Python object, of its name and version. The location of the files and the name of the encoder do not matter.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.dense import dense_files
from fusion_classifier.encoders.device import resolve_dtype
from fusion_classifier.encoders.fingerprint import file_digests, fingerprint
from fusion_classifier.encoders.protocol import Encoder, as_encoder
from fusion_classifier.encoders.weights import Weights, locate
from fusion_classifier.errors import WeightsError
from fusion_classifier.support.files import user_path

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

# Increase it whenever the code starts to compute different features for the same model and settings.
FEATURE_VERSION = 1
# Model types whose features have changed: earlier versions let padding or an earlier batch affect them.
REVISED = ("big_bird", "convbert", "fnet", "mobilebert", "nystromformer", "yoso")
# Model types with constants in float32, which fail in another precision.
FLOAT32_ONLY = ("deberta",)


@dataclass(frozen=True)
class EncoderIdentity:
    """An encoder whose files have been found and whose precision is known, or an encoder that is an object."""

    config: EncoderConfig  # of an object its name alone
    weights: Weights  # of an object none
    fingerprint: str  # SHA-256 over the files, or of the object's version
    dtype: str  # computing precision, such as bfloat16
    projection: str | None = None  # SHA-256 of the projection's file
    encoder: Encoder | None = None  # the object
    dense: str | None = None  # SHA-256 over the files of the dense layers
    model_type: str | None = None  # architecture, as transformers names it

    @property
    def is_object(self) -> bool:
        """Whether the encoder is a Python object, which can't be saved."""
        return self.encoder is not None

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that affects a feature, as JSON values."""
        if self.encoder is not None:
            named = {"name": self.config.name, "fingerprint": self.fingerprint}
            return {"feature_version": FEATURE_VERSION, "kind": "object", **named}
        return {
            "feature_version": FEATURE_VERSION + (self.model_type in REVISED),
            "fingerprint": self.fingerprint,
            "layers": self._layers,
            "pooling": self.config.pooling,
            "template": self.config.template,
            "max_length": self.config.max_length,
            "dtype": self.dtype,
            "pool_special_tokens": self.config.pool_special_tokens,
            # Only where they are set: features from before these settings keep their key.
            **({} if self.config.quantization == "none" else {"quantization": self.config.quantization}),
            **({} if self.config.long == "cut" else {"long": self.config.long}),
            **({"projection": self.projection} if self.projection else {}),
            **({"dense": self.dense} if self.dense else {}),
        }

    @property
    def _layers(self) -> list[int] | str:
        """The layers as part of the key; the layers of `thirds` depend on the model's files."""
        if self.config.layers is not None:
            return list(self.config.layers)
        return "thirds" if self.config.pooling == "tokens" else [-1]

    @property
    def key(self) -> str:
        """32 hexadecimal digits."""
        canonical = json.dumps(self.settings, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def identify(encoder: EncoderConfig | Encoder, device: "torch.device") -> EncoderIdentity:
    """Find an encoder's files and choose its precision on a device, without loading it.

    Raises:
        WeightsError: The files can't be found.
        UsageError: An object that is not an encoder.
    """
    if not isinstance(encoder, EncoderConfig):
        return _identify_object(as_encoder(encoder))
    weights = locate(encoder)
    projection = None if encoder.projection is None else _projection_digest(user_path(encoder.projection))
    kind = weights.model_type
    only_float32 = weights.is_static or (encoder.dtype == "auto" and kind in FLOAT32_ONLY)
    dtype = resolve_dtype("float32" if only_float32 else encoder.dtype, device)
    dense = _dense_digest(weights) if encoder.dense else None
    found = EncoderIdentity(encoder, weights, fingerprint(weights), dtype, projection, dense=dense, model_type=kind)
    logger.info(
        "encoder %s",
        encoder.name,
        extra={
            "weights": str(weights.folder),
            "fingerprint": found.fingerprint,
            "dtype": dtype,
            **{name: getattr(encoder, name) for name in ("pooling", "template", "max_length", "dense")},
        },
    )
    return found


def _identify_object(encoder: Encoder) -> EncoderIdentity:
    config = EncoderConfig(name=encoder.name, model=encoder.name)
    digest = hashlib.sha256(encoder.version.encode()).hexdigest()
    return EncoderIdentity(config, Weights(Path(), None, "object"), digest, "float32", encoder=encoder)


def _projection_digest(path: Path) -> str:
    if not path.is_file():
        raise WeightsError(f"{path}: no such projection file; `fec project` makes one")
    return file_digests([path])[0]


def _dense_digest(weights: Weights) -> str:
    files = [path for place in dense_files(weights.folder) for path in place]
    return hashlib.sha256("\n".join(file_digests(files)).encode()).hexdigest()
