"""A plain torch module as a head.

The module is called with the batch and returns logits:

    class Mine(nn.Module):
        reads = "pooled"                                     # or "tokens"; default: "pooled"

        def __init__(self, shapes, n_classes): ...           # FeatureShape by encoder name, number of labels C

        def forward(self, batch): ...                        # features of B texts by encoder name -> logits (B, C)

A class or function is called for every training run; an instance is copied, and training starts from its weights.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, get_args

from torch import Tensor, nn

from fusion_classifier.config import FeatureKind, ModuleConfig
from fusion_classifier.errors import UsageError
from fusion_classifier.features.arrays import FeatureShape, TokenStates
from fusion_classifier.fusion.head import Batch, Head

Factory = Callable[[Mapping[str, FeatureShape], int], nn.Module]


class ModuleHead(Head):
    """Wraps `given`, a module or a function or class that returns one; see the module's docstring."""

    def __init__(
        self, config: ModuleConfig, shapes: Mapping[str, FeatureShape], n_classes: int, given: nn.Module | Factory
    ) -> None:
        super().__init__(config, shapes, n_classes)
        self.config: ModuleConfig = config
        module: Any = copy.deepcopy(given) if isinstance(given, nn.Module) else given(dict(shapes), n_classes)
        if not isinstance(module, nn.Module):
            raise UsageError(f"`head`: {config.class_path} returns a {type(module).__name__}, not a torch module")
        if not any(parameter.requires_grad for parameter in module.parameters()):
            raise UsageError(f"`head`: {config.class_path} has no parameters to train")
        self.module = module

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C)."""
        logits, first = self.module(batch), next(iter(batch.values()))
        count = len(first) if isinstance(first, TokenStates) else first.shape[0]  # len would be a constant in a graph
        expected = (count, self.n_classes)
        if not isinstance(logits, Tensor) or logits.shape != expected:
            found = f"of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise UsageError(
                f"`head`: {self.config.class_path} must return one logit per text and label, "
                f"a tensor of shape {expected}; it returned {found}"
            )
        return logits.float()


def module_config(given: Any) -> ModuleConfig:
    """Configuration of a module, class or function."""
    named = type(given) if isinstance(given, nn.Module) else given
    reads: Any = getattr(given, "reads", "pooled")
    if reads not in get_args(FeatureKind):
        raise UsageError(f"`head`: `reads` must be one of {', '.join(get_args(FeatureKind))}, not {reads!r}")
    name = getattr(named, "__qualname__", type(named).__qualname__)
    return ModuleConfig(class_path=f"{named.__module__}.{name}", features=reads)
