"""Features: the encoders' output for texts, kept in the store."""
