"""Configurations: immutable settings that determine a result.

Each field is a command-line option: its docstring is the help text, its default the option's (cli/fields.py).
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypedDict

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    model_validator,
)

# Their functions: fusion_classifier.encoders.pooling.
VECTOR_POOLINGS = ("mean", "max", "first", "last", "weighted_mean", "mean_sqrt")


def _check_pooling(value: str) -> str:
    names = value.split("+")
    if value not in ("tokens", "pooler") and not set(names) <= set(VECTOR_POOLINGS):
        raise ValueError(f"give tokens, pooler, or some of {', '.join(VECTOR_POOLINGS)} joined by +")
    if len(set(names)) < len(names):
        raise ValueError("a pooling is given twice")
    return value


def _check_distinct(value: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(value)) < len(value):
        raise ValueError("one of them is given twice")
    return value


def _check_template(value: str) -> str:
    if not all("{text}" in part for part in value.split("||")):
        raise ValueError("must contain {text}, where the text is inserted")
    return value


def _check_columns(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if isinstance(value, tuple) and len(set(value)) < max(len(value), 1):
        raise ValueError("name one or more columns, without duplicates")
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


MAX_SEED = 2**32 - 1  # NumPy's
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
TextColumns = Annotated[tuple[str, ...] | str, AfterValidator(_check_columns)]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]
Quantization = Literal["none", "int8"]
Device = Literal["auto", "cpu", "cuda", "mps"]
ProjectionKind = Literal["pca", "random", "none"]
FeatureKind = Literal["tokens", "pooled"]
Precision = Literal["float32", "int8", "int8-dynamic"]  # of an optimized model
TrainingPrecision = Literal["auto", "float32", "bfloat16"]
TruncationSide = Literal["left", "right"]  # the end at which a long text is truncated
Metric = Literal["weighted_f1", "macro_f1", "accuracy"]
ClassWeights = Literal["none", "balanced"]


class FrozenModel(BaseModel):
    """A pydantic model that is immutable and rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class EncoderConfig(FrozenModel):
    """One frozen encoder: a model and the features taken from it. Two are the same if their model files and the
    fields from `layers` to `dense` are (encoders/identity.py)."""

    name: str
    """Name in tables and files; unique within a run."""
    model: str
    """Preset name, Hub id, local folder or GGUF file."""
    revision: str | None = None
    """Branch, tag or commit on the Hub. Default: the repository's default branch."""
    path: str | None = None
    """Local folder or GGUF file with the weights. Default: found by `model`."""
    layers: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    """Hidden states to keep, such as 2,4,6 or -5:-1; 0 is the embedding output, -1 the last layer (after the final
    norm, if any). Default: the preset's, or the last; for token states one third, two thirds and the last."""
    pooling: Annotated[str, AfterValidator(_check_pooling)] = "mean"
    """mean, max, first ([CLS]), last, weighted_mean (by position) or mean_sqrt (sum over the square root of their
    number): one vector per layer, or several, joined by + (mean+last); pooler: the model's own; tokens: the states of
    all tokens. Default for encoders given by name: what the head reads."""
    template: Annotated[str, AfterValidator(_check_template)] = "{text}"
    """Prompt template; must contain {text}. \\n: line break. Features of several, separated by ||, are averaged."""
    max_length: Annotated[int, Field(ge=4)] = 256
    """Maximum number of tokens, including special tokens and template; see `long`."""
    long: Literal["cut", "window"] = "cut"
    """Texts over `max_length`. cut: the end is dropped; window: they are read in parts of up to `max_length` tokens,
    whose token states are concatenated, and whose vectors are averaged, weighted by numbers of tokens."""
    dtype: Dtype = "auto"
    """Precision of the encoder. auto: bfloat16 where the processor supports it, else float32."""
    quantization: Quantization = "none"
    """int8: 8-bit weights in linear layers, which take half the memory; needs the extra int8."""
    projection: str | None = None
    """File written by fec project, which reduces states to fewer dimensions or to 8 bits."""
    pool_special_tokens: bool | None = None
    """Whether `mean` and `tokens` include the tokenizer's special tokens. Default: only with a [CLS] token."""
    dense: bool = False
    """Whether to apply a sentence-transformers model's dense layers. An encoder given by its name applies them unless
    `pooling` is set."""

    @property
    def poolings(self) -> tuple[str, ...]:
        """The poolings in `pooling`."""
        return tuple(self.pooling.split("+"))

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates in `template`."""
        return tuple(self.template.split("||"))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.templates) > 1 and self.pooling == "tokens":
            raise ValueError("tokens of several templates can't be averaged; give one template, or another pooling")
        return self


class HeadConfig(FrozenModel):
    """Base class of head configurations. A subclass gives `name` a default and may set `reads`."""

    reads: ClassVar[FeatureKind] = "pooled"
    """Features that the head needs: `tokens` (the states of all tokens) or `pooled` (one vector per layer)."""
    file: ClassVar[str] = "model.safetensors"
    """Name of the file in a model folder that contains the trained head."""
    defined_in: ClassVar[str | None] = None
    """Module to import before the head can be used; None for the heads of this package."""
    cross_validated_rows: ClassVar[float] = 0
    """Maximum number of training rows for which the head makes its choices out of fold, without held-out rows."""
    solved: ClassVar[bool] = False
    """Whether the head is fitted in one step: of the training settings only `SOLVED_FIELDS` have an effect."""
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
    """Share of the encoders' states dropped in each training step, the same for all tokens."""
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of tokens without attention in each training step."""

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
    """Head `linear`: logistic regression on pooled features."""

    cross_validated_rows: ClassVar[float] = math.inf
    solved: ClassVar[bool] = True
    name: Literal["linear"] = "linear"
    c: Annotated[float, Field(gt=0)] | None = None
    """Inverse strength of the L2 penalty. Default: the one with the highest cross-validated log-likelihood."""
    linear_layers: Literal["all", "last"] = "all"
    """Layers to read from each encoder."""
    scaling: Literal["unit", "standardize"] = "unit"
    """unit: each layer's vector has L2 norm 1; standardize: each feature has mean 0 and standard deviation 1."""


class UpperLayersConfig(FrozenModel):
    """A copy of an encoder's upper layers, which the head `ensemble` trains on the states below them."""

    encoder: str
    layers: Annotated[int, Field(ge=1, le=100)]
    heads: Annotated[int, Field(ge=1)]
    inner_width: Annotated[int, Field(ge=1)]  # of the feed-forward part of a layer
    norm_epsilon: Annotated[float, Field(ge=0)]  # added to the variance in layer normalization


class EnsembleConfig(HeadConfig):
    """Head `ensemble`: linear and attention members, weighted by out-of-fold predictions."""

    reads: ClassVar[FeatureKind] = "tokens"
    cross_validated_rows: ClassVar[float] = 5000
    name: Literal["ensemble"] = "ensemble"
    attention: FusionConfig = FusionConfig()
    """Configuration of the members with attention over tokens."""
    repeats: Annotated[int, Field(ge=1)] | None = None
    """Number of attention members (seeds) per encoder. Default: 3 up to 5,000 training texts, 1 beyond."""
    upper_layers: bool = True
    """Whether a copy of an encoder's upper layers is trained, with up to 5,000 short texts (docs/ensemble.md)."""
    upper: UpperLayersConfig | None = None  # that copy; described when the head is trained


class SklearnConfig(HeadConfig):
    """A scikit-learn classifier given as an object. Saved with skops."""

    file: ClassVar[str] = "head.skops"
    solved: ClassVar[bool] = True
    name: Literal["scikit-learn"] = "scikit-learn"
    class_path: str
    """Class of the classifier."""


class ModuleConfig(HeadConfig):
    """A torch module given as an object, or a function that returns one. Only its weights are saved."""

    name: Literal["module"] = "module"
    class_path: str
    """Class of the module, or the function."""
    features: FeatureKind = "pooled"
    """Features that the module reads."""

    @property
    def reads(self) -> FeatureKind:  # type: ignore[override]
        """See `HeadConfig`."""
        return self.features


DEFAULT_HEAD = "ensemble"
# Heads available by name; `fusion_classifier.fusion.registry.register_head` adds others.
HEAD_CONFIGS: dict[str, type[HeadConfig]] = {
    "ensemble": EnsembleConfig,
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
        way_out = f"import {module}, which registers it" if module else f"choose from {', '.join(HEAD_CONFIGS)}"
        raise ValueError(f"no head {name!r} is registered; {way_out}")
    return config_class.model_validate(fields)


def _dump_head_config(config: HeadConfig, info: SerializationInfo) -> dict[str, Any]:
    module = {} if config.defined_in is None else {"defined_in": config.defined_in}
    return config.model_dump(mode=info.mode) | module


AnyHeadConfig = Annotated[HeadConfig, BeforeValidator(_parse_head_config), PlainSerializer(_dump_head_config)]
"""A field of any registered head's configuration; in files a mapping with the head's `name`."""

SOLVED_FIELDS = ("metric", "calibrate", "known_texts")  # of TrainingConfig; see `HeadConfig.solved`


class TrainingConfig(FrozenModel):
    """How a head is trained: cross-entropy, with early stopping on a validation score."""

    learning_rate: Annotated[float, Field(gt=0)]
    """Learning rate of Adam; the peak of a schedule."""
    batch_size: Annotated[int, Field(ge=1)]
    """Number of texts per training step."""
    max_epochs: Annotated[int, Field(ge=1)]
    """Maximum number of passes over the training split."""
    min_steps: Annotated[int, Field(ge=0)] = 0
    """Minimum number of training steps, whatever the recipe's epochs and patience. 0 if `max_epochs` is given."""
    patience: Annotated[int, Field(ge=1)]
    """Number of epochs without progress on validation after which training stops, but not before `min_steps`."""
    stopping: Literal["score", "loss_or_score"] = "score"
    """What counts as progress on validation. score: a better score; the best epoch is kept. loss_or_score: a lower
    loss or a better score; the last epoch with either is kept, as in LLM-FusionClassifier."""
    metric: Metric = "weighted_f1"
    """Validation score that decides early stopping and the saved seed. macro_f1, which counts rare labels as much as
    frequent ones, also fits offsets of log-probabilities, so that rare labels are predicted more often."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay (AdamW). 0: plain Adam."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Maximum gradient norm; larger gradients are scaled down. None: no limit."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate schedule: constant, or cosine decay to 0 over `max_epochs`."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Warm-up: share of all steps in which the learning rate rises from 0 (cosine schedule)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Label smoothing: share of the target spread over all labels."""
    precision: TrainingPrecision = "float32"
    """Precision of products in training. auto: bfloat16 if the processor supports it, otherwise float32."""
    calibrate: bool = True
    """Whether to calibrate probabilities on the validation split, by a temperature and an exponent."""
    known_texts: bool = True
    """Whether the model keeps vectors of training texts (up to 2 MB) to detect unknown texts."""


class TrainingChanges(TypedDict, total=False):
    """Fields of `TrainingConfig` that differ from the head's recipe, for the classifiers' `training=`."""

    learning_rate: float
    batch_size: int
    max_epochs: int
    min_steps: int
    patience: int
    stopping: Literal["score", "loss_or_score"]
    metric: Metric
    weight_decay: float
    clip_norm: float | None
    schedule: Literal["constant", "cosine"]
    warmup: float
    label_smoothing: float
    precision: TrainingPrecision
    calibrate: bool
    known_texts: bool


class TaskConfig(FrozenModel):
    """Texts and labels."""

    name: str
    """Name of a task (`fec tasks`), or path of a file or folder."""
    data: str | None = None
    """Folder with the files of a named task, as published. Default: from the Hub."""
    encoding: str | None = None
    """Encoding of text files, such as cp1252. Default: UTF-8, or UTF-16 with a byte order mark."""
    subset: str | None = None
    """Configuration (subset) of a data set on the Hub, such as simplified."""
    text_column: TextColumns = "text"
    """Column with the texts; a field within a column is written message.body. May be repeated: the texts of a row are
    joined with line breaks."""
    label_column: str = "label"
    """Column with the labels: names or numbers."""
    multilabel: bool = False
    """Whether a row may have any number of labels: a list (JSONL, Parquet), or a string with `label_separator`."""
    label_separator: Annotated[str, Field(min_length=1)] = ","
    """Separator of a row's labels, with `multilabel`."""
    label_columns: tuple[str, ...] = ()
    """Columns of 0 and 1, one per label, instead of `label_column`; a row may have any number of labels."""
    skip_empty: bool = False
    """Whether to skip rows without a text or label instead of raising an error."""
    unknown_labels: Literal["error", "skip"] = "error"
    """Rows with a label that the training data lack: raise an error, or skip them."""
    augment_column: str | None = None
    """Column with a paraphrase of each text, used as additional training rows; not read in other splits."""
    split_seed: Seed = 0
    """Seed of the stratified split of a single file, or of a folder without a validation split."""
    cross_validate: bool | None = False
    """Whether to train on all rows, with no validation split (single file: nor a test split), and evaluate out of
    fold. For up to 5,000 rows of your own, with ensemble or linear. fec does so by default for up to 1,000 rows."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Maximum number of rows per split; the first ones are used."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.label_columns and (len(set(self.label_columns)) < 2 or not all(self.label_columns)):
            raise ValueError("`label_columns`: name two or more columns")
        if self.cross_validate and self.augment_column:
            raise ValueError("`augment_column`: a paraphrase could be in a different fold from its text")
        if self.label_columns and self.multilabel:
            raise ValueError("`multilabel` reads one column of several labels, `label_columns` one per label")
        return self


class RunConfig(FrozenModel):
    """All settings that determine the result of `fec run`; the section `run` of its `config.yaml`."""

    task: TaskConfig
    """Texts and labels."""
    encoders: Annotated[tuple[EncoderConfig, ...], Field(min_length=1)]
    """Encoders, in the order in which the head reads them."""
    head: AnyHeadConfig
    """Head."""
    training: TrainingConfig
    """Hyper-parameters of the head's training."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_check_distinct)]
    """Seeds, all different; one head is trained per seed."""
    class_weight: ClassWeights = "none"
    """balanced: texts are weighted inversely to their label's frequency in loss, validation score and calibration."""
