"""Evaluation: metrics, intervals, significance, predictions, figures, the report."""
