"""Serving: a trained classifier over HTTP, with requests of all clients batched together."""
