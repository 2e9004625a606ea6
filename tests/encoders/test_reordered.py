"""Reordered weights compute what the plain ones do."""

import pytest
import torch
from torch import nn

from fusion_classifier.encoders import reordered


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="the processor has no bfloat16 instructions"
)
@pytest.mark.parametrize("tokens", [1, 8, 13, 64, 300])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_results_are_those_of_the_plain_layer(tokens: int, bias: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(96, 160, bias=bias), nn.Linear(160, 64, bias=bias)).bfloat16()
    x = torch.randn(1, tokens, 96, dtype=torch.bfloat16)
    expected = model(x)
    reordered.reorder(model)
    assert all(isinstance(layer, reordered.ReorderedLinear) for layer in model)
    first, second = model(x), model(x)
    assert all(layer.plain is None for layer in model)  # from the second product on the blocks are used
    assert torch.equal(first, second)
    torch.testing.assert_close(second, expected, atol=0.01, rtol=0.01)


def test_layers_of_other_precision_or_of_a_large_model_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    exact, large = nn.Sequential(nn.Linear(8, 8)), nn.Sequential(nn.Linear(8, 8)).bfloat16()
    reordered.reorder(exact)
    monkeypatch.setattr(reordered, "MAX_BYTES", 100)
    reordered.reorder(large)
    assert type(exact[0]) is type(large[0]) is nn.Linear
