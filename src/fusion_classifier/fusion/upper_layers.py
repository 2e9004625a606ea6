"""A trainable copy of an encoder's upper layers over its frozen token states: a member of the head `ensemble`.

    states       of the lowest stored layer, those of all tokens of a text
    layers       the encoder's own, with its weights at first (encoders/upper_layers.py)
    vector       mean over the tokens, scaled to unit length
    logits       logistic regression on the vectors

With few rows, attention has to learn from them what a text is about; these layers only have to be adapted
(training/upper_layers.py). The layers below stay frozen, so no feature is extracted again.

Source of the layer: Vaswani et al.: Attention Is All You Need, NeurIPS 2017, section 3.1, as in BERT.
"""

from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, scaled_dot_product_attention

from fusion_classifier.config import UpperLayersConfig
from fusion_classifier.features.arrays import TokenStates
from fusion_classifier.fusion.head import Batch


class UpperLayers(nn.Module):
    """See the module's docstring. `encoder` is the name of the encoder whose states it reads.

    Args:
        config: Description of the layers.
        width: Width H of the states.
        n_classes: Number of labels C.
    """

    def __init__(self, config: UpperLayersConfig, width: int, n_classes: int) -> None:
        super().__init__()
        self.encoder = config.encoder
        self.layers = nn.ModuleList(Layer(config, width) for _ in range(config.layers))
        self.linear = nn.Linear(width, n_classes)

    def vectors(self, batch: Batch) -> Tensor:
        """One vector of unit length per text: (B, H)."""
        tokens = batch[self.encoder]
        assert isinstance(tokens, TokenStates)
        states = tokens.states[:, 0].float()  # (T, H)
        for layer in self.layers:
            states = layer(states, tokens)
        return normalize(tokens.padded(states).sum(1).float(), dim=1)  # the length of the sum does not matter

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C)."""
        logits: Tensor = self.linear(self.vectors(batch))
        return logits


class Layer(nn.Module):
    """Self-attention and a feed-forward part, each added to its input and then normalized. No dropout."""

    def __init__(self, config: UpperLayersConfig, width: int) -> None:
        super().__init__()
        if width % config.heads:
            raise ValueError(f"{config.heads} attention heads for states of width {width}")
        self.heads = config.heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attended = nn.Linear(width, width)
        self.attended_norm = nn.LayerNorm(width, eps=config.norm_epsilon)
        self.expanded = nn.Linear(width, config.inner_width)
        self.contracted = nn.Linear(config.inner_width, width)
        self.contracted_norm = nn.LayerNorm(width, eps=config.norm_epsilon)

    def forward(self, states: Tensor, tokens: TokenStates) -> Tensor:
        """States (T, H) of (T, H); texts are padded for attention only."""
        query, key, value = (
            self._by_head(tokens.padded(part(states)))  # (B, heads, L, H / heads)
            for part in (self.query, self.key, self.value)
        )
        mask = tokens.mask[:, None, None, :]
        attended = scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
        states = self.attended_norm(states + self.attended(tokens.unpadded(attended)))
        inner = self.contracted(gelu(self.expanded(states)))
        normalized: Tensor = self.contracted_norm(states + inner)
        return normalized

    def _by_head(self, values: Tensor) -> Tensor:
        batch, length, width = values.shape
        return values.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
