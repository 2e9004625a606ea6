"""The configuration of `fec tune`."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fusion_classifier.config import FrozenModel, Seed

DEFAULT_LORA_RANK = 8


class TuneConfig(FrozenModel):
    """How `fec tune` trains an encoder: with AdamW; the learning rate rises during warm-up, then falls linearly to 0.

    Defaults that depend on the objective are filled in before validation, so that `epochs` and `batch_size` always
    have the values in use.
    """

    CONTRASTIVE: ClassVar[Mapping[str, int]] = {"epochs": 10, "batch_size": 64}

    objective: Literal["classification", "contrastive"] = "classification"
    """classification: with a linear layer on top; validation chooses the epoch. contrastive, for few rows: texts of
    the same label move closer together; nothing is held out, and the last epoch is kept."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 3
    """Number of epochs; with classification, the best by validation weighted F1 is kept. Default for contrastive:
    10."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate. Default: 5e-5; 1e-4 for models narrower than 768, 5e-4 with LoRA; 2e-4 for contrastive."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Number of texts per training step; contrastive pairs each with every other one. Default for contrastive: 64."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay for all weights except biases and norms."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Warm-up: share of all steps in which the learning rate rises from 0."""
    seed: Seed = 0
    """Seed of the classifier's initial weights, the order of batches and dropout."""
    lora_rank: Annotated[int, Field(ge=1)] | None = None
    """Rank of LoRA adapters, merged into the weights at the end. Default: all weights are trained."""
    label_names: bool = True
    """Whether contrastive also trains on the label names, one additional text each. Default: yes, for names with
    letters."""
    known_texts: bool = True
    """Whether the model keeps vectors of training texts (up to 2 MB) to detect unknown texts; needs a
    validation split."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        contrastive = isinstance(values, Mapping) and values.get("objective") == "contrastive"
        return {**cls.CONTRASTIVE, **values} if contrastive else values

    @model_validator(mode="after")
    def _check_objective(self) -> Self:
        if self.objective == "contrastive" and self.lora_rank is not None:
            raise ValueError("`lora_rank` requires `objective` classification")
        if self.objective == "contrastive" and self.batch_size < 4:
            raise ValueError("`batch_size` must be at least 4 with `objective` contrastive, which learns from pairs")
        return self
