"""Fusion: heads that turn the features of several encoders into logits."""
