"""Pooling against loops in NumPy."""

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fusion_classifier.config import VECTOR_POOLINGS
from fusion_classifier.encoders import pooling

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=5)


def padded(lengths: list[int], padding: float = 7.0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """States (B, L, layers, H), which are `padding` where padded, and the mask (B, L)."""
    generator = torch.Generator().manual_seed(sum(lengths))
    mask = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    states = torch.randn(*mask.shape, 2, 3, generator=generator).to(dtype)
    states[~mask] = padding
    return states, mask


def by_name(name: str, states: Tensor, mask: Tensor) -> Tensor:
    return pooling.pooled(states, mask, mask.sum(1), [name])


def test_configurations_allow_exactly_the_poolings_there_are() -> None:
    assert set(pooling.VECTORS) == set(VECTOR_POOLINGS)


@given(LENGTHS)
@settings(deadline=None)
def test_each_pooling_is_that_of_the_text_without_padding(lengths: list[int]) -> None:
    states, mask = padded(lengths)
    vectors = {name: by_name(name, states, mask) for name in VECTOR_POOLINGS}
    for row, (length, tokens) in enumerate(zip(lengths, pooling.tokens(states, mask), strict=True)):
        own = states[row, :length].numpy()
        np.testing.assert_allclose(vectors["mean"][row].numpy(), own.mean(0), atol=1e-6)
        np.testing.assert_array_equal(vectors["max"][row].numpy(), own.max(0))
        np.testing.assert_array_equal(vectors["first"][row].numpy(), own[0])
        np.testing.assert_array_equal(vectors["last"][row].numpy(), own[-1])
        np.testing.assert_array_equal(tokens, own)
    several = pooling.pooled(states, mask, mask.sum(1), VECTOR_POOLINGS)
    np.testing.assert_array_equal(several.numpy(), torch.cat(list(vectors.values()), dim=1).numpy())


@given(LENGTHS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_mask_with_holes_leaves_those_tokens_out(lengths: list[int], random: Random) -> None:
    states, mask = padded(lengths)
    for row, length in enumerate(lengths):
        if length > 1:
            mask[row, random.randrange(length)] = False
    means = by_name("mean", states, mask)
    for row, own in enumerate(pooling.tokens(states, mask)):
        np.testing.assert_array_equal(own, states[row].numpy()[mask[row].numpy()])
        np.testing.assert_allclose(means[row].numpy(), own.mean(0), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_every_result_is_float32(dtype: torch.dtype) -> None:
    states, mask = padded([2, 4], dtype=dtype)
    assert {by_name(name, states, mask).dtype for name in VECTOR_POOLINGS} == {torch.float32}
    assert {own.dtype for own in pooling.tokens(states, mask)} == {np.dtype(np.float32)}


def test_sums_run_in_float32() -> None:
    """In bfloat16 a sum of 1,000 ones stops at 256; in float16 one of 60,000s overflows."""
    mask = torch.ones(1, 1000, dtype=torch.bool)
    assert by_name("mean", torch.ones(1, 1000, 1, 1, dtype=torch.bfloat16), mask).item() == 1
    assert by_name("mean", torch.full((1, 1000, 1, 1), 60_000, dtype=torch.float16), mask).item() == 60_000


@pytest.mark.parametrize("padding", [torch.inf, torch.nan])
@pytest.mark.parametrize("name", VECTOR_POOLINGS)
def test_padding_never_takes_part_whatever_it_holds(name: str, padding: float) -> None:
    """In float16 the states of padding can overflow where those of the text do not."""
    states, mask = padded([2, 4], padding=padding)
    alone = by_name(name, states[:1, :2], mask[:1, :2])
    np.testing.assert_allclose(by_name(name, states, mask)[:1].numpy(), alone.numpy(), atol=1e-6)
