"""Requests and answers, as in text-embeddings-inference.

Source: https://huggingface.github.io/text-embeddings-inference (OpenAPI of version 1), `/predict`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from fusion_classifier.config import TruncationSide
from fusion_classifier.serving.errors import ServiceError
from fusion_classifier.serving.model import ServedModel
from fusion_classifier.serving.settings import ServerSettings
from fusion_classifier.tasks.registry import task_of_model
from fusion_classifier.training.known import DEFAULT_RATE
from fusion_classifier.version import __version__

# Only described here: `Service.check_text` checks texts, since an empty one has its own type of error.
Text = Annotated[str, Field(json_schema_extra={"minLength": 1, "pattern": r"\S"})]
Single = Annotated[Text, Field(description="A text")]
OneText = Annotated[list[Text], Field(description="A text", json_schema_extra={"minItems": 1, "maxItems": 1})]
Batch = Annotated[list[OneText], Field(description="A batch", json_schema_extra={"minItems": 1})]


class PredictRequest(BaseModel):
    """Texts to classify."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    inputs: Single | OneText | Batch = Field(
        examples=["I like you. I love you", [["I like you."], ["I hate pineapples"]]]
    )
    """A string, or a batch [["a"], ["b"]]; pairs of strings are rejected."""
    raw_scores: StrictBool = False
    """Logits instead of calibrated probabilities."""
    truncate: StrictBool | None = Field(default=None, examples=[False])
    """Truncate texts that are too long instead of rejecting them. Default: the server's setting."""
    truncation_direction: Literal["left", "right", "Left", "Right"] = "right"
    """Side of the truncation: left drops the start, right the end."""
    reject_unknown: StrictBool = False
    """Detect texts that seem to belong to none of the labels; the label of such a text is null."""
    false_alarm_rate: float = Field(default=DEFAULT_RATE, gt=0, lt=1)
    """Share of known texts that `reject_unknown` may reject by mistake."""

    @property
    def is_batch(self) -> bool:
        """Whether the answer is a list of lists."""
        return isinstance(self.inputs, list) and (not self.inputs or isinstance(self.inputs[0], list))

    @property
    def side(self) -> TruncationSide:
        """The side on which texts are truncated."""
        return "left" if self.truncation_direction in ("left", "Left") else "right"

    @property
    def texts(self) -> list[str]:
        """The texts."""
        if isinstance(self.inputs, str):
            return [self.inputs]
        if not self.inputs:
            raise ServiceError("Empty", "Batch is empty")
        # ["a"] is one text, ["a", "b"] a pair.
        rows = [row for row in self.inputs if isinstance(row, list)] if self.is_batch else [self.inputs]
        if any(len(row) != 1 for row in rows):
            raise ServiceError("Validation", "`inputs` must be single texts: this model does not take pairs")
        return [str(row[0]) for row in rows]


class Prediction(BaseModel):
    """A label with its score."""

    score: float = Field(description="Calibrated probability, or with raw_scores the logit.", examples=[0.5])
    label: str | None = Field(description="Null with reject_unknown, for an unknown text.", examples=["admiration"])
    unknown: bool | None = Field(
        default=None, description="With reject_unknown: whether the text seems to belong to none of the labels."
    )
    unknown_score: float | None = Field(
        default=None, description="With reject_unknown: 0 for an average known text, higher for a less typical one."
    )


PredictResponse = Annotated[
    Annotated[list[Prediction], Field(title="Single")] | Annotated[list[list[Prediction]], Field(title="Batch")],
    Field(description="Labels, highest score first; for a batch one list per text. A rejected text has one entry."),
]


class ClassifierType(BaseModel):
    """The labels, in the format of text-embeddings-inference."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class ModelType(BaseModel):
    """The kind of model."""

    classifier: ClassifierType


class EncoderInfo(BaseModel):
    """An encoder."""

    name: str
    max_length: int = Field(description="Longest input in tokens")
    dtype: str
    fingerprint: str = Field(description="SHA-256 over the model's files")


class Info(BaseModel):
    """The model and the server's limits."""

    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    model_type: ModelType
    model_dtype: str
    id2label: dict[str, str]
    multilabel: bool = Field(description="Whether a text may have any number of labels")
    thresholds: dict[str, float] | None = Field(description="Multi-label: minimum probability for predicting a label")
    task: str = Field(description="Name of the data it was trained on")
    examples: list[str] = Field(
        description="Example texts: those of the server's settings, otherwise those of the task"
    )
    caveat: str = Field(description="What the labels do not mean; empty if the task has no such note")
    rejects_unknown: bool = Field(description="Whether the model can detect unknown texts")
    head: str
    encoders: list[EncoderInfo]
    max_input_length: int = Field(
        description="Maximum number of tokens, special tokens included, that all encoders read"
    )
    max_concurrent_requests: int
    max_client_batch_size: int
    max_batch_tokens: int
    max_text_characters: int
    payload_limit: int
    auto_truncate: bool
    version: str

    @classmethod
    def of(cls, model: ServedModel, settings: ServerSettings) -> "Info":
        """Information about a server."""
        config = model.classifier.config_
        task = task_of_model(config.task, model.labels)
        id2label = {str(index): label for index, label in enumerate(model.labels)}
        thresholds = config.decision.thresholds
        encoders = [
            EncoderInfo(
                name=encoder.name,
                max_length=encoder.max_length,
                dtype=encoder.dtype,
                fingerprint=encoder.fingerprint,
            )
            for encoder in model.encoders
        ]
        return cls(
            model_id=model.name,
            model_type=ModelType(
                classifier=ClassifierType(
                    id2label=id2label, label2id={label: index for index, label in enumerate(model.labels)}
                )
            ),
            model_dtype="+".join(sorted({encoder.dtype for encoder in encoders})),
            id2label=id2label,
            multilabel=config.decision.multilabel,
            thresholds=None if thresholds is None else dict(zip(model.labels, thresholds, strict=True)),
            task=config.task,
            examples=list(settings.example or (task.examples if task else ())),
            caveat=task.caveat if task else "",
            rejects_unknown=model.classifier.known_ is not None,
            head=config.head.name,
            encoders=encoders,
            max_input_length=model.max_input_length,
            version=__version__,
            **settings.model_dump(include=cls.model_fields.keys() & ServerSettings.model_fields.keys()),
        )
