"""Heads by name."""

from collections.abc import Mapping

from pydantic import ValidationError

from fusion_classifier.config import HEAD_CONFIGS, FusionConfig, HeadConfig, LlmEmbedConfig
from fusion_classifier.errors import UsageError
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.fusion import FusionHead
from fusion_classifier.fusion.head import Head
from fusion_classifier.fusion.linear import LinearHead
from fusion_classifier.fusion.llmembed import LlmEmbedHead


def build_head(config: HeadConfig, shapes: Mapping[str, FeatureShape], n_classes: int) -> Head:
    """A new, untrained head for these features."""
    if isinstance(config, FusionConfig):
        return FusionHead(config, shapes, n_classes)
    if isinstance(config, LlmEmbedConfig):
        return LlmEmbedHead(config, shapes, n_classes)
    return LinearHead(shapes, n_classes)


def parse_head(name: str, **options: object) -> HeadConfig:
    """A head's configuration by name; options that are None are not given.

    Raises:
        UsageError: no such head, or an option that it does not have.
    """
    if name not in HEAD_CONFIGS:
        raise UsageError(f"no head {name!r}; there are {', '.join(HEAD_CONFIGS)}")
    given = {key: value for key, value in options.items() if value is not None}
    fields = HEAD_CONFIGS[name].model_fields
    for key in given:
        if key not in fields:
            raise UsageError(f"head {name} has no {key}")
    try:
        return HEAD_CONFIGS[name].model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        where = f"{problem['loc'][0]}: " if problem["loc"] else ""
        raise UsageError(f"head {name}: {where}{problem['msg']}") from None
