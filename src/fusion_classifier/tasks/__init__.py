"""Tasks: texts and labels, from named data sets and files."""
