"""Small random models of many architectures, with a tokenizer of a few words."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

WORDS = """
    the a day was so good bad sad happy angry i am you are it and not very today friend work rain sun long short
    text
""".split()  # noqa: SIM905
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # numbers 0 to 4, as in RoBERTa
VOCABULARY = len(SPECIAL) + len(WORDS)
TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
PLAIN = TOKENS | {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 130,
}
GROUPED = PLAIN | {"num_key_value_heads": 2, "head_dim": 8}
GPT = TOKENS | {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 130}
XLM = {"vocab_size": VOCABULARY, "emb_dim": 32, "n_layers": 3, "n_heads": 4, "pad_index": 1, "pad_token_id": 1}
STATE_SPACE = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "state_size": 4}
LONG_ROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        """
            bert bert-generation camembert data2vec-text electra ernie esm eurobert fnet gpt_neox ibert
            jina_embeddings_v3 layoutlm megatron-bert mpnet nomic_bert nystromformer rembert roberta
            roberta-prelayernorm roc_bert roformer splinter xlm-roberta xlm-roberta-xl yoso
        """.split(),  # noqa: SIM905
        PLAIN,
    ),
    **dict.fromkeys(
        """
            cohere cohere2 gemma gemma2 glm glm4 granite llama mistral mixtral olmo olmo2 olmo3 phi phimoe
            qwen2_moe qwen3 qwen3_moe smollm3 stablelm starcoder2
        """.split(),  # noqa: SIM905
        GROUPED,
    ),
    **dict.fromkeys(["gpt2", "gpt_bigcode", "openai-gpt"], GPT),
    "albert": PLAIN | {"embedding_size": 16},
    "big_bird": PLAIN | {"block_size": 4, "num_random_blocks": 1, "attention_type": "block_sparse"},
    "bloom": {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 3, "n_head": 4},
    "convbert": PLAIN | {"embedding_size": 32, "num_groups": 1},
    "deberta": PLAIN | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": PLAIN | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 16},
    "distilbert": {"vocab_size": VOCABULARY, "dim": 32, "hidden_dim": 64, "n_layers": 3, "n_heads": 4},
    "falcon": PLAIN,
    "flaubert": XLM,
    "gemma3_text": GROUPED | {"sliding_window": 8},
    "gpt_neo": TOKENS
    | {"hidden_size": 32, "num_layers": 2, "attention_types": [[["global", "local"], 1]], "num_heads": 4},
    "gptj": GPT | {"rotary_dim": 4},
    "longformer": PLAIN | {"attention_window": 8},
    "luke": PLAIN | {"entity_vocab_size": 10, "entity_emb_size": 8},
    "mamba": STATE_SPACE,
    "mobilebert": PLAIN | {"embedding_size": 32, "true_hidden_size": 16, "intra_bottleneck_size": 16},
    "modernbert": PLAIN | {"local_attention": 8, "global_attn_every_n_layers": 2},
    "modernbert-decoder": PLAIN | {"local_attention": 8, "global_attn_every_n_layers": 2},
    "mpt": {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 3, "n_heads": 4},
    "opt": PLAIN | {"ffn_dim": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
    "phi3": GROUPED | {"original_max_position_embeddings": 64, "rope_parameters": LONG_ROPE},
    "xlm": XLM,
    "xlnet": TOKENS | {"d_model": 32, "n_layer": 3, "n_head": 4, "d_inner": 64},
    "xmod": PLAIN | {"languages": ["en_XX"], "default_language": "en_XX"},
}


def make(kind: str, folder: Path) -> Path:
    """Save a random model of this type, far from its initial values, so that texts differ clearly."""
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **ARCHITECTURES[kind]))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, 0.15)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """A word is a token, in `<s>` … `</s>`."""
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(SPECIAL + WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", mask_token="<mask>", **names
    ).save_pretrained(folder)
