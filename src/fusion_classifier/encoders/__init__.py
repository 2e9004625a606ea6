"""Encoders: frozen models that turn a text into a feature."""

from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.encode import Side, batch_a_core, encode, tokenize
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.loading import Encoder, load_encoder, load_identified
from fusion_classifier.encoders.presets import PRESETS, Preset
from fusion_classifier.encoders.spec import parse_encoder, parse_encoders
from fusion_classifier.encoders.weights import describe_presets

__all__ = [
    "PRESETS",
    "Encoder",
    "EncoderIdentity",
    "Preset",
    "Side",
    "batch_a_core",
    "describe_presets",
    "encode",
    "identify",
    "load_encoder",
    "load_identified",
    "parse_encoder",
    "parse_encoders",
    "resolve_device",
    "tokenize",
]
