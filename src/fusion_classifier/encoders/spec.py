"""Parses encoders given by the user.

    NAME                     a preset, a Hub id, a local folder or a GGUF file
    NAME=PATH                a preset with its weights from a folder or file
    …?layers=2,4,6&pooling=tokens
                             settings of this encoder, as in a URL's query

In Python also an `EncoderConfig`, or an object that turns texts into arrays (`fusion_classifier.encoders.protocol`).

Settings that are not given follow from the pooling and, without one, from what the head reads:

    pooling given    head reads    settings not given
    none             tokens        token states of the default layers (`_for_tokens`)
    none             pooled        those with which the model was published: the preset's, or the ones that a
                                   sentence-transformers folder records (`_as_published`)
    tokens           either        token states, as in the first row
    mean, first, …   either        as published without dense layers; if a folder has a prompt, dense layers or pooled
                                   special tokens, which belong to its own pooling, the defaults (`_for_pooling`)

The name of an encoder includes the settings that differ from those of the first two rows.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import ValidationError

from fusion_classifier.config import EncoderConfig, FeatureKind
from fusion_classifier.encoders.presets import PRESETS
from fusion_classifier.encoders.protocol import Encoder, as_encoder, is_encoder
from fusion_classifier.encoders.sentence_settings import folder_reader, hub_reader, sentence_settings
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.support.files import user_path
from fusion_classifier.support.hub import is_hub_id
from fusion_classifier.support.validation import first_problem

MAX_LAYERS = 1000
SETTINGS = (
    "layers", "pooling", "template", "max_length", "long", "dtype", "quantization", "projection",
    "pool_special_tokens", "dense", "revision",
)  # fmt: skip

Named = TypeVar("Named", bound=EncoderConfig | Encoder)


@dataclass(frozen=True)
class Spec:
    """An encoder as given: a model with its path, and the settings given for it, by field."""

    model: str
    path: str | None
    given: Mapping[str, Any]


def parse_layers(value: str) -> tuple[int, ...]:
    """Layers written as `-5,-4,-1` or as a range `-5:-1`, both ends included."""
    try:
        if ":" in value:
            first, last = (int(part) for part in value.split(":"))
            if first <= last < first + MAX_LAYERS and (first < 0) == (last < 0):
                return tuple(range(first, last + 1))
            raise ValueError(value)
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise UsageError(f"`layers` {value!r}: give numbers such as -1 or 2,4,6, or a range such as -5:-1") from None


def parse_encoder(
    spec: str,
    defaults: Mapping[str, str | None] | None = None,
    *,
    features: FeatureKind = "pooled",
    where: str = "encoders",
) -> EncoderConfig:
    """The configuration of one encoder.

    Args:
        spec: See the module's docstring.
        defaults: Settings for encoders that do not set their own, as strings; None means not given.
        features: Kind of features if no pooling is given. Default: pooled.
        where: Name of the parameter in errors. Default: encoders.

    Raises:
        UsageError: A setting or value that does not exist.
    """
    shown = f"`{where}`: {spec!r}"
    model, path, own = _split(spec, shown)
    settings = {key: value for key, value in (defaults or {}).items() if value is not None} | own
    unknown = [key for key in settings if key not in SETTINGS]
    if unknown:
        raise UsageError(f"{shown}: unknown setting {unknown[0]!r}; the settings are {', '.join(SETTINGS)}")
    parsed = Spec(model, path, _from_words(settings))
    if features == "pooled" and "pooling" not in settings:
        _recorded(parsed)  # raises an error if its features are something else
    return _configured(parsed, features, shown)


def _split(spec: str, shown: str) -> tuple[str, str | None, dict[str, str]]:
    """Model, path and settings of `MODEL=PATH?setting=value`; `shown` begins errors."""
    given, _, query = spec.partition("?")
    model, sign, path = given.partition("=")
    if sign and user_path(given).exists():  # a folder such as runs/lr=1e-5
        model, sign, path = given, "", ""
    if sign and not path:
        raise UsageError(f"{shown}: the path after '=' is empty")
    if not model:
        raise UsageError(f"{shown}: give a name before '=' or '?'")
    settings: dict[str, str] = {}
    for key, value in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True):
        setting = key.replace("-", "_")
        if setting in settings:
            raise UsageError(f"{shown}: {key} is given twice")
        settings[setting] = value
    return model, path or None, settings


def as_encoders(specs: Any, *, features: FeatureKind = "pooled") -> tuple[EncoderConfig | Encoder, ...]:
    """One encoder or several, given as strings, `EncoderConfig` values or objects.

    Args:
        specs: An encoder, or a sequence of encoders.
        features: Kind of features if no pooling is given. Default: pooled.

    Raises:
        UsageError: Not an encoder, no encoder at all, or two with the same name.
    """
    encoders: list[EncoderConfig | Encoder] = []
    for number, spec in enumerate([specs] if is_encoder(specs) else list(specs)):
        where = f"encoders[{number}]"
        if isinstance(spec, EncoderConfig):
            encoders.append(spec)
        elif isinstance(spec, str):
            encoders.append(parse_encoder(spec, features=features, where=where))
        else:
            try:
                encoders.append(as_encoder(spec))
            except UsageError as error:
                raise UsageError(f"`{where}`: {error}") from error
    return _distinct(encoders)


def parse_encoders(
    specs: Sequence[str], defaults: Mapping[str, str | None] | None = None, *, features: FeatureKind = "pooled"
) -> tuple[EncoderConfig, ...]:
    """At least one encoder, given as strings, with distinct names; arguments and errors as in `parse_encoder`."""
    return _distinct([parse_encoder(spec, defaults, features=features) for spec in specs])


def changed_encoders(
    encoders: Sequence[EncoderConfig],
    settings: Mapping[str, str],
    *,
    old_features: FeatureKind,
    new_features: FeatureKind,
) -> tuple[EncoderConfig, ...]:
    """Encoders with some settings changed, and renamed accordingly.

    Args:
        encoders: Encoders of a head that reads `old_features`.
        settings: Changed settings, as strings.
        old_features: Previous kind of features if no pooling is given.
        new_features: New kind of features if no pooling is given.
    """
    if not settings and old_features == new_features:
        return tuple(encoders)
    changed = []
    for config in encoders:
        model = Spec(config.model, config.path, {})
        usual = _for_tokens(model) if config.pooling == "tokens" else _as_published(model)
        given = {key: getattr(config, key) for key in SETTINGS if getattr(config, key) != getattr(usual, key)}
        if config.pooling != _without_settings(model, old_features).pooling:
            given["pooling"] = config.pooling
        spec = Spec(config.model, config.path, given | _from_words(settings))
        changed.append(_configured(spec, new_features, f"`encoders`: {config.name!r}"))
    return _distinct(changed)


def _from_words(given: Mapping[str, str]) -> dict[str, Any]:
    """Settings as values of a configuration."""
    fields: dict[str, Any] = dict(given)
    if "layers" in given:
        fields["layers"] = parse_layers(given["layers"])
    if "template" in given:
        fields["template"] = given["template"].replace("\\n", "\n")
    return fields


def _configured(spec: Spec, features: FeatureKind, shown: str) -> EncoderConfig:
    """The configuration of an encoder for a head that reads `features`; `shown` begins errors."""
    base = usual = _without_settings(spec, features)
    if "pooling" in spec.given:
        base = _for_tokens(spec) if spec.given["pooling"] == "tokens" else _for_pooling(spec)
    try:
        config = EncoderConfig.model_validate(base.model_dump() | dict(spec.given) | {"path": spec.path or base.path})
    except ValidationError as error:
        raise UsageError(": ".join(filter(None, (shown, *first_problem(error))))) from None
    return config.model_copy(update={"name": _name(usual, config)})


def _without_settings(spec: Spec, features: FeatureKind) -> EncoderConfig:
    """The model's configuration if no setting is given."""
    return _for_tokens(spec) if features == "tokens" else _as_published(spec)


def _for_tokens(spec: Spec) -> EncoderConfig:
    return _preset(spec).model_copy(update={"pooling": "tokens", "layers": None, "dense": False})


def _as_published(spec: Spec) -> EncoderConfig:
    with suppress(FecError):
        return _preset(spec).model_copy(update=_recorded(spec))
    return _preset(spec)


def _for_pooling(spec: Spec) -> EncoderConfig:
    with suppress(FecError):
        recorded = _recorded(spec)
        if not recorded.keys() & {"template", "dense", "pool_special_tokens"}:
            return _preset(spec).model_copy(update=recorded | {"dense": False})
    return _preset(spec).model_copy(update={"dense": False})


def _preset(spec: Spec) -> EncoderConfig:
    """The preset, or the defaults for any other model."""
    return PRESETS[spec.model].config if spec.model in PRESETS else EncoderConfig(name=spec.model, model=spec.model)


def _recorded(spec: Spec) -> dict[str, Any]:
    """Settings recorded by a sentence-transformers model in a folder or on the Hub; none for a preset."""
    if spec.model in PRESETS:
        return {}
    local = user_path(spec.path or spec.model)
    if spec.path is None and not local.exists() and is_hub_id(spec.model):
        return sentence_settings(hub_reader(spec.model, spec.given.get("revision")), spec.model)
    return sentence_settings(folder_reader(local), str(local))


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
    # A folder or file has the name of its last part: its place on this machine is private.
    path = user_path(model)
    return path.resolve().name if path.exists() else model


def _distinct(encoders: Sequence[Named]) -> tuple[Named, ...]:
    if not encoders:
        raise UsageError("`encoders`: give at least one (`fec encoders` lists the presets)")
    names = [encoder.name for encoder in encoders]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise UsageError(f"`encoders[{number}]`: {name} is given twice")
    return tuple(encoders)
