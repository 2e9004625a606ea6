"""General helpers: atomic files, progress, logs, extras, Hub errors."""
