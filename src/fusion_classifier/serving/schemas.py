"""What goes over the wire, as in text-embeddings-inference.

Source: https://huggingface.github.io/text-embeddings-inference (OpenAPI of version 1), `/predict`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, field_validator

ErrorType = Literal[
    "Backend", "Empty", "NotFound", "Overloaded", "Tokenizer", "Unauthorized", "Unhealthy", "Validation"
]
ERROR_STATUS: dict[ErrorType, int] = {
    "Empty": 400,
    "Unauthorized": 401,
    "NotFound": 404,
    "Validation": 422,
    "Tokenizer": 422,
    "Backend": 424,
    "Overloaded": 429,
    "Unhealthy": 503,
}


class ServiceError(Exception):
    """An answer that is an error; its message never holds a text, a path or a stack."""

    def __init__(self, error_type: ErrorType, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.error_type, self.message, self.status = error_type, message, status or ERROR_STATUS[error_type]


class ErrorResponse(BaseModel):
    """An error."""

    error: str = Field(examples=["Model is overloaded"])
    error_type: ErrorType = Field(examples=["Overloaded"])


class Prediction(BaseModel):
    """A label with its score."""

    score: float = Field(description="Calibrated probability, or with raw_scores the logit.", examples=[0.5])
    label: str = Field(examples=["admiration"])


# What the schema says of a text is checked further down, where an empty one gets its own kind of error.
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
    """A string, or a batch [["a"], ["b"]]; pairs of strings are refused."""
    raw_scores: StrictBool = False
    """Logits instead of calibrated probabilities."""
    truncate: StrictBool | None = Field(default=None, examples=[False])
    """Cut texts that are too long instead of refusing them; what the server was started with unless given."""
    truncation_direction: Literal["left", "right", "Left", "Right"] = "right"
    """Where they are cut: left loses the start, right the end."""

    @field_validator("inputs")
    @classmethod
    def _is_unicode(cls, value: Any) -> Any:
        for text in _strings(value):
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValueError("half a surrogate pair is no valid Unicode") from None
        return value

    @property
    def is_batch(self) -> bool:
        """Whether the answer is a list of lists."""
        return isinstance(self.inputs, list) and (not self.inputs or isinstance(self.inputs[0], list))

    @property
    def texts(self) -> list[str]:
        """The texts.

        Raises:
            ServiceError: a pair, none, or an empty one.
        """
        rows = self.inputs if isinstance(self.inputs, list) else [self.inputs]
        if not self.is_batch:  # ["a"] is one text, ["a", "b"] a pair
            rows = [[text for text in rows if isinstance(text, str)]]
        found = []
        for row in rows:
            if len(row) != 1:
                raise ServiceError("Validation", "`inputs` must be single texts: this model does not take pairs")
            if not row[0].strip():
                raise ServiceError("Empty", "`inputs` cannot be empty")
            found.append(row[0])
        if not found:
            raise ServiceError("Empty", "Batch is empty")
        return found


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [text for one in value for text in _strings(one)]


PredictResponse = Annotated[
    Annotated[list[Prediction], Field(title="Single")] | Annotated[list[list[Prediction]], Field(title="Batch")],
    Field(description="Labels by falling score; for a batch one list a text"),
]


class ClassifierType(BaseModel):
    """The kind of model, as text-embeddings-inference says it."""

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
    thresholds: dict[str, float] | None = Field(description="Multi-label: probability from which a label is given")
    head: str
    encoders: list[EncoderInfo]
    max_input_length: int = Field(description="Tokens of a text, special tokens included, that all encoders read")
    max_concurrent_requests: int
    max_client_batch_size: int
    max_batch_tokens: int
    max_text_characters: int
    payload_limit: int
    auto_truncate: bool
    version: str
