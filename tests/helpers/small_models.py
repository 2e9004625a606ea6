"""Makes folders of small models with random weights; a character is a token."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'-_/:()"


def llama(folder: Path) -> Path:
    """Llama as Llama-2 is: a start token added, no token to pad with."""
    tokenizer = _tokenizer(["<unk>", "<s>", "</s>"], "<s> $A", unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=6,
        num_attention_heads=4,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
    )
    return _saved(LlamaModel(config), tokenizer, folder)


def bert(folder: Path) -> Path:
    """BERT with [CLS] … [SEP]."""
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = _tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "[CLS] $A [SEP]", **names)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=512,
    )
    return _saved(BertModel(config), tokenizer, folder)


def roberta(folder: Path) -> Path:
    """RoBERTa, which counts positions from its padding index on."""
    names = {
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "cls_token": "<s>",
        "sep_token": "</s>",
    }
    tokenizer = _tokenizer(["<s>", "<pad>", "</s>", "<unk>"], "<s> $A </s>", **names)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
    )
    return _saved(RobertaModel(config), tokenizer, folder)


def _tokenizer(special: list[str], template: str, **names: str) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters that adds special tokens as the template says."""
    vocabulary = {token: i for i, token in enumerate([*special, " ", *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=names["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    pairs = [(token, vocabulary[token]) for token in special]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=pairs)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def _saved(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    generator = torch.Generator().manual_seed(len(folder.name))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name.lower():  # far apart, so that texts differ clearly
                parameter.normal_(0, 0.2, generator=generator)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
