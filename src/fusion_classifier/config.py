"""Configuration: frozen values; the docstring of a field is its `--help` on the command line.

A configuration says everything that decides a result. It is compared, hashed, written to `config.yaml` and
read back; nothing in it refers to a loaded model.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypedDict

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    model_validator,
)

VECTOR_POOLINGS = ("mean", "max", "first", "last")  # their functions: fusion_classifier.encoders.pooling
_ONE = "|".join(VECTOR_POOLINGS)
Pooling = Annotated[str, Field(pattern=rf"^(tokens|pooler|({_ONE})(\+({_ONE}))*)$")]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]
Quantization = Literal["none", "int8"]
Device = Literal["auto", "cpu", "cuda", "mps"]


ProjectionKind = Literal["pca", "random", "none"]
FeatureKind = Literal["tokens", "pooled"]


class FrozenModel(BaseModel):
    """A pydantic model that can't be changed and refuses fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def field_help(model: type[BaseModel], field: str) -> str:
    """The docstring of a configuration field, for the command line."""
    description = model.model_fields[field].description
    if description is None:
        raise TypeError(f"{model.__name__}.{field} has no docstring")
    return description


class EncoderConfig(FrozenModel):
    """One frozen encoder: a model and what is taken from it.

    Two encoders are the same exactly if their model files and the fields from `layers` to
    `pool_special_tokens` are (`fusion_classifier.encoders.identity`); `name`, `model`, `revision` and `path`
    only say how to find the files and what to call them.
    """

    name: str
    """What the encoder is called in tables and files; unique within a run."""
    model: str
    """Preset name, Hub id, local folder or GGUF file."""
    revision: str | None = None
    """Branch, tag or commit on the Hub; the Hub's default branch unless given."""
    path: str | None = None
    """Local folder or GGUF file to take the weights from, instead of looking for them."""
    layers: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    """Hidden states to keep: 0 is the embedding output, -1 the last layer (after the final norm where the
    model has one). Unless given: the last; with pooling tokens those at a third, two thirds and the end."""
    pooling: Pooling = "mean"
    """mean, max, first ([CLS]), last: one vector a layer, several of one pass of the model if joined by +
    (mean+last); pooler: the model's own; tokens: every token's states."""
    template: Annotated[str, Field(pattern=r"\{text\}")] = "{text}"
    """Prompt around the text; must contain {text}. Write a line break as \\n. Of several with || between them
    the features are averaged."""
    max_length: Annotated[int, Field(ge=4)] = 256
    """Longest input in tokens, special tokens and template included; a longer text is cut at its end."""
    dtype: Dtype = "auto"
    """Computing precision. auto: bfloat16 where the processor has it, else float32."""
    quantization: Quantization = "none"
    """int8: the weights of linear layers in 8 bits, half the memory, products in the computing precision; needs
    the extra int8."""
    projection: str | None = None
    """File written by fec project: states are projected to fewer dimensions, or kept in 8 bits."""
    pool_special_tokens: bool | None = None
    """Whether `mean` and `tokens` take in the special tokens that the tokenizer adds. Unless given: yes for
    models with a [CLS] token (as they were trained), no for decoders such as Llama, whose start token has the
    same huge state whatever the text."""

    @property
    def poolings(self) -> tuple[str, ...]:
        """The poolings by themselves."""
        return tuple(self.pooling.split("+"))

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates by themselves."""
        return tuple(self.template.split("||"))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.poolings)) < len(self.poolings):
            raise ValueError(f"pooling {self.pooling} names one twice")
        if not all("{text}" in template for template in self.templates):
            raise ValueError("each template must contain {text}, the place of the text")
        if len(self.templates) > 1 and self.pooling == "tokens":
            raise ValueError("tokens of several templates can't be averaged; give one template, or another pooling")
        return self


class HeadConfig(FrozenModel):
    """Configuration of a head: the base class. A subclass gives `name` a default and may set `reads`."""

    reads: ClassVar[FeatureKind] = "pooled"
    """Features that the head needs: `tokens` (the states of all tokens) or `pooled` (a vector per layer)."""
    file: ClassVar[str] = "model.safetensors"
    """Name of the file in a model folder that holds the trained head."""
    defined_in: ClassVar[str | None] = None
    """Module to import before the head can be used; None for the heads of this package."""
    name: str
    """Name of the head."""


class FusionConfig(HeadConfig):
    """Head `fusion`: attentive pooling over the token states of every encoder, then structured fusion."""

    reads: ClassVar[FeatureKind] = "tokens"
    name: Literal["fusion"] = "fusion"
    width: Annotated[int, Field(ge=8)] = 256
    """Width to which every encoder's tokens are projected."""
    cooccurrence: Annotated[int, Field(ge=0)] = 0
    """Number of subspaces of the co-occurrence pooling between encoders; 0 switches it off."""
    clip: Annotated[float, Field(gt=0)] = 8.0
    """Number of standard deviations at which standardized states are clipped (massive activations)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Dropout rate of the pooled vectors."""
    token_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout rate of the projected tokens."""
    state_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of the encoders' states that are dropped in a training step, the same for all tokens."""
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of tokens that get no attention in a training step."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.cooccurrence and self.width % self.cooccurrence:
            raise ValueError(f"`width` {self.width} must be a multiple of `cooccurrence` {self.cooccurrence}")
        return self


class LlmEmbedConfig(HeadConfig):
    """Head `llmembed`: the published classifier (LLMEmbed, ACL 2024)."""

    name: Literal["llmembed"] = "llmembed"
    width: Annotated[int, Field(ge=1)] = 1024
    """Width to which each LLM layer is compressed before co-occurrence pooling."""
    sigma: Annotated[float, Field(gt=0)] = 1.0
    """Slope of the power normalization 2·sigmoid(sigma·x) − 1."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Dropout rate after each hidden layer."""


class LinearConfig(HeadConfig):
    """Head `linear`: multinomial logistic regression on standardized features."""

    name: Literal["linear"] = "linear"


class SklearnConfig(HeadConfig):
    """A scikit-learn classifier that was given as an object. Saved by skops."""

    file: ClassVar[str] = "head.skops"
    name: Literal["scikit-learn"] = "scikit-learn"
    class_path: str
    """Class of the classifier."""


class ModuleConfig(HeadConfig):
    """A torch module that was given as an object, or a function that makes one. Only its weights are saved."""

    name: Literal["module"] = "module"
    class_path: str
    """Class of the module, or the function."""
    features: FeatureKind = "pooled"
    """Features that the module reads."""

    @property
    def reads(self) -> FeatureKind:  # type: ignore[override]
        """See `HeadConfig`."""
        return self.features


DEFAULT_ENCODERS = ("minilm-l6", "smollm2-135m")
DEFAULT_HEAD = "fusion"
# Heads that a name is enough for; `fusion_classifier.fusion.registry.register_head` adds others.
HEAD_CONFIGS: dict[str, type[HeadConfig]] = {
    "fusion": FusionConfig,
    "linear": LinearConfig,
    "llmembed": LlmEmbedConfig,
}
OBJECT_HEAD_CONFIGS: dict[str, type[HeadConfig]] = {"scikit-learn": SklearnConfig, "module": ModuleConfig}


def _parse_head_config(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    fields = dict(value)
    name, module = fields.get("name"), fields.pop("defined_in", None)
    config_class = (HEAD_CONFIGS | OBJECT_HEAD_CONFIGS).get(str(name))
    if config_class is None:
        way_out = f"import {module}, which registers it" if module else f"there are {', '.join(HEAD_CONFIGS)}"
        raise ValueError(f"no head {name!r} is registered; {way_out}")
    return config_class.model_validate(fields)


def _dump_head_config(config: HeadConfig, info: SerializationInfo) -> dict[str, Any]:
    module = {} if config.defined_in is None else {"defined_in": config.defined_in}
    return config.model_dump(mode=info.mode) | module


AnyHeadConfig = Annotated[HeadConfig, BeforeValidator(_parse_head_config), PlainSerializer(_dump_head_config)]
"""A field of any registered head's configuration; in files a mapping with the head's `name`."""

DEFAULT_MODEL = "go-emotions"  # comes with the package


class TrainingConfig(FrozenModel):
    """How a head is trained: cross-entropy, early stopping by the weighted F1 of the validation split."""

    learning_rate: Annotated[float, Field(gt=0)]
    """Learning rate of Adam; the highest one of a schedule."""
    batch_size: Annotated[int, Field(ge=1)]
    """Number of texts per training step."""
    max_epochs: Annotated[int, Field(ge=1)]
    """Maximum number of passes over the training split."""
    min_steps: Annotated[int, Field(ge=0)] = 0
    """Minimum number of training steps: on a small training split `max_epochs` is raised to reach it. 0 where
    `max_epochs` is given."""
    patience: Annotated[int, Field(ge=1)]
    """Number of epochs without a better validation weighted F1 after which training stops."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay (AdamW); 0 is plain Adam."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradient norm above which gradients are scaled down; None is no limit."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Course of the learning rate: constant, or along a cosine to 0 at the end of `max_epochs`."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of all steps in which the learning rate rises from 0 (cosine schedule)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all labels."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of matrix products in training; weights and sums stay float32."""
    calibrate: bool = True
    """Whether probabilities are calibrated on the validation split: by a temperature and an exponent."""


class TrainingChanges(TypedDict, total=False):
    """Fields of `TrainingConfig` that differ from the head's recipe: what `training=` of the classifiers takes."""

    learning_rate: float
    batch_size: int
    max_epochs: int
    min_steps: int
    patience: int
    weight_decay: float
    clip_norm: float | None
    schedule: Literal["constant", "cosine"]
    warmup: float
    label_smoothing: float
    precision: Literal["float32", "bfloat16"]
    calibrate: bool


class TaskConfig(FrozenModel):
    """Which texts and labels."""

    name: str
    """A task's name (`fec tasks`) or the path of a file or folder of your own."""
    data: str | None = None
    """Folder with the task's files in the published layout; else they come from the Hub."""
    text_column: str = "text"
    """Column with the texts."""
    label_column: str = "label"
    """Column with the labels, as names or numbers."""
    multilabel: bool = False
    """The label column holds any number of labels a row: a list (JSONL, Parquet), or a string with a
    separator between them."""
    label_separator: Annotated[str, Field(min_length=1)] = ","
    """What stands between the labels of a row, with --multilabel."""
    label_columns: tuple[str, ...] = ()
    """Columns of 0 and 1, one a label, instead of the label column: a row may have any number of labels."""
    augment_column: str | None = None
    """Column with another wording of each text (a paraphrase): train's are trained on as further rows;
    those of other splits are never read."""
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the stratified split, where a single file (or a folder without a validation split) is split."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use only the first N rows of each split."""


class RunConfig(FrozenModel):
    """All that decides the result of `fec run`."""

    task: TaskConfig
    encoders: Annotated[tuple[EncoderConfig, ...], Field(min_length=1)]
    head: AnyHeadConfig
    training: TrainingConfig
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]


class TuneConfig(FrozenModel):
    """How `fec tune` trains an encoder: AdamW, the learning rate up in a warm-up and then linearly down to 0."""

    epochs: Annotated[int, Field(ge=1)] = 3
    """Passes over the training split; the best on validation is kept, by weighted F1."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Highest learning rate. Unless given: 5e-5, for models narrower than 768 1e-4, with LoRA 5e-4."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Texts a training step."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay of all weights but biases and norms."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of all steps in which the learning rate rises from 0."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the classifier's start, the order of batches and dropout."""
    lora_rank: Annotated[int, Field(ge=1)] | None = None
    """Rank of LoRA adapters to train instead of all weights; merged into the weights at the end."""


class ServerSettings(FrozenModel):
    """How `fec serve` is set up; names as in text-embeddings-inference where it has the same setting."""

    max_concurrent_requests: Annotated[int, Field(ge=1)] = 512
    """Requests in work or waiting; further ones are refused (429) rather than kept waiting ever longer."""
    max_client_batch_size: Annotated[int, Field(ge=1)] = 32
    """Texts in one request."""
    max_batch_tokens: Annotated[int, Field(ge=1)] = 2048
    """Tokens of the texts that go through the model together, whoever sent them."""
    max_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 2.0
    """How long a batch waits for as many texts as the last one had; one client alone never waits."""
    payload_limit: Annotated[int, Field(ge=1024)] = 2_000_000
    """Bytes of a request's body."""
    max_text_characters: Annotated[int, Field(ge=1)] = 100_000
    """Characters of a text; longer ones are refused even where texts may be cut: they must be read to be cut."""
    auto_truncate: bool = False
    """Cut texts that are too long unless a request says otherwise, instead of refusing them."""
    api_key: Annotated[str, Field(min_length=8)] | None = None
    """Key that requests must give as Authorization: Bearer KEY; /health and the page itself need none."""
    cors_allow_origin: tuple[str, ...] = ()
    """Origins whose web pages may call the server; may be repeated. None unless given."""
    page: bool = True
    """Whether there is a web page at /."""
