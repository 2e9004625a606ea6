"""Effects of positions, padding and earlier batches on a loaded model, determined from the model, not its name.

If a list of names is used, as in `PADS`, models that are not listed are treated more cautiously.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Model types whose states do not depend on padding on the right, given an attention mask: compared with each text
# alone in tests/encoders/test_architectures.py. Others get batches of texts of equal length. Convolutions over tokens
# (MobileBERT, ConvBERT, Nyströmformer), Fourier transforms (FNet) and hashing (YOSO) take padding in.
PADS = frozenset(
    """
    albert bert bert-generation bloom camembert cohere cohere2 data2vec-text deberta deberta-v2 distilbert electra
    ernie esm eurobert falcon gemma gemma2 gemma3_text glm glm4 gpt2 gpt_bigcode gpt_neo gpt_neox gptj granite ibert
    jina_embeddings_v3 layoutlm llama longformer luke megatron-bert mistral modernbert modernbert-decoder mpnet mpt
    nomic_bert olmo olmo2 olmo3 openai-gpt opt phi qwen2 qwen3 rembert roberta roberta-prelayernorm roc_bert
    roformer smollm3 splinter stablelm starcoder2 xlm xlm-roberta xlm-roberta-xl xmod
    """.split()  # noqa: SIM905
)
PROBE_TOKENS = 5


def first_position(model: "PreTrainedModel") -> int:
    """The first token's position: 0, or for relatives of RoBERTa the one after the padding index."""
    table = _position_table(model)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def max_tokens(model: "PreTrainedModel") -> int | None:
    """Maximum number of tokens by the model's positions; None if there is no limit."""
    claimed = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(claimed, int) or claimed <= 0:  # XLNet: -1
        return None
    return claimed - first_position(model)


def _position_table(model: "PreTrainedModel") -> Any:
    """The module with an embedding per position, if the model has one with a row for each of its positions."""
    rows = getattr(model.config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if name.endswith("position_embeddings") and weight is not None and len(weight) == rows:
            return module
    return None


def changed_by_batches(model: "PreTrainedModel") -> bool:
    """Whether a batch changes the model's state: BigBird, and rotary embeddings that depend on the length."""
    rope = getattr(model.config, "rope_parameters", None) or {}
    kinds = {rope.get("rope_type"), *(one.get("rope_type") for one in rope.values() if isinstance(one, dict))}
    return hasattr(model, "set_attention_type") or bool(kinds & {"dynamic", "longrope"})


def restore(model: "PreTrainedModel") -> None:
    """Undo what an earlier batch changed: BigBird permanently switches to full attention at its first short batch."""
    if hasattr(model, "set_attention_type"):
        model.set_attention_type(model.config.attention_type)


@torch.inference_mode()
def widths(model: "PreTrainedModel", layers: Sequence[int]) -> list[int]:
    """Width of each hidden state, measured on a text of a few tokens.

    Raises:
        ValueError: The hidden states are not one per token and layer.
        Exception: Any exception of a model that can't be run.
    """
    ids = torch.arange(PROBE_TOKENS, device=model.device)[None] % model.config.vocab_size
    output = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=list(layers))
    states = [output.hidden_states[layer] for layer in layers]
    if any(state.ndim != 3 or len(state) != 1 or state.shape[1] < PROBE_TOKENS for state in states):
        raise ValueError("its hidden states are not one per token")
    return [state.shape[2] for state in states]
