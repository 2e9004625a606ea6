"""Batches: every text once, within the budget."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fusion_classifier.encoders.batches import batches
from fusion_classifier.encoders.tokenization import TokenizedText


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(8, 200), st.booleans())
def test_batches_hold_every_text_once_within_the_budget(lengths: list[int], budget: int, packed: bool) -> None:
    tokenized = [TokenizedText((i,) * n, (True,) * n, truncated=False) for i, n in enumerate(lengths)]
    planned = batches(tokenized, budget, packed=packed)
    assert sorted(i for batch in planned for i in batch) == list(range(len(lengths)))
    for batch in planned:
        of_batch = [lengths[i] for i in batch]
        assert len(batch) == 1 or (sum(of_batch) if packed else len(batch) * max(of_batch)) <= budget
    if packed:  # nothing would fit into an earlier batch that stands at the beginning of the next
        assert all(sum(lengths[i] for i in a) + lengths[b[0]] > budget for a, b in pairwise(planned))
