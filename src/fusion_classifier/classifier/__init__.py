"""Trained classifiers: texts in, labels out."""
