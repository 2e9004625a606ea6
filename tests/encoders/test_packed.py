"""Texts without padding give what each gives by itself, in every architecture that says so."""

from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModel,
    BertConfig,
    CamembertConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MPNetConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    XLMRobertaConfig,
)

from fusion_classifier.encoders import packed
from fusion_classifier.encoders.behaviour import first_position

SMALL = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 300,
    "pad_token_id": 1,
}
CONFIGS = (
    BertConfig(**SMALL),
    RobertaConfig(**SMALL),
    XLMRobertaConfig(**SMALL),
    CamembertConfig(**SMALL),
    MPNetConfig(**SMALL),
    LlamaConfig(**SMALL, num_key_value_heads=2),
    MistralConfig(**SMALL, num_key_value_heads=2),
    Qwen2Config(**SMALL, num_key_value_heads=2),
    Qwen3Config(**SMALL, num_key_value_heads=2, head_dim=16),
)
LAYERS = (0, 1, 3)


def random_model(config: PreTrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModel.from_config(deepcopy(config)).eval()  # `prepare` writes into it
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    return model


def random_texts(lengths: list[int]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(5, 90, (length,), generator=generator).tolist() for length in lengths]


@torch.inference_mode()
def one_by_one(model: PreTrainedModel, texts: list[list[int]]) -> list[torch.Tensor]:
    outputs = [model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states for ids in texts]
    return [torch.stack([states[layer][0] for layer in LAYERS], dim=1) for states in outputs]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
@pytest.mark.parametrize("lengths", [[170, 40, 40, 40, 9, 9, 1], [3, 3], [1], [5, 90, 5, 256, 1]], ids=str)
@torch.inference_mode()
def test_states_equal_those_of_each_text_alone(config: PreTrainedConfig, lengths: list[int]) -> None:
    model, texts = random_model(config), random_texts(lengths)
    expected = one_by_one(model, texts)
    assert packed.prepare(model, max_length=256)
    states, _ = packed.states(model, texts, LAYERS, first_position(model))
    for of_text, of_text_alone in zip(torch.split(states, lengths), expected, strict=True):
        torch.testing.assert_close(of_text, of_text_alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(vocab_size=90, n_embd=32, n_layer=2, n_head=4),  # not in the list
        BertConfig(**SMALL, is_decoder=True),  # causal, by its mask
        MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=255),  # sees less than a whole text
    ],
    ids=lambda config: config.model_type,
)
@torch.inference_mode()
def test_a_model_that_masks_otherwise_is_left_as_it_was(config: PreTrainedConfig) -> None:
    model, ids = random_model(config), torch.tensor(random_texts([12]))
    before = model(input_ids=ids).last_hidden_state
    assert not packed.prepare(model, max_length=256)
    torch.testing.assert_close(model(input_ids=ids).last_hidden_state, before, atol=0, rtol=0)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=20))
@settings(deadline=None)
def test_groups_cover_the_tokens_in_order(lengths: list[int]) -> None:
    groups = packed.grouped(lengths)
    assert [group.length for group in groups for _ in range(group.texts)] == lengths
    assert [token for group in groups for token in range(*group.tokens.indices(10**9))] == list(range(sum(lengths)))
    assert all(a.length != b.length for a, b in pairwise(groups))


@pytest.mark.parametrize("lengths", [[3], [8], [5, 5, 9], [2, 3, 4, 4]])
@torch.inference_mode()
def test_passes_are_filled_and_nobody_sees_the_filling(lengths: list[int]) -> None:
    model, seen = random_model(CONFIGS[0]), []
    assert packed.prepare(model, 300)
    model.register_forward_pre_hook(
        lambda _module, _args, given: seen.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    found, groups = packed.states(model, random_texts(lengths), LAYERS, first_position(model))
    assert seen[0] % packed.TOKENS_MULTIPLE == 0
    assert seen[0] - packed.TOKENS_MULTIPLE < sum(lengths) <= seen[0]
    assert found.shape[0] == sum(group.texts * group.length for group in groups) == sum(lengths)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
@pytest.mark.parametrize("layers", [(0,), (1, 2), (3,)], ids=str)
@torch.inference_mode()
def test_dropped_layers_change_no_state_that_is_read(config: PreTrainedConfig, layers: tuple[int, ...]) -> None:
    model, lengths = random_model(config), [9, 9, 4]
    assert packed.prepare(model, max_length=256)
    expected, _ = packed.states(model, random_texts(lengths), layers, first_position(model))
    before = sum(parameter.numel() for parameter in model.parameters())
    packed.drop_layers(model, max(layers))
    assert (sum(parameter.numel() for parameter in model.parameters()) < before) == (max(layers) < 3)
    torch.testing.assert_close(
        packed.states(model, random_texts(lengths), layers, first_position(model))[0], expected, atol=0, rtol=0
    )
