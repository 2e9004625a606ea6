"""Features in memory: batches and selections against slicing by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier.features.arrays import PooledFeatures, TokenFeatures, from_arrays


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.data())
@settings(deadline=None)
def test_token_batches_have_each_texts_states(lengths: list[int], data: st.DataObject) -> None:
    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal((length, 2, 3)).astype(np.float32) for length in lengths]
    features = from_arrays(arrays, ragged=True)
    assert isinstance(features, TokenFeatures)
    rows = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=15)), dtype=np.int64)
    taken, batch = features.take(rows), features.batch(rows)
    assert taken.offsets[-1] == len(taken.values)
    for position, row in enumerate(rows):
        np.testing.assert_array_equal(
            taken.values[taken.offsets[position] : taken.offsets[position + 1]], arrays[row]
        )
        padded = batch.padded(batch.states)[position]
        np.testing.assert_array_equal(padded[batch.mask[position]].numpy(), arrays[row])
        assert not padded[~batch.mask[position]].any()
        np.testing.assert_allclose(batch.mean()[position].numpy(), arrays[row].mean(0), atol=1e-6)


def test_pooled_batches_are_as_stored_in_the_order_asked_for() -> None:
    features = from_arrays([np.full(3, i, dtype=np.float16) for i in range(5)], ragged=False)
    assert isinstance(features, PooledFeatures)
    batch = features.batch(np.array([4, 0, 4]))
    assert batch.dtype == torch.float16
    assert batch[:, 0].tolist() == [4, 0, 4]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.data())
@settings(deadline=None)
def test_a_selection_of_a_selection_is_a_selection(lengths: list[int], data: st.DataObject) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = np.arange(offsets[-1] * 2, dtype=np.float16).reshape(-1, 1, 2)
    features = TokenFeatures(values, offsets)
    first = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=9)))
    second = np.array(data.draw(st.lists(st.integers(0, len(first) - 1), max_size=9)), dtype=np.int64)
    twice, once = features.take(first).take(second), features.take(first[second])
    np.testing.assert_array_equal(twice.values, once.values)
    np.testing.assert_array_equal(twice.offsets, once.offsets)
    np.testing.assert_array_equal(twice.lengths, np.array(lengths)[first[second]])
    assert twice.values.dtype == np.float16
    assert len(twice) == len(second)


def test_nothing_selected_is_an_empty_batch() -> None:
    tokens = from_arrays([np.ones((2, 3, 4), dtype=np.float32)], ragged=True)
    pooled = from_arrays([np.ones((3, 4), dtype=np.float32)], ragged=False)
    none = np.array([], dtype=np.int64)
    assert isinstance(tokens, TokenFeatures)
    assert tokens.batch(none).states.shape == (0, 3, 4)
    assert tokens.batch(none).padded(tokens.batch(none).states).shape == (0, 0, 3, 4)
    assert tokens.batch(none).mean().shape == (0, 3, 4)
    assert len(tokens.take(none)) == len(pooled.take(none)) == 0
    assert pooled.take(none).shape == pooled.shape
    assert (tokens.shape.layers, tokens.shape.width, tokens.shape.ragged) == (3, 4, True)
    assert (pooled.shape.layers, pooled.shape.width, pooled.shape.ragged) == (3, 4, False)


@given(st.lists(st.integers(0, 4), max_size=9))
def test_pooled_selections_are_numpys(rows: list[int]) -> None:
    values = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float16)
    features, chosen = PooledFeatures(values), np.array(rows, dtype=np.int64)
    np.testing.assert_array_equal(features.take(chosen).values, values[chosen])
    np.testing.assert_array_equal(features.batch(chosen).numpy(), values[chosen].astype(np.float32))


@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.parametrize("rows", [[1, 2, 3], [3, 2, 1], [0, 2], [2], [0, 1, 2, 3]])
def test_neighbours_and_others_make_the_same_batches(rows: list[int], writeable: bool) -> None:
    generator = np.random.default_rng(0)
    values = generator.standard_normal((9, 2, 3)).astype(np.float32)
    values.flags.writeable = writeable  # memory maps and Arrow's memory are not
    chosen, offsets = np.array(rows), np.array([0, 2, 2, 5, 9])
    np.testing.assert_array_equal(PooledFeatures(values).batch(chosen).numpy(), values[chosen])
    batch = TokenFeatures(values, offsets).batch(chosen)
    expected = np.concatenate([values[offsets[row] : offsets[row + 1]] for row in rows])
    np.testing.assert_array_equal(batch.states.numpy(), expected)
    assert batch.lengths.tolist() == np.diff(offsets)[chosen].tolist()
