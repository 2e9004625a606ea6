"""Named data sets, one module with one `Task` each; the registry finds them automatically."""
