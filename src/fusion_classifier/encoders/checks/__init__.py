"""Looks at files from strangers before their contents are believed."""
