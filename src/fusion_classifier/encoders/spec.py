"""Encoders as the user writes them.

    NAME                     a preset, a Hub id, a local folder or a GGUF file
    NAME=PATH                a preset with its weights from a folder or file
    …?layers=2,4,6&pooling=tokens
                             settings of this encoder, as in a URL's query

Settings given for the whole command (`--pooling tokens`) hold for every encoder that does not set its own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from pydantic import ValidationError

from fusion_classifier.config import EncoderConfig, FeatureKind
from fusion_classifier.encoders.presets import PRESETS
from fusion_classifier.errors import UsageError
from fusion_classifier.support.files import user_path

MOST_LAYERS = 1000
SETTINGS = (
    "layers",
    "pooling",
    "template",
    "max_length",
    "dtype",
    "quantization",
    "projection",
    "pool_special_tokens",
    "revision",
)


def parse_layers(value: str) -> tuple[int, ...]:
    """`-5,-4,-1` or a range `-5:-1`, both ends included."""
    try:
        if ":" in value:
            first, last = (int(part) for part in value.split(":"))
            if first <= last < first + MOST_LAYERS and (first < 0) == (last < 0):
                return tuple(range(first, last + 1))
            raise ValueError(value)
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise UsageError(f"layers {value!r}: write numbers such as -1 or 2,4,6, or a range such as -5:-1") from None


def parse_encoder(
    spec: str, defaults: Mapping[str, str | None] | None = None, *, features: FeatureKind = "pooled"
) -> EncoderConfig:
    """The configuration of one encoder.

    Args:
        spec: see the module's docstring.
        defaults: settings for the whole command, as strings; None means not given.
        features: what to take from the encoder where neither says a pooling.

    Raises:
        UsageError: a setting or value that does not exist.
    """
    model, _, query = spec.partition("?")
    model, sign, path = model.partition("=")
    if sign and not path:
        raise UsageError(f"--encoder {spec!r}: the path after '=' is empty")
    if not model:
        raise UsageError(f"--encoder {spec!r}: give a name before '=' or '?'")
    given = {key: value for key, value in (defaults or {}).items() if value is not None}
    own: dict[str, str] = {}
    for key, value in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True):
        setting = key.replace("-", "_")
        if setting in own:
            raise UsageError(f"--encoder {spec!r}: {key} is given twice")
        own[setting] = value
    given |= own
    unknown = [key for key in given if key not in SETTINGS]
    if unknown:
        raise UsageError(f"--encoder {spec!r}: no setting {unknown[0]!r}; there are {', '.join(SETTINGS)}")

    return _configured(model, path or None, _from_words(given), features, spec)


def _from_words(given: Mapping[str, str]) -> dict[str, Any]:
    """Settings as they stand in a configuration."""
    fields: dict[str, Any] = dict(given)
    if "layers" in given:
        fields["layers"] = parse_layers(given["layers"])
    if "template" in given:
        fields["template"] = given["template"].replace("\\n", "\n")
    return fields


def _configured(
    model: str, path: str | None, given: Mapping[str, Any], features: FeatureKind, shown: str
) -> EncoderConfig:
    """The configuration of a model with these settings; `shown` names it in errors."""
    usual = _usual(model, features)  # a name says what differs from it
    base = _usual(model, "tokens") if given.get("pooling", usual.pooling) == "tokens" else _usual(model, "pooled")
    try:
        config = EncoderConfig.model_validate(base.model_dump() | dict(given) | {"path": path or base.path})
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"][:1])
        message = problem["msg"].removeprefix("Value error, ")
        if field == "template":
            message = "must contain {text}, the place of the text"
        if field == "pooling":
            message = "give tokens, pooler, or some of mean, max, first, last joined by +"
        raise UsageError(f"--encoder {shown!r}: {field + ': ' if field else ''}{message}") from None
    return config.model_copy(update={"name": _name(usual, config)})


def _usual(model: str, features: FeatureKind) -> EncoderConfig:
    """A model's configuration where nothing is given."""
    base = PRESETS[model].config if model in PRESETS else EncoderConfig(name=model, model=model)
    return base.model_copy(update={"pooling": "tokens", "layers": None}) if features == "tokens" else base


def changed_encoders(
    encoders: Sequence[EncoderConfig], settings: Mapping[str, str], *, read: FeatureKind, features: FeatureKind
) -> tuple[EncoderConfig, ...]:
    """Encoders with some settings changed, and named anew.

    Args:
        encoders: Encoders of a head that reads `read`.
        settings: Changed settings, as strings.
        read: What was taken from an encoder with no pooling given.
        features: What is taken now.

    Raises:
        UsageError: A setting or value that does not exist, or two encoders that are the same then.
    """
    if not settings and read == features:
        return tuple(encoders)
    changed = []
    for config in encoders:
        base = _usual(config.model, "tokens" if config.pooling == "tokens" else "pooled")
        own = {key: getattr(config, key) for key in SETTINGS if getattr(config, key) != getattr(base, key)}
        if config.pooling != _usual(config.model, read).pooling:
            own["pooling"] = config.pooling
        given = own | _from_words(settings)
        changed.append(_configured(config.model, config.path, given, features, config.name))
    return _distinct(changed)


def _name(base: EncoderConfig, config: EncoderConfig) -> str:
    """The model's short name, with the settings that differ from its defaults."""
    label = base.name if base.name in PRESETS else _short(base.model)
    changed = []
    for key in SETTINGS:
        value = getattr(config, key)
        if value is not None and value != getattr(base, key):
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value).replace("\n", "\\n")
            if key == "projection":
                shown = Path(shown).stem
            changed.append(f"{key}={shown}")
    return label + ("?" + "&".join(changed) if changed else "")


def _short(model: str) -> str:
    # A folder or file is named by its last part: its place on this machine is nobody else's business.
    path = user_path(model)
    return path.resolve().name if path.exists() else model


def parse_encoders(
    specs: list[str], defaults: Mapping[str, str | None] | None = None, *, features: FeatureKind = "pooled"
) -> tuple[EncoderConfig, ...]:
    """Several encoders, each with a name of its own.

    Raises:
        UsageError: none given, or one given twice.
    """
    if not specs:
        raise UsageError("give at least one --encoder (fec encoders lists those with a name)")
    return _distinct([parse_encoder(spec, defaults, features=features) for spec in specs])


def _distinct(configs: Sequence[EncoderConfig]) -> tuple[EncoderConfig, ...]:
    names = [config.name for config in configs]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"encoder {name} is given twice")
    return tuple(configs)
