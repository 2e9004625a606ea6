"""The configuration of `fec tune`."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fusion_classifier.config import FrozenModel

DEFAULT_LORA_RANK = 8


class TuneConfig(FrozenModel):
    """How `fec tune` trains an encoder: by AdamW; the learning rate rises in a warm-up and falls linearly to 0.

    Defaults that depend on the objective are filled in before validation, so that `epochs` and `batch_size` always
    say what is done.
    """

    CONTRASTIVE: ClassVar[Mapping[str, int]] = {"epochs": 10, "batch_size": 64}

    objective: Literal["classification", "contrastive"] = "classification"
    """classification: with a linear layer on top; validation chooses the epoch. contrastive, for few rows: texts of
    the same label come nearer to each other; nothing is held out, and the last epoch is kept."""
    epochs: Annotated[int, Field(ge=1)] = 3
    """Number of passes over the training split; of classification the best by validation weighted F1 is kept.
    Default of contrastive: 10."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Highest learning rate. Default: 5e-5; 1e-4 for models narrower than 768, 5e-4 with LoRA; 2e-4 of
    contrastive."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Number of texts per training step; contrastive pairs each of them with every other one. Default of contrastive:
    64."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay of all weights except biases and norms."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of all steps in which the learning rate rises from 0."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the classifier's initial weights, the order of batches and dropout."""
    lora_rank: Annotated[int, Field(ge=1)] | None = None
    """Rank of LoRA adapters, merged into the weights at the end. Default: all weights are trained."""
    label_names: bool = True
    """Whether contrastive also learns from the labels' names, one more text for each. Default: yes, of names with
    letters."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        contrastive = isinstance(values, Mapping) and values.get("objective") == "contrastive"
        return {**cls.CONTRASTIVE, **values} if contrastive else values

    @model_validator(mode="after")
    def _check_objective(self) -> Self:
        if self.objective == "contrastive" and self.lora_rank is not None:
            raise ValueError("`lora_rank` goes with `objective` classification")
        if self.objective == "contrastive" and self.batch_size < 4:
            raise ValueError("`batch_size` must be at least 4 with `objective` contrastive, which learns from pairs")
        return self
