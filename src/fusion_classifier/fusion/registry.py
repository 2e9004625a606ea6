"""Registry of heads, given by name, configuration or object (docs/extend.md)."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from fusion_classifier.config import (
    HEAD_CONFIGS,
    OBJECT_HEAD_CONFIGS,
    EnsembleConfig,
    FusionConfig,
    HeadConfig,
    LinearConfig,
    LlmEmbedConfig,
    ModuleConfig,
    SklearnConfig,
)
from fusion_classifier.errors import UsageError
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.ensemble import EnsembleHead
from fusion_classifier.fusion.fusion import FusionHead
from fusion_classifier.fusion.head import Head
from fusion_classifier.fusion.linear import LinearHead
from fusion_classifier.fusion.llmembed import LlmEmbedHead
from fusion_classifier.fusion.module import ModuleHead, module_config
from fusion_classifier.fusion.scikit_learn import SklearnHead, is_classifier, sklearn_config
from fusion_classifier.support.validation import checked

HeadClass = TypeVar("HeadClass", bound=type[Head])

HEADS: dict[type[HeadConfig], Callable[..., Head]] = {
    EnsembleConfig: EnsembleHead,
    FusionConfig: FusionHead,
    LinearConfig: LinearHead,
    LlmEmbedConfig: LlmEmbedHead,
    SklearnConfig: SklearnHead,
    ModuleConfig: ModuleHead,
}


def register_head(config_class: type[HeadConfig]) -> Callable[[HeadClass], HeadClass]:
    """Class decorator: registers a head for a configuration class, under the default of its `name`.

    Raises:
        UsageError: It has no name, or the name is taken.
    """
    name = config_class.model_fields["name"].default
    if not isinstance(name, str):
        raise UsageError(f"{config_class.__name__}: give `name` a default, the name of the head")
    before = (HEAD_CONFIGS | OBJECT_HEAD_CONFIGS).get(name)
    # The same class again: a reloaded module, or a notebook cell that was run twice.
    if before is not None and _path(before) != _path(config_class):
        raise UsageError(f"{config_class.__name__}: a head {name!r} is already registered ({_path(before)})")

    def register(head_class: HeadClass) -> HeadClass:
        config_class.defined_in = head_class.__module__
        HEAD_CONFIGS[name] = config_class
        HEADS[config_class] = head_class
        return head_class

    return register


def head_names() -> list[str]:
    """Names of all heads."""
    return sorted(HEAD_CONFIGS)


def parse_head(name: str, **options: object) -> HeadConfig:
    """Configuration of a head by name, with the options that are not None.

    Raises:
        UsageError: Unknown head, unknown option, or invalid value.
    """
    if name not in HEAD_CONFIGS:
        raise UsageError(f"`head`: unknown head {name!r}; choose from {', '.join(head_names())}")
    given = {key: value for key, value in options.items() if value is not None}
    fields = HEAD_CONFIGS[name].model_fields
    for key in given:
        if key not in fields:
            raise UsageError(f"`{key}`: head {name} has no {key}")
    return checked(HEAD_CONFIGS[name], given)


def head_config(head: object) -> HeadConfig:
    """Configuration of a head.

    Args:
        head: Name; `HeadConfig`; `Head` or a registered class of it; scikit-learn classifier with `predict_proba`;
            torch module; or a class or function that returns a torch module for shapes and number of labels.

    Raises:
        UsageError: None of these.
    """
    if isinstance(head, str):
        return parse_head(head)
    if isinstance(head, HeadConfig):
        return head
    if isinstance(head, Head):
        return head.config
    if isinstance(head, type) and issubclass(head, Head):
        found = next((config for config, head_class in HEADS.items() if head_class is head), None)
        if found is None:
            raise UsageError(
                f"`head`: {head.__name__} is not registered; decorate it with @register_head(ITS_CONFIG)"
            )
        return checked(found, {})
    if is_classifier(head):
        if isinstance(head, type):
            raise UsageError(f"`head`: give an object, {head.__name__}(), not the class")
        return sklearn_config(head)
    if isinstance(head, nn.Module) or callable(head):
        return module_config(head)
    raise UsageError(
        f"`head`: give a name ({', '.join(head_names())}), a scikit-learn classifier, a torch module, "
        f"or a function that returns one, not {head!r}"
    )


def build_head(head: object, shapes: Mapping[str, FeatureShape], n_classes: int) -> Head:
    """A new head for features of these shapes and C labels; `head` as in `head_config`; an object is copied.

    Raises:
        UsageError: No head can be built from it.
    """
    config = head_config(head)
    if isinstance(head, Head):
        return copy.deepcopy(head)
    if type(config) not in HEADS:
        raise UsageError(f"`head`: no class is registered for {type(config).__name__}; use @register_head")
    described = isinstance(head, str | HeadConfig) or (isinstance(head, type) and issubclass(head, Head))
    given: tuple[Any, ...] = () if described else (head,)
    return HEADS[type(config)](config, shapes, n_classes, *given)


def _path(of: type) -> str:
    return f"{of.__module__}.{of.__qualname__}"
