"""Pooling against loops in NumPy."""

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fusion_classifier.encoders import pooling

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=5)


def padded(lengths: list[int], padding: float = 7.0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """States (B, L, layers, H), which are `padding` where padded, and the mask (B, L)."""
    generator = torch.Generator().manual_seed(sum(lengths))
    mask = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    states = torch.randn(*mask.shape, 2, 3, generator=generator).to(dtype)
    states[~mask] = padding
    return states, mask


@given(LENGTHS)
@settings(deadline=None)
def test_each_pooling_is_that_of_the_text_without_its_padding(lengths: list[int]) -> None:
    states, mask = padded(lengths)
    mean, first = pooling.mean(states, mask), pooling.first(states)
    last, tokens = pooling.last(states, torch.tensor(lengths)), pooling.tokens(states, mask)
    for row, length in enumerate(lengths):
        own = states[row, :length].numpy()
        np.testing.assert_allclose(mean[row].numpy(), own.mean(0), atol=1e-6)
        np.testing.assert_array_equal(first[row].numpy(), own[0])
        np.testing.assert_array_equal(last[row].numpy(), own[-1])
        np.testing.assert_array_equal(tokens[row].numpy(), own)


@given(LENGTHS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_mask_with_holes_leaves_those_tokens_out(lengths: list[int], random: Random) -> None:
    states, mask = padded(lengths)
    for row, length in enumerate(lengths):
        if length > 1:
            mask[row, random.randrange(length)] = False
    for row, (mean, own) in enumerate(zip(pooling.mean(states, mask), pooling.tokens(states, mask), strict=True)):
        np.testing.assert_array_equal(own.numpy(), states[row].numpy()[mask[row].numpy()])
        np.testing.assert_allclose(mean.numpy(), own.numpy().mean(0), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_every_result_is_float32(dtype: torch.dtype) -> None:
    states, mask = padded([2, 4], dtype=dtype)
    results = [pooling.mean(states, mask), pooling.first(states), pooling.last(states, torch.tensor([2, 4]))]
    assert {result.dtype for result in [*results, *pooling.tokens(states, mask)]} == {torch.float32}


def test_sums_run_in_float32() -> None:
    """In bfloat16 a sum of 1,000 ones stops at 256; in float16 one of 60,000s overflows."""
    mask = torch.ones(1, 1000, dtype=torch.bool)
    assert pooling.mean(torch.ones(1, 1000, 1, 1, dtype=torch.bfloat16), mask).item() == 1
    assert pooling.mean(torch.full((1, 1000, 1, 1), 60_000, dtype=torch.float16), mask).item() == 60_000


@pytest.mark.parametrize("padding", [torch.inf, torch.nan])
def test_padding_never_takes_part_whatever_it_holds(padding: float) -> None:
    """In float16 the states of padding can overflow where those of the text do not."""
    states, mask = padded([2, 4], padding=padding)
    np.testing.assert_allclose(pooling.mean(states, mask)[0].numpy(), states[0, :2].numpy().mean(0), atol=1e-6)
