"""Encoders: frozen models that turn a text into a feature."""
