"""The engine for multiple machines: Ray."""
