"""Dropout with cheap random numbers.

On a CPU, torch draws one random number per value, on one core: a third of the training time of the head `fusion`. One
byte per value is enough, and a 64-bit number has eight bytes.

Source: Srivastava et al.: Dropout: A Simple Way to Prevent Neural Networks from Overfitting, JMLR 15, 2014.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 256  # values of a byte: rates are multiples of 1 / 256 on a CPU
SMALLEST_INT64 = torch.iinfo(torch.int64).min


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Set random values of x to zero in training and scale the others to keep the expected value.

    Random numbers come from torch's generator for the device.
    """
    if not training or not rate:
        return x
    if x.device.type != "cpu":
        return functional.dropout(x, rate)
    dropped = min(round(rate * LEVELS), LEVELS - 1)
    draws = torch.empty(math.ceil(x.numel() / 8), dtype=torch.int64).random_(SMALLEST_INT64, None)
    kept = (draws.view(torch.uint8)[: x.numel()] >= dropped).view(torch.uint8).view(x.shape)
    return x * kept * (LEVELS / (LEVELS - dropped))


class Dropout(nn.Module):
    """`dropout` as a layer."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """x with random values set to zero, in training."""
        return dropout(x, self.rate, self.training)
