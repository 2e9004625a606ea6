"""Checks untrusted files before their contents are used."""
