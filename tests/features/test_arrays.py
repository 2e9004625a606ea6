"""Features in memory: batches and selections against slicing by hand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier.features import PooledFeatures, TokenFeatures, from_arrays


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.data())
@settings(deadline=None)
def test_token_batches_and_selections_hold_each_texts_states(lengths: list[int], data: st.DataObject) -> None:
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
        np.testing.assert_array_equal(batch.states[position][batch.mask[position]].numpy(), arrays[row])
        assert not batch.states[position][~batch.mask[position]].any()
        np.testing.assert_allclose(batch.mean()[position].numpy(), arrays[row].mean(0), atol=1e-6)


def test_pooled_batches_are_float32_in_the_order_asked_for() -> None:
    features = from_arrays([np.full(3, i, dtype=np.float16) for i in range(5)], ragged=False)
    assert isinstance(features, PooledFeatures)
    batch = features.batch(np.array([4, 0, 4]))
    assert batch.dtype.is_floating_point
    assert batch.dtype.itemsize == 4
    assert batch[:, 0].tolist() == [4, 0, 4]
