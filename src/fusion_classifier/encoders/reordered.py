"""Linear layers with weights in the memory layout of oneDNN's matrix products.

torch stores a weight row by row, and oneDNN copies it into blocks for every product, which is costly for products
with few tokens. Here the copy is made once, at the second product: a command that classifies one text does not need
it. The results are bit-identical.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

MAX_BYTES = 2**30  # larger models keep their weights mapped from the file instead of copied
BATCH = 64  # tokens for which the blocks are chosen; other numbers read the same


class ReorderedLinear(nn.Module):
    """A linear layer in bfloat16 on a CPU, for inference only."""

    def __init__(self, original: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = original.in_features, original.out_features
        self.bias = original.bias
        self.plain: Tensor | None = original.weight.data
        self.blocks: Tensor | None = None
        self.used = False

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        plain = self.plain  # another thread may set it to None
        if plain is not None:
            if not self.used:
                self.used = True
                return linear(x, plain, self.bias)
            self.blocks = torch.ops.mkldnn._reorder_linear_weight(plain, BATCH)
            self.plain = None
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.blocks, self.bias, "none", [], "")
        return result


def reorder(model: nn.Module) -> None:
    """Replace a loaded model's linear layers; no change if the model is too large or not in bfloat16."""
    layers = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and type(child.weight) is nn.Parameter and child.weight.dtype == torch.bfloat16
    ]
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch has no type for it
    if not available or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return
    if sum(child.weight.nbytes for _, _, child in layers) > MAX_BYTES:
        return
    for parent, name, child in layers:
        setattr(parent, name, ReorderedLinear(child))
