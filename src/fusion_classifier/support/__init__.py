"""Helpers that know nothing of texts: atomic files, progress, logs, extras, the Hub's errors."""
