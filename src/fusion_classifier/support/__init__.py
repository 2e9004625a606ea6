"""Files, progress, logs and other helpers that know nothing of texts."""
