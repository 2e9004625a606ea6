"""Training: one loop, several seeds."""
